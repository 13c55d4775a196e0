/*
 * Checks a schema itself. A unit test of each program calls it, so that a wrong row is found when
 * it is written and not when somebody uses the key.
 */
#include <string.h>

#include "base/alloc.h"
#include "internal.h"

/* What is being verified; instance stands for the section in messages. */
struct verify {
    struct cfg *cfg;
    struct cfg_report report;
    struct cfg_instance instance;
};

static void complain(struct verify *verify, const struct cfg_key *key, const char *what)
{
    static const struct cfg_origin none = {.kind = CFG_FROM_DEFAULT};

    cfg_problem(&verify->report, &none, &verify->instance, key, "%s", what);
}

/* Names are for people. */
static bool is_identifier(const char *name)
{
    const size_t len = strlen(name);

    return len > 0 && len <= 40 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static bool is_variable_shared(struct verify *verify, const struct cfg_section *a,
                               const struct cfg_key *key_a, const struct cfg_section *b,
                               const struct cfg_key *key_b)
{
    struct obx_buf first = {.rc = verify->report.rc}, second = {.rc = verify->report.rc};
    bool is_shared = false;

    cfg_out_variable(&first, a, a->is_named ? "<NAME>" : NULL, key_a);
    cfg_out_variable(&second, b, b->is_named ? "<NAME>" : NULL, key_b);
    verify->report.rc = first.rc != OBX_OK ? first.rc : second.rc;
    if (verify->report.rc == OBX_OK)
        is_shared = bytes_equal(buf_bytes(&first), buf_bytes(&second));
    buf_fini(&first);
    buf_fini(&second);
    return is_shared;
}

/* No key in front of this one may have its name or its variable. */
static void verify_unique(struct verify *verify, const struct cfg_section *section,
                          const struct cfg_key *key)
{
    const struct cfg_schema *schema = verify->cfg->schema;

    for (const struct cfg_section *other = schema->sections; other <= section; other++) {
        const size_t count = other == section ? (size_t)(key - section->keys) : other->key_count;

        for (size_t i = 0; i < count; i++) {
            if (is_variable_shared(verify, other, &other->keys[i], section, key))
                complain(verify, key, "name or environment variable is that of another key");
        }
    }
}

static void verify_default(struct verify *verify, const struct cfg_key *key)
{
    union {
        max_align_t aligned;
        unsigned char bytes[sizeof(struct cfg_list)];
    } item;
    struct cfg_key row = *key;
    struct cfg_default room;
    const char *text = cfg_default_of(key, &room);

    row.offset = 0;
    row.count_offset = key->count_offset == 0 ? 0 : offsetof(struct cfg_list, count);
    if (!cfg_is_required(key) && !cfg_is_left_to_like(key, text) &&
        !cfg_convert(verify->cfg, &verify->report, &row, text, item.bytes))
        complain(verify, key, "default is not what the key allows");
}

/* 0 has to be free, and the two fields have to be copies of one another. */
static bool is_like(const struct verify *verify, const struct cfg_section *section,
                    const struct cfg_key *key)
{
    const struct cfg_section *other = cfg_find_section(verify->cfg->schema, bytes_of(key->like));
    const struct cfg_key *row =
        other == NULL || other->is_named ? NULL : cfg_find_key(other, key->name);

    return section->is_named && row != NULL && row->type == key->type && row->size == key->size &&
           cfg_is_number(key) && key->min > 0;
}

static void verify_key(struct verify *verify, const struct cfg_section *section,
                       const struct cfg_key *key)
{
    const bool has_choices = key->choices != NULL && key->choices[0] != NULL;

    if (!is_identifier(key->name))
        complain(verify, key, "name is not of 1 to 40 lower case letters, digits and _");
    if (key->help == NULL || key->help[0] == '\0')
        complain(verify, key, "help is missing");
    if (!cfg_field_fits(key))
        complain(verify, key, "field has another size than the type");
    if (key->size > section->item_size || key->offset > section->item_size - key->size)
        complain(verify, key, "field lies outside of the section's struct");
    if (key->max != 0 && key->min > key->max)
        complain(verify, key, "min is above max");
    if (key->max > cfg_field_max(key) || key->min > cfg_field_max(key))
        complain(verify, key, "limits exceed the field");
    if (key->like != NULL && !is_like(verify, section, key))
        complain(verify, key, "is not like the key of that name in the plain section");
    if (has_choices != (key->type == CFG_ENUM))
        complain(verify, key, "choices and type do not fit");
    else
        verify_default(verify, key);
    verify_unique(verify, section, key);
}

static void verify_section(struct verify *verify, const struct cfg_section *section)
{
    const size_t root_size = verify->cfg->schema->root_size;
    const size_t size = section->is_named ? sizeof(void *) : section->item_size;

    verify->instance.section = section;
    if (!is_identifier(section->name))
        complain(verify, NULL, "name is not of 1 to 40 lower case letters, digits and _");
    if (cfg_find_section(verify->cfg->schema, bytes_of(section->name)) != section)
        complain(verify, NULL, "section stands twice in the table");
    if (section->help == NULL || section->help[0] == '\0')
        complain(verify, NULL, "help is missing");
    if (size > root_size || section->offset > root_size - size)
        complain(verify, NULL, "section lies outside of the root struct");
    for (size_t i = 0; i < section->key_count; i++)
        verify_key(verify, section, &section->keys[i]);
}

static void verify_sample(struct verify *verify, const struct cfg_sample *sample)
{
    static const struct cfg_origin none = {.kind = CFG_FROM_DEFAULT};
    const struct cfg_section *section =
        cfg_find_section(verify->cfg->schema, bytes_of(sample->section));

    if (section == NULL || (sample->key == NULL && !section->is_named) ||
        (sample->key != NULL && cfg_find_key(section, sample->key) == NULL))
        cfg_problem(&verify->report, &none, NULL, NULL, "sample for what is not there: %s %s",
                    sample->section, sample->key != NULL ? sample->key : "NAME");
}

enum obx_code cfg_verify(const struct cfg_schema *schema, struct obx_buf *problems,
                         struct obx_err *err)
{
    struct verify verify = {.cfg = obx_calloc(1, sizeof(*verify.cfg))};

    if (verify.cfg == NULL)
        return obx_fail(err, OBX_E_NOMEM, "verifying the configuration table");
    STAILQ_INIT(&verify.cfg->instances);
    verify.cfg->schema = schema;
    verify.cfg->path = "table";
    verify.report = (struct cfg_report){.cfg = verify.cfg, .lines = problems};
    for (size_t i = 0; i < schema->section_count && verify.report.rc == OBX_OK; i++)
        verify_section(&verify, &schema->sections[i]);
    for (size_t i = 0; i < schema->sample_count && verify.report.rc == OBX_OK; i++)
        verify_sample(&verify, &schema->samples[i]);
    cfg_destroy(verify.cfg);
    return cfg_judge(&verify.report, err);
}
