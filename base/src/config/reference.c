/*
 * The reference of all keys, from the table that the loader uses, as plain text and as Markdown.
 */
#include <string.h>

#include "internal.h"

enum { TEXT_WIDTH = 78, MARKDOWN_WIDTH = 118 };

static const char *placeholder(const struct cfg_section *section)
{
    return section->is_named ? "<NAME>" : NULL;
}

void cfg_out_default(struct obx_buf *out, const struct cfg_key *key)
{
    struct cfg_default room;
    const char *text = cfg_default_of(key, &room);

    if (cfg_is_required(key))
        buf_addf(out, "required");
    else
        buf_addf(out, "default %s", text[0] == '\0' ? "empty" : text);
}

/* Words of text in lines of at most width characters: `first` before the first, `then` before the
 * others. */
static void out_wrapped(struct obx_buf *out, const char *first, const char *then, const char *text,
                        int width)
{
    const char *before = first;
    int column = 0; /* 0: no word yet */

    while (*text != '\0') {
        const int len = (int)strcspn(text, " ");
        const bool fits = column > 0 && column + 1 + len <= width;

        if (fits)
            buf_addf(out, " %.*s", len, text);
        else
            buf_addf(out, "%s%s%.*s", column > 0 ? "\n" : "", before, len, text);
        column = len + (fits ? column + 1 : (int)strlen(before));
        before = then;
        text += len;
        text += strspn(text, " ");
    }
    buf_addf(out, "\n");
}

void cfg_out_wrapped(struct obx_buf *out, const char *before, const char *text)
{
    out_wrapped(out, before, before, text, TEXT_WIDTH);
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

/* "- **`key`**: what it may be; default `x`; reloadable; `OBX_SECTION_KEY`. Help." in lines. */
static void out_key_markdown(struct obx_buf *out, const struct cfg_section *section,
                             const struct cfg_key *key)
{
    struct obx_buf item = {0};
    struct cfg_default room;
    const char *text = cfg_default_of(key, &room);

    buf_addf(&item, "**`%s`**%s: ", key->name, key->type == CFG_SECRET ? " or its `_file`" : "");
    cfg_out_allowed(&item, key);
    if (cfg_is_required(key))
        buf_addf(&item, "; required");
    else if (text[0] != '\0')
        buf_addf(&item, "; default `%s`", text);
    buf_addf(&item, "; %s; `", (key->restarts & CFG_PROCESS) == 0 ? "reloadable" : "restart");
    cfg_out_variable(&item, section, placeholder(section), key);
    buf_addf(&item, "`. %s", key->help);
    if (item.rc == OBX_OK)
        out_wrapped(out, "- ", "  ", item.data, MARKDOWN_WIDTH);
    else if (out->rc == OBX_OK)
        out->rc = item.rc;
    buf_fini(&item);
}

enum obx_code cfg_reference_markdown(const struct cfg_schema *schema, struct obx_buf *buf)
{
    for (size_t i = 0; i < schema->section_count; i++) {
        const struct cfg_section *section = &schema->sections[i];

        buf_addf(buf, "%s### `[%s%s]`\n\n", i > 0 ? "\n" : "", section->name,
                 section->is_named ? " NAME" : "");
        out_wrapped(buf, "", "", section->help, MARKDOWN_WIDTH);
        if (section->is_named) {
            buf_addf(buf, "May be given several times; `");
            cfg_out_names_variable(buf, section);
            buf_addf(buf, "=\"a,b\"` adds sections too.\n");
        }
        buf_addf(buf, "\n");
        for (size_t k = 0; k < section->key_count; k++)
            out_key_markdown(buf, section, &section->keys[k]);
    }
    return buf->rc;
}
