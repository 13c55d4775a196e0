/*
 * What differs between two configurations of one schema, by effect and not by spelling.
 */
#include "internal.h"

static void count(struct obx_buf *out, struct cfg_changes *changes, bool is_reloadable)
{
    changes->count++;
    if (!is_reloadable) {
        changes->fixed_count++;
        buf_addf(out, " (needs a restart)");
    }
    buf_addf(out, "\n");
}

static void compare_values(struct obx_buf *out, struct cfg_changes *changes,
                           const struct cfg_instance *before, const struct cfg_instance *after)
{
    for (size_t i = 0; i < before->section->key_count; i++) {
        const struct cfg_key *key = &before->section->keys[i];

        if (cfg_same_value(key, before->item + key->offset, after->item + key->offset))
            continue;
        cfg_out_section(out, before);
        buf_addf(out, ".%s: ", key->name);
        cfg_out_shown(out, key, before->values[i].text);
        buf_addf(out, " -> ");
        cfg_out_shown(out, key, after->values[i].text);
        count(out, changes, key->is_reloadable);
    }
}

static void note_section(struct obx_buf *out, struct cfg_changes *changes,
                         const struct cfg_instance *instance, const char *what)
{
    cfg_out_section(out, instance);
    buf_addf(out, ": %s", what);
    count(out, changes, instance->section->is_reloadable);
}

enum obx_code cfg_compare(const struct cfg *before, const struct cfg *after,
                          struct cfg_changes *changes)
{
    struct obx_buf *out = &changes->lines;

    for (const struct cfg_instance *at = before->instances; at != NULL; at = at->next) {
        const struct cfg_instance *now = cfg_find_instance(after, at->section, bytes_of(at->name));

        if (now != NULL)
            compare_values(out, changes, at, now);
        else
            note_section(out, changes, at, "removed");
    }
    for (const struct cfg_instance *at = after->instances; at != NULL; at = at->next) {
        if (cfg_find_instance(before, at->section, bytes_of(at->name)) == NULL)
            note_section(out, changes, at, "added");
    }
    return out->rc;
}
