/*
 * Files with secrets that everybody on the machine may read. Only reads the loaded configuration
 * and the modes of files.
 */
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

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
