/*
 * The reference of all keys, from the table that the loader uses, as plain text and as Markdown.
 */
#include <string.h>

#include "internal.h"

static const char *placeholder(const struct cfg_section *section)
{
    return section->is_named ? "<NAME>" : NULL;
}

void cfg_out_default(struct cfg_out *out, const struct cfg_key *key)
{
    if (key->def == NULL)
        cfg_outf(out, "required");
    else if (key->def[0] == '\0')
        cfg_outf(out, "default empty");
    else
        cfg_outf(out, "default %s", key->def);
}

void cfg_out_wrapped(struct cfg_out *out, const char *before, const char *text)
{
    const int width = 78;
    int column = 0; /* 0: no word yet */

    while (*text != '\0') {
        const int len = (int)strcspn(text, " ");
        const bool fits = column > 0 && column + 1 + len <= width;

        if (fits)
            cfg_outf(out, " %.*s", len, text);
        else
            cfg_outf(out, "%s%s%.*s", column > 0 ? "\n" : "", before, len, text);
        column = len + (fits ? column + 1 : (int)strlen(before));
        text += len;
        text += strspn(text, " ");
    }
    cfg_outf(out, "\n");
}

static void out_key_text(struct cfg_out *out, const struct cfg_section *section,
                         const struct cfg_key *key)
{
    cfg_outf(out, "\n  %s = ", key->name);
    cfg_out_allowed(out, key);
    cfg_outf(out, "\n      ");
    cfg_out_default(out, key);
    cfg_outf(out, "; %s; ", key->is_reloadable ? "reloadable" : "fixed until a restart");
    cfg_out_variable(out, section, placeholder(section), key);
    cfg_outf(out, "\n");
    if (key->type == CFG_SECRET) {
        cfg_outf(out, "      also as %s_file or ", key->name);
        cfg_out_variable(out, section, placeholder(section), key);
        cfg_outf(out, "_FILE, the path of a file that holds it\n");
    }
    cfg_out_wrapped(out, "      ", key->help);
}

enum obx_code cfg_reference_text(const struct cfg_schema *schema, struct obx_buf *buf)
{
    struct cfg_out out = {.buf = buf, .rc = OBX_OK};

    for (size_t i = 0; i < schema->section_count; i++) {
        const struct cfg_section *section = &schema->sections[i];

        cfg_outf(&out, "%s[%s%s]\n", i > 0 ? "\n" : "", section->name,
                 section->is_named ? " NAME" : "");
        cfg_out_wrapped(&out, "  ", section->help);
        if (section->is_named) {
            cfg_outf(&out, "  May be given several times; ");
            cfg_out_names_variable(&out, section);
            cfg_outf(&out, "=\"a,b\" adds sections too.\n");
        }
        for (size_t k = 0; k < section->key_count; k++)
            out_key_text(&out, section, &section->keys[k]);
    }
    return out.rc;
}

/* Text inside a table cell, where | would end the cell. */
static void out_cell(struct cfg_out *out, const char *text)
{
    for (; *text != '\0'; text++)
        cfg_outf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void out_key_markdown(struct cfg_out *out, const struct cfg_section *section,
                             const struct cfg_key *key)
{
    cfg_outf(out, "| `%s`%s | ", key->name, key->type == CFG_SECRET ? " or its `_file`" : "");
    cfg_out_allowed(out, key);
    cfg_outf(out, " | ");
    if (key->def == NULL)
        cfg_outf(out, "required");
    else if (key->def[0] != '\0')
        cfg_outf(out, "`%s`", key->def);
    cfg_outf(out, " | %s | `", key->is_reloadable ? "yes" : "no");
    cfg_out_variable(out, section, placeholder(section), key);
    cfg_outf(out, "` | ");
    out_cell(out, key->help);
    cfg_outf(out, " |\n");
}

enum obx_code cfg_reference_markdown(const struct cfg_schema *schema, struct obx_buf *buf)
{
    struct cfg_out out = {.buf = buf, .rc = OBX_OK};

    for (size_t i = 0; i < schema->section_count; i++) {
        const struct cfg_section *section = &schema->sections[i];

        cfg_outf(&out, "%s## `[%s%s]`\n\n%s", i > 0 ? "\n" : "", section->name,
                 section->is_named ? " NAME" : "", section->help);
        if (section->is_named) {
            cfg_outf(&out, " May be given several times; `");
            cfg_out_names_variable(&out, section);
            cfg_outf(&out, "=\"a,b\"` adds sections too.");
        }
        cfg_outf(&out, "\n\n| Key | Value | Default | Reload | Environment | Meaning |\n"
                       "| --- | --- | --- | --- | --- | --- |\n");
        for (size_t k = 0; k < section->key_count; k++)
            out_key_markdown(&out, section, &section->keys[k]);
    }
    return out.rc;
}
