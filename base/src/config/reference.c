/*
 * The reference of all keys, from the table that the loader uses, as plain text and as Markdown.
 */
#include <string.h>

#include "internal.h"

static const char *placeholder(const struct cfg_section *section)
{
    return section->is_named ? "<NAME>" : NULL;
}

void cfg_out_default(struct obx_buf *out, const struct cfg_key *key)
{
    if (key->def == NULL)
        buf_addf(out, "required");
    else if (key->def[0] == '\0')
        buf_addf(out, "default empty");
    else
        buf_addf(out, "default %s", key->def);
}

void cfg_out_wrapped(struct obx_buf *out, const char *before, const char *text)
{
    const int width = 78;
    int column = 0; /* 0: no word yet */

    while (*text != '\0') {
        const int len = (int)strcspn(text, " ");
        const bool fits = column > 0 && column + 1 + len <= width;

        if (fits)
            buf_addf(out, " %.*s", len, text);
        else
            buf_addf(out, "%s%s%.*s", column > 0 ? "\n" : "", before, len, text);
        column = len + (fits ? column + 1 : (int)strlen(before));
        text += len;
        text += strspn(text, " ");
    }
    buf_addf(out, "\n");
}

static void out_key_text(struct obx_buf *out, const struct cfg_section *section,
                         const struct cfg_key *key)
{
    buf_addf(out, "\n  %s = ", key->name);
    cfg_out_allowed(out, key);
    buf_addf(out, "\n      ");
    cfg_out_default(out, key);
    buf_addf(out, "; %s; ",
             (key->restarts & CFG_PROCESS) == 0 ? "reloadable" : "fixed until a restart");
    cfg_out_variable(out, section, placeholder(section), key);
    buf_addf(out, "\n");
    if (key->type == CFG_SECRET) {
        buf_addf(out, "      also as %s_file or ", key->name);
        cfg_out_variable(out, section, placeholder(section), key);
        buf_addf(out, "_FILE, the path of a file that holds it\n");
    }
    cfg_out_wrapped(out, "      ", key->help);
}

enum obx_code cfg_reference_text(const struct cfg_schema *schema, struct obx_buf *buf)
{
    for (size_t i = 0; i < schema->section_count; i++) {
        const struct cfg_section *section = &schema->sections[i];

        buf_addf(buf, "%s[%s%s]\n", i > 0 ? "\n" : "", section->name,
                 section->is_named ? " NAME" : "");
        cfg_out_wrapped(buf, "  ", section->help);
        if (section->is_named) {
            buf_addf(buf, "  May be given several times; ");
            cfg_out_names_variable(buf, section);
            buf_addf(buf, "=\"a,b\" adds sections too.\n");
        }
        for (size_t k = 0; k < section->key_count; k++)
            out_key_text(buf, section, &section->keys[k]);
    }
    return buf->rc;
}

/* Text inside a table cell, where | would end the cell. */
static void out_cell(struct obx_buf *out, const char *text)
{
    for (; *text != '\0'; text++)
        buf_addf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void out_key_markdown(struct obx_buf *out, const struct cfg_section *section,
                             const struct cfg_key *key)
{
    buf_addf(out, "| `%s`%s | ", key->name, key->type == CFG_SECRET ? " or its `_file`" : "");
    cfg_out_allowed(out, key);
    buf_addf(out, " | ");
    if (key->def == NULL)
        buf_addf(out, "required");
    else if (key->def[0] != '\0')
        buf_addf(out, "`%s`", key->def);
    buf_addf(out, " | %s | `", (key->restarts & CFG_PROCESS) == 0 ? "yes" : "no");
    cfg_out_variable(out, section, placeholder(section), key);
    buf_addf(out, "` | ");
    out_cell(out, key->help);
    buf_addf(out, " |\n");
}

enum obx_code cfg_reference_markdown(const struct cfg_schema *schema, struct obx_buf *buf)
{
    for (size_t i = 0; i < schema->section_count; i++) {
        const struct cfg_section *section = &schema->sections[i];

        buf_addf(buf, "%s## `[%s%s]`\n\n%s", i > 0 ? "\n" : "", section->name,
                 section->is_named ? " NAME" : "", section->help);
        if (section->is_named) {
            buf_addf(buf, " May be given several times; `");
            cfg_out_names_variable(buf, section);
            buf_addf(buf, "=\"a,b\"` adds sections too.");
        }
        buf_addf(buf, "\n\n| Key | Value | Default | Reload | Environment | Meaning |\n"
                      "| --- | --- | --- | --- | --- | --- |\n");
        for (size_t k = 0; k < section->key_count; k++)
            out_key_markdown(buf, section, &section->keys[k]);
    }
    return buf->rc;
}
