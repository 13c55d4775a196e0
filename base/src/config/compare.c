/*
 * What differs between two configurations of one schema, by effect and not by spelling.
 */
#include <string.h>

#include "internal.h"

static void count(struct obx_buf *out, struct cfg_changes *changes, unsigned restarts)
{
    changes->count++;
    if ((restarts & CFG_PROCESS) != 0) {
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

        /* Of a value that another key may stand in for, only what was given itself counts here. */
        if (key->like != NULL ? cfg_same_number(key, before->values[i].text, after->values[i].text)
                              : cfg_same_value(key, before->item, after->item))
            continue;
        cfg_out_section(out, before);
        buf_addf(out, ".%s: ", key->name);
        cfg_out_shown(out, key, before->values[i].text);
        buf_addf(out, " -> ");
        cfg_out_shown(out, key, after->values[i].text);
        count(out, changes, key->restarts);
    }
}

static void note_section(struct obx_buf *out, struct cfg_changes *changes,
                         const struct cfg_instance *instance, const char *what)
{
    cfg_out_section(out, instance);
    buf_addf(out, ": %s", what);
    count(out, changes, instance->section->restarts);
}

enum obx_code cfg_compare(const struct cfg *before, const struct cfg *after,
                          struct cfg_changes *changes)
{
    struct obx_buf *out = &changes->lines;

    for (const struct cfg_instance *at = STAILQ_FIRST(&before->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        const struct cfg_instance *now = cfg_find_instance(after, at->section, bytes_of(at->name));

        if (now != NULL)
            compare_values(out, changes, at, now);
        else
            note_section(out, changes, at, "removed");
    }
    for (const struct cfg_instance *at = STAILQ_FIRST(&after->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        if (cfg_find_instance(before, at->section, bytes_of(at->name)) == NULL)
            note_section(out, changes, at, "added");
    }
    return out->rc;
}

static bool is_same_item(const struct cfg_instance *a, const struct cfg_instance *b, unsigned parts)
{
    for (size_t i = 0; i < a->section->key_count; i++) {
        const struct cfg_key *key = &a->section->keys[i];

        if ((key->restarts & parts) != 0 && !cfg_same_value(key, a->item, b->item))
            return false;
    }
    return true;
}

static const struct cfg_instance *next_of(const struct cfg_instance *at,
                                          const struct cfg_section *section, const char *name)
{
    while (at != NULL && (at->section != section || (name != NULL && strcmp(at->name, name) != 0)))
        at = STAILQ_NEXT(at, entry);
    return at;
}

static bool is_at_defaults(const struct cfg_instance *at, unsigned parts)
{
    for (size_t i = 0; i < at->section->key_count; i++) {
        if ((at->section->keys[i].restarts & parts) != 0 &&
            at->values[i].origin.kind != CFG_FROM_DEFAULT)
            return false;
    }
    return true;
}

/* Sections that may come and go: one that is missing is as one that says nothing. */
static bool is_same_where_given(const struct cfg *a, const struct cfg *b, unsigned parts,
                                const struct cfg_section *section)
{
    for (const struct cfg_instance *x = next_of(STAILQ_FIRST(&a->instances), section, NULL);
         x != NULL; x = next_of(STAILQ_NEXT(x, entry), section, NULL)) {
        const struct cfg_instance *y = cfg_find_instance(b, section, bytes_of(x->name));

        if (y != NULL ? !is_same_item(x, y, parts) : !is_at_defaults(x, parts))
            return false;
    }
    return true;
}

/* The sections of one kind in their order, or only the one of that name. */
static bool is_same_kind(const struct cfg *a, const struct cfg *b, unsigned parts,
                         const struct cfg_section *section, const char *name)
{
    const struct cfg_instance *x = next_of(STAILQ_FIRST(&a->instances), section, name);
    const struct cfg_instance *y = next_of(STAILQ_FIRST(&b->instances), section, name);

    for (; x != NULL && y != NULL; x = next_of(STAILQ_NEXT(x, entry), section, name),
                                   y = next_of(STAILQ_NEXT(y, entry), section, name)) {
        if ((section->is_named && strcmp(x->name, y->name) != 0) || !is_same_item(x, y, parts))
            return false;
    }
    return x == NULL && y == NULL;
}

bool cfg_same_part(const struct cfg *a, const struct cfg *b, unsigned parts, const char *kind,
                   const char *name)
{
    for (size_t i = 0; i < a->schema->section_count; i++) {
        const struct cfg_section *section = &a->schema->sections[i];
        const bool is_kind = kind != NULL && strcmp(section->name, kind) == 0;

        if (section->is_named && !is_kind && (section->restarts & parts) == 0) {
            if (!is_same_where_given(a, b, parts, section) ||
                !is_same_where_given(b, a, parts, section))
                return false;
        } else if (!is_same_kind(a, b, parts, section, is_kind ? name : NULL)) {
            return false;
        }
    }
    return true;
}
