/*
 * The dump of what is in force. It is INI again: a program that is given the dump (with its secrets
 * filled in, and the passwords in its URLs) has the same configuration.
 */
#include "internal.h"

static void out_origin(struct obx_buf *out, const struct cfg *cfg, const struct cfg_value *value)
{
    buf_addf(out, "; ");
    cfg_out_origin(out, cfg, &value->origin);
    if (value->path != NULL)
        buf_addf(out, ", content of %s", value->path);
    buf_addf(out, "\n");
}

/* Where it comes from stands after a value, but above a secret: there it would cut it. */
static void out_line(struct obx_buf *out, const struct cfg *cfg, const struct cfg_key *key,
                     const struct cfg_value *value, const char *text)
{
    const bool is_secret = key->type == CFG_SECRET && text[0] != '\0';

    if (is_secret)
        out_origin(out, cfg, value);
    buf_addf(out, "%s = ", key->name);
    cfg_out_shown(out, key, text);
    buf_addf(out, "%s", is_secret ? "\n" : text[0] != '\0' ? " " : "");
    if (!is_secret)
        out_origin(out, cfg, value);
}

/* One line for each item, which is easier to read and to compare. */
static void out_list(struct obx_buf *out, const struct cfg *cfg, const struct cfg_key *key,
                     const struct cfg_value *value, struct cfg_list list)
{
    for (size_t i = 0; i < list.count; i++)
        out_line(out, cfg, key, value, list.items[i]);
    if (list.count == 0)
        out_line(out, cfg, key, value, "");
}

static void out_value(struct obx_buf *out, const struct cfg *cfg,
                      const struct cfg_instance *instance, size_t index)
{
    const struct cfg_key *key = &instance->section->keys[index];
    const struct cfg_value *value = &instance->values[index];

    if (key->type == CFG_LIST)
        out_list(out, cfg, key, value, cfg_get_list(key, instance->item));
    else
        out_line(out, cfg, key, value, value->text);
}

enum obx_code cfg_dump(const struct cfg *cfg, struct obx_buf *buf)
{
    for (const struct cfg_instance *at = STAILQ_FIRST(&cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        buf_addf(buf, "%s[%s%s%s] ; ", at == STAILQ_FIRST(&cfg->instances) ? "" : "\n",
                 at->section->name, at->name != NULL ? " " : "", at->name != NULL ? at->name : "");
        cfg_out_origin(buf, cfg, &at->origin);
        buf_addf(buf, "\n");
        for (size_t i = 0; i < at->section->key_count; i++)
            out_value(buf, cfg, at, i);
    }
    return buf->rc;
}
