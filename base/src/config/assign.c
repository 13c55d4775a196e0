/*
 * The instances of a configuration and the texts of their keys, with the rules of precedence: a
 * later layer (default, file, environment) replaces an earlier one, and within one layer a key is
 * given once. A list in the file is the exception: its lines add up.
 */
#include <string.h>

#include "base/alloc.h"
#include "internal.h"

/* The header of each piece of memory; all are freed together. */
struct cfg_block {
    SLIST_ENTRY(cfg_block) entry;
    max_align_t data[];
};

void *cfg_alloc(struct cfg *cfg, struct cfg_report *report, size_t size)
{
    struct cfg_block *block = NULL;

    if (report->rc == OBX_OK && size < SIZE_MAX - sizeof(*block))
        block = obx_calloc(1, sizeof(*block) + size);
    if (block == NULL) {
        report->rc = OBX_E_NOMEM;
        return NULL;
    }
    SLIST_INSERT_HEAD(&cfg->blocks, block, entry);
    return block->data;
}

void *cfg_take(struct cfg *cfg, size_t size)
{
    struct cfg_report report = {.cfg = cfg};

    return cfg_alloc(cfg, &report, size);
}

char *cfg_copy(struct cfg *cfg, struct cfg_report *report, struct obx_bytes text)
{
    char *copy = cfg_alloc(cfg, report, text.len + 1);

    if (copy != NULL && text.len > 0)
        memcpy(copy, text.p, text.len);
    return copy;
}

void cfg_destroy(struct cfg *cfg)
{
    if (cfg == NULL)
        return;
    while (!SLIST_EMPTY(&cfg->blocks)) {
        struct cfg_block *block = SLIST_FIRST(&cfg->blocks);

        SLIST_REMOVE_HEAD(&cfg->blocks, entry);
        obx_free(block);
    }
    obx_free(cfg);
}

const struct cfg_section *cfg_find_section(const struct cfg_schema *schema, struct obx_bytes name)
{
    for (size_t i = 0; i < schema->section_count; i++) {
        if (bytes_is(name, schema->sections[i].name))
            return &schema->sections[i];
    }
    return NULL;
}

const struct cfg_key *cfg_find_key(const struct cfg_section *section, const char *name)
{
    for (size_t i = 0; i < section->key_count; i++) {
        if (strcmp(section->keys[i].name, name) == 0)
            return &section->keys[i];
    }
    return NULL;
}

struct cfg_instance *cfg_find_instance(const struct cfg *cfg, const struct cfg_section *section,
                                       struct obx_bytes name)
{
    for (struct cfg_instance *at = STAILQ_FIRST(&cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        if (at->section == section && bytes_is(name, at->name))
            return at;
    }
    return NULL;
}

static bool is_name(struct obx_bytes name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._-*#:/@+";
    const char *p = name.p;

    for (size_t i = 0; i < name.len; i++) {
        if (p[i] == '\0' || strchr(allowed, p[i]) == NULL)
            return false;
    }
    return name.len > 0 && name.len <= CFG_NAME_MAX;
}

struct cfg_instance *cfg_add_instance(struct cfg *cfg, struct cfg_report *report,
                                      const struct cfg_section *section, struct obx_bytes name,
                                      const struct cfg_origin *origin)
{
    struct cfg_instance *instance = NULL;

    if (section->is_named && !is_name(name)) {
        cfg_problem(report, origin, NULL, NULL,
                    "%s needs a name of 1 to %d letters, digits or ._-*#:/@+", section->name,
                    CFG_NAME_MAX);
        return NULL;
    }
    if (cfg->instance_count >= CFG_INSTANCES_MAX) {
        cfg_problem(report, origin, NULL, NULL, "more than %d sections", CFG_INSTANCES_MAX);
        return NULL;
    }
    instance = cfg_alloc(cfg, report, sizeof(*instance));
    if (instance == NULL)
        return NULL;
    instance->section = section;
    instance->origin = *origin;
    instance->name = section->is_named ? cfg_copy(cfg, report, name) : NULL;
    instance->values = cfg_alloc(cfg, report, section->key_count * sizeof(*instance->values));
    if (report->rc != OBX_OK)
        return NULL;
    STAILQ_INSERT_TAIL(&cfg->instances, instance, entry);
    cfg->instance_count++;
    return instance;
}

/* The new line of a list, after those before it. The room doubles, so that any number of lines
 * costs a few times their bytes, and no more. */
static void lengthen_list(struct cfg *cfg, struct cfg_report *report, struct cfg_value *value,
                          struct obx_bytes text)
{
    const size_t len = value->len + 2 + text.len;

    if (len >= value->room) {
        char *more = cfg_alloc(cfg, report, 2 * len + 1);

        if (more == NULL)
            return;
        memcpy(more, value->text, value->len);
        value->text = value->list = more;
        value->room = 2 * len + 1;
    }
    memcpy(value->list + value->len, ", ", 2);
    if (text.len > 0)
        memcpy(value->list + value->len + 2, text.p, text.len);
    value->list[len] = '\0';
    value->len = len;
}

void cfg_assign(struct cfg *cfg, struct cfg_report *report, struct cfg_instance *instance,
                const struct cfg_key *key, bool is_path, struct obx_bytes text,
                const struct cfg_origin *origin)
{
    struct cfg_value *value = &instance->values[key - instance->section->keys];
    const bool is_again = value->origin.kind == origin->kind;

    if (is_again && key->type == CFG_LIST && origin->kind == CFG_FROM_FILE) {
        lengthen_list(cfg, report, value, text);
        return;
    }
    if (is_again) {
        struct cfg_shown shown;

        if (origin->kind == CFG_FROM_FILE)
            cfg_problem(report, origin, instance, key, "given twice, first in line %u",
                        value->origin.line);
        else
            cfg_problem(report, origin, instance, key, "given twice, first by %s",
                        cfg_show(&shown, bytes_of(value->origin.variable)));
        return;
    }
    *value = (struct cfg_value){.origin = *origin, .len = text.len};
    *(is_path ? &value->path : &value->text) = cfg_copy(cfg, report, text);
}
