/*
 * What a person is shown of a loaded configuration: the dump of what is in force, and the files with
 * secrets that everybody on the machine may read. The dump is INI again: a program that is given it
 * (with its secrets filled in, and the passwords in its URLs) has the same configuration.
 */
#include <string.h>
#include <sys/stat.h>

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

/* A list is one line for each item, which is easier to read and to compare. */
static void out_value(struct obx_buf *out, const struct cfg *cfg,
                      const struct cfg_instance *instance, size_t index)
{
    const struct cfg_key *key = &instance->section->keys[index];
    const struct cfg_value *value = &instance->values[index];

    const bool is_list = key->type == CFG_LIST;
    const struct cfg_list list =
        is_list ? cfg_get_list(key, instance->item) : (struct cfg_list){.count = 0};

    for (size_t i = 0; i < list.count; i++)
        out_line(out, cfg, key, value, list.items[i]);
    if (list.count == 0) /* an empty list may be what replaces a default, so it is shown */
        out_line(out, cfg, key, value, is_list ? "" : value->text);
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

/* ---- secrets that others may read ---- */

static bool is_open_to_all(const char *path)
{
    struct stat st;

    return path != NULL && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (st.st_mode & S_IROTH) != 0;
}

/* The file that the secret stands in; NULL: none, or an empty secret. */
static const char *file_of(const struct cfg *cfg, const struct cfg_value *value)
{
    if (value->text == NULL || value->text[0] == '\0')
        return NULL;
    if (value->path != NULL)
        return value->path;
    return value->origin.kind == CFG_FROM_FILE ? cfg->path : NULL;
}

enum obx_code cfg_exposed(const struct cfg *cfg, struct obx_buf *buf)
{
    for (const struct cfg_instance *at = STAILQ_FIRST(&cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        for (size_t i = 0; i < at->section->key_count; i++) {
            const struct cfg_key *key = &at->section->keys[i];
            const char *path = key->type == CFG_SECRET ? file_of(cfg, &at->values[i]) : NULL;
            struct cfg_shown shown;

            if (!is_open_to_all(path))
                continue;
            cfg_out_section(buf, at);
            buf_addf(buf,
                     ".%s is in a file that everybody on this machine may read: chmod o-r %s\n",
                     key->name, cfg_show(&shown, bytes_of(path)));
        }
    }
    return buf->rc;
}
