/*
 * Loading: makes the configuration, has the layers read in the order of precedence, gives every
 * section its place in the root struct and converts every value. Nothing outside the new
 * configuration changes.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/url_text.h"
#include "internal.h"

enum { SECRET_FILE_MAX = 64 * 1024 };

static const struct cfg_origin no_origin = {.kind = CFG_FROM_DEFAULT};

/* Makes the array of a kind of named sections and gives each of them its item. In two rounds: the
 * array cannot grow later, because items are pointed to by then. */
static void place_named(struct cfg *cfg, struct cfg_report *report,
                        const struct cfg_section *section)
{
    unsigned char *item = NULL;
    size_t count = 0;

    for (const struct cfg_instance *at = STAILQ_FIRST(&cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry))
        count += at->section == section;
    item = cfg_alloc(cfg, report, count * section->item_size);
    if (item == NULL)
        return;
    memcpy(cfg->root + section->offset, &item, sizeof(item));
    memcpy(cfg->root + section->count_offset, &count, sizeof(count));
    for (struct cfg_instance *at = STAILQ_FIRST(&cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        if (at->section != section)
            continue;
        at->item = item;
        memcpy(item + section->name_offset, &at->name, sizeof(at->name));
        item += section->item_size;
    }
}

static void place_all(struct cfg *cfg, struct cfg_report *report)
{
    for (size_t i = 0; i < cfg->schema->section_count && report->rc == OBX_OK; i++) {
        const struct cfg_section *section = &cfg->schema->sections[i];

        if (section->is_named)
            place_named(cfg, report, section);
        else
            cfg_find_instance(cfg, section, (struct obx_bytes){NULL, 0})->item =
                cfg->root + section->offset;
    }
}

/* An editor's line end, of either kind, is no part of a secret: a password with a CR at its end
 * would be refused by a server that says no word about it. */
static void strip_line_end(struct obx_buf *content)
{
    if (content->len > 0 && content->data[content->len - 1] == '\n')
        content->len--;
    if (content->len > 0 && content->data[content->len - 1] == '\r')
        content->len--;
}

/* The content of the secret's file less one line end; NULL after a problem. */
static const char *read_secret(struct cfg *cfg, struct cfg_report *report,
                               const struct cfg_instance *instance, const struct cfg_key *key,
                               const struct cfg_value *value)
{
    struct obx_buf content = {0};
    struct obx_err err = {0};
    struct cfg_shown shown;
    const char *text = NULL;

    if (cfg_slurp(value->path, SECRET_FILE_MAX, &content, &err) == OBX_OK) {
        strip_line_end(&content);
        if (content.len > 0 && memchr(content.data, '\0', content.len) != NULL)
            cfg_problem(report, &value->origin, instance, key, "NUL byte in the file %s",
                        cfg_show(&shown, bytes_of(value->path)));
        else
            text = cfg_copy(cfg, report, buf_bytes(&content));
    } else if (err.code == OBX_E_NOMEM) {
        report->rc = OBX_E_NOMEM;
    } else {
        cfg_problem(report, &value->origin, instance, key, "file %s: %s",
                    cfg_show(&shown, bytes_of(value->path)), err.text);
    }
    buf_fini(&content);
    return text;
}

static void complain_about_value(struct cfg_report *report, const struct cfg_instance *instance,
                                 const struct cfg_key *key, const struct cfg_value *value)
{
    struct obx_buf allowed = {.rc = report->rc}, text = {0};
    /* A value that is missing is a problem of its section, which may have a line. */
    const struct cfg_origin *origin = value->text == NULL ? &instance->origin : &value->origin;
    struct cfg_shown shown;

    cfg_out_allowed(&allowed, key);
    if (value->text != NULL)
        url_add_shown(&text, bytes_of(value->text));
    report->rc = allowed.rc != OBX_OK ? allowed.rc : text.rc;
    if (report->rc != OBX_OK)
        goto out;
    if (value->text == NULL)
        cfg_problem(report, origin, instance, key, "missing; expected %s", allowed.data);
    else if (key->type == CFG_SECRET)
        cfg_problem(report, origin, instance, key, "the secret does not fit; expected %s",
                    allowed.data);
    else
        cfg_problem(report, origin, instance, key, "\"%s\" does not fit; expected %s",
                    cfg_show(&shown, buf_bytes(&text)), allowed.data);
out:
    buf_fini(&text);
    buf_fini(&allowed);
}

/* Plain sections are converted before the named ones, so the value is there. */
static void take_like(const struct cfg *cfg, struct cfg_instance *instance,
                      const struct cfg_key *key)
{
    const struct cfg_section *section = cfg_find_section(cfg->schema, bytes_of(key->like));
    const struct cfg_instance *from = cfg_find_instance(cfg, section, (struct obx_bytes){NULL, 0});

    memcpy(instance->item + key->offset, from->item + cfg_find_key(section, key->name)->offset,
           key->size);
}

static void convert_value(struct cfg *cfg, struct cfg_report *report, struct cfg_instance *instance,
                          size_t index)
{
    const struct cfg_key *key = &instance->section->keys[index];
    struct cfg_value *value = &instance->values[index];
    struct cfg_default room;

    OBX_ASSERT(cfg_field_fits(key));
    if (value->path != NULL) {
        value->text = read_secret(cfg, report, instance, key, value);
        if (value->text == NULL)
            return;
    }
    if (value->origin.kind == CFG_FROM_DEFAULT && !cfg_is_required(key))
        value->text = key->def != NULL
                          ? key->def
                          : cfg_copy(cfg, report, bytes_of(cfg_default_of(key, &room)));
    if (value->text != NULL && cfg_is_left_to_like(key, value->text))
        take_like(cfg, instance, key);
    else if (value->text == NULL || !cfg_convert(cfg, report, key, value->text, instance->item))
        complain_about_value(report, instance, key, value);
}

static void fill(struct cfg *cfg, struct cfg_report *report, const struct cfg_input *input)
{
    const struct cfg_schema *schema = cfg->schema;
    const char *name = input->path != NULL ? input->path : "environment";
    struct cfg_instance *at = NULL;

    cfg->path = cfg_copy(cfg, report, bytes_of(name));
    cfg->root = cfg_alloc(cfg, report, schema->root_size);
    if (report->rc != OBX_OK)
        return;
    /* Plain sections are there whether the file names them or not: all their keys may have
     * defaults. Memory is the only thing that can be missing here. */
    for (size_t i = 0; i < schema->section_count && report->rc == OBX_OK; i++) {
        if (!schema->sections[i].is_named)
            cfg_add_instance(cfg, report, &schema->sections[i], (struct obx_bytes){NULL, 0},
                             &no_origin);
    }
    if (report->rc == OBX_OK)
        cfg_read_file(cfg, report, input);
    if (report->rc == OBX_OK)
        cfg_read_env(cfg, report, input->env);
    if (report->rc == OBX_OK)
        place_all(cfg, report);
    STAILQ_FOREACH(at, &cfg->instances, entry)
    {
        for (size_t i = 0; i < at->section->key_count && report->rc == OBX_OK; i++)
            convert_value(cfg, report, at, i);
    }
    /* Rules that compare several values come last, and only over values that are right by
     * themselves: else one mistake is reported as many. */
    if (report->rc == OBX_OK && report->count == 0 && cfg->schema->check != NULL)
        cfg->schema->check(cfg->root, report);
    if (report->rc == OBX_OK && report->count == 0 && cfg->schema->finish != NULL)
        report->rc = cfg->schema->finish(cfg->root, cfg);
}

enum obx_code cfg_load(const struct cfg_schema *schema, const struct cfg_input *input,
                       struct cfg **out, struct obx_buf *problems, struct obx_err *err)
{
    struct cfg *cfg = obx_calloc(1, sizeof(*cfg));
    struct cfg_report report = {.cfg = cfg, .lines = problems};
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (cfg == NULL)
        return obx_fail(err, OBX_E_NOMEM, "loading the configuration");
    cfg->schema = schema;
    STAILQ_INIT(&cfg->instances);
    fill(cfg, &report, input);
    rc = cfg_judge(&report, err);
    if (rc == OBX_OK) {
        *out = cfg;
        cfg = NULL; /* moved to the caller */
    }
    cfg_destroy(cfg);
    return rc;
}

void *cfg_root(const struct cfg *cfg)
{
    return cfg->root;
}
