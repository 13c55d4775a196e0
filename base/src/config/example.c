/*
 * A whole configuration file to begin with, from the table that the loader uses: every key with its
 * meaning, commented out where there is a default. A program that loads it as it stands gets its
 * defaults and the samples of what it cannot do without.
 */
#include <string.h>

#include "internal.h"

static const char *sample_of(const struct cfg_schema *schema, const struct cfg_section *section,
                             const char *key)
{
    for (size_t i = 0; i < schema->sample_count; i++) {
        const struct cfg_sample *sample = &schema->samples[i];

        if (strcmp(sample->section, section->name) != 0)
            continue;
        if (key == NULL ? sample->key == NULL
                        : sample->key != NULL && strcmp(sample->key, key) == 0)
            return sample->text;
    }
    return NULL;
}

/* A kind of section with a key that must be given is one that the file cannot do without. */
static bool is_needed(const struct cfg_section *section)
{
    if (!section->is_named)
        return true;
    for (size_t i = 0; i < section->key_count; i++) {
        if (cfg_is_required(&section->keys[i]))
            return true;
    }
    return false;
}

static void out_setting(struct obx_buf *out, bool is_comment, const char *key, const char *tail,
                        const char *text)
{
    buf_addf(out, "%s%s%s =%s%s\n", is_comment ? "#" : "", key, tail, text[0] != '\0' ? " " : "",
             text);
}

static void out_key(struct obx_buf *out, const struct cfg_schema *schema,
                    const struct cfg_section *section, const struct cfg_key *key)
{
    const char *sample = sample_of(schema, section, key->name);
    struct cfg_default room;

    buf_addf(out, "\n");
    cfg_out_wrapped(out, "# ", key->help);
    buf_addf(out, "# (");
    cfg_out_allowed(out, key);
    buf_addf(out, "; ");
    cfg_out_default(out, key);
    buf_addf(out, "; %s; ",
             (key->restarts & CFG_PROCESS) == 0 ? "reloadable" : "fixed until a restart");
    cfg_out_variable(out, section, section->is_named ? "<NAME>" : NULL, key);
    buf_addf(out, ")\n");
    if (key->type == CFG_SECRET) { /* the sample is a path: no secret is written down here */
        out_setting(out, true, key->name, "", "");
        out_setting(out, true, key->name, "_file", sample != NULL ? sample : "");
    } else if (cfg_is_required(key)) {
        out_setting(out, false, key->name, "", sample != NULL ? sample : "CHANGE_ME");
    } else {
        out_setting(out, true, key->name, "", sample != NULL ? sample : cfg_default_of(key, &room));
    }
}

static void out_section(struct obx_buf *out, const struct cfg_schema *schema,
                        const struct cfg_section *section)
{
    const char *name = sample_of(schema, section, NULL);

    buf_addf(out, "\n");
    cfg_out_wrapped(out, "# ", section->help);
    if (section->is_named) {
        buf_addf(out, "# May be given several times; ");
        cfg_out_names_variable(out, section);
        buf_addf(out, "=\"a,b\" adds sections too.\n");
    }
    buf_addf(out, "%s[%s%s%s]\n", is_needed(section) ? "" : "#", section->name,
             section->is_named ? " " : "",
             !section->is_named ? ""
             : name != NULL     ? name
                                : "NAME");
    for (size_t i = 0; i < section->key_count; i++)
        out_key(out, schema, section, &section->keys[i]);
}

enum obx_code cfg_reference_example(const struct cfg_schema *schema, struct obx_buf *buf)
{
    buf_addf(buf, "# Every key with its meaning. Take the '#' away from a key to set it. Each may "
                  "come\n# from its environment variable instead.\n");
    for (size_t i = 0; i < schema->section_count; i++)
        out_section(buf, schema, &schema->sections[i]);
    return buf->rc;
}
