/*
 * The environment. Every variable that begins with OBX_ has to be understood: a misspelt one that
 * is passed over leaves a default in force that nobody wanted. Variables are matched by making the
 * name of each key there is, so no rule has to guess where in OBX_LANE_SHOP_OUTBOX_BATCH the name
 * ends.
 */
#include <string.h>

#include "internal.h"

static const char prefix[] = "OBX_";

/* What begins with OBX_ and is no configuration: the path of the file, crash points and the tests'
 * servers. */
static bool is_foreign(struct obx_bytes variable)
{
    static const char *const prefixes[] = {"OBX_TEST_", "OBX_SERVERS_"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t len = strlen(prefixes[i]);

        if (variable.len >= len && memcmp(variable.p, prefixes[i], len) == 0)
            return true;
    }
    return bytes_is(variable, "OBX_CRASH") || bytes_is(variable, "OBX_CONFIG") ||
           bytes_is(variable, "OBX_CACHE_DIR");
}

/* As a shell takes a name: what is neither a letter nor a digit becomes '_'. The angle brackets are
 * those of the placeholder <NAME> in the reference; no name has them. Not toupper(3), whose answer
 * depends on the locale: in a Turkish one "i" has another capital, and the variable no match. */
static void out_upper(struct obx_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        const bool is_lower = *text >= 'a' && *text <= 'z';
        const bool is_kept = (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
                             *text == '<' || *text == '>';
        const char c = is_lower ? (char)(*text - 'a' + 'A') : is_kept ? *text : '_';

        buf_add(out, &c, 1);
    }
}

void cfg_out_variable(struct obx_buf *out, const struct cfg_section *section, const char *name,
                      const struct cfg_key *key)
{
    buf_addf(out, "%s", prefix);
    out_upper(out, section->name);
    if (name != NULL) {
        buf_addf(out, "_");
        out_upper(out, name);
    }
    buf_addf(out, "_");
    out_upper(out, key->name);
}

void cfg_out_names_variable(struct obx_buf *out, const struct cfg_section *section)
{
    buf_addf(out, "%s", prefix);
    out_upper(out, section->name);
    buf_addf(out, "S");
}

/* One variable on its way to the key it belongs to. */
struct search {
    struct cfg *cfg;
    struct cfg_report *report;
    struct obx_buf *candidate; /* reused for every name that is tried */
    struct obx_bytes variable;
    struct cfg_instance *instance; /* found */
    const struct cfg_key *key;
    bool is_path;
    unsigned matches;
};

static bool is_wanted(struct search *search)
{
    if (search->candidate->rc != OBX_OK)
        search->report->rc = search->candidate->rc;
    return search->report->rc == OBX_OK &&
           bytes_equal(buf_bytes(search->candidate), search->variable);
}

static void try_key(struct search *search, struct cfg_instance *instance, const struct cfg_key *key)
{
    bool is_key = false;
    bool is_path = false;

    buf_reset(search->candidate);
    cfg_out_variable(search->candidate, instance->section, instance->name, key);
    is_key = is_wanted(search);
    if (key->type == CFG_SECRET) {
        buf_add_text(search->candidate, "_FILE");
        is_path = is_wanted(search);
    }
    if (!is_key && !is_path)
        return;
    search->matches++;
    search->instance = instance;
    search->key = key;
    search->is_path = is_path;
}

static bool lists_names(struct search *search)
{
    for (size_t i = 0; i < search->cfg->schema->section_count; i++) {
        if (!search->cfg->schema->sections[i].is_named)
            continue;
        buf_reset(search->candidate);
        cfg_out_names_variable(search->candidate, &search->cfg->schema->sections[i]);
        if (is_wanted(search))
            return true;
    }
    return false;
}

static void take_variable(struct search *search, const char *value)
{
    struct cfg_shown shown;
    struct cfg_origin origin = {.kind = CFG_FROM_ENV};

    if (is_foreign(search->variable) || lists_names(search))
        return;
    /* All of them, although the first match would do: two sections whose names differ only in what
     * becomes '_' share a variable, and a guess would set the wrong one of the two. */
    for (struct cfg_instance *at = STAILQ_FIRST(&search->cfg->instances); at != NULL;
         at = STAILQ_NEXT(at, entry)) {
        for (size_t i = 0; i < at->section->key_count; i++)
            try_key(search, at, &at->section->keys[i]);
    }
    origin.variable =
        cfg_copy(search->cfg, search->report, bytes_of(cfg_show(&shown, search->variable)));
    if (search->report->rc != OBX_OK)
        return;
    if (search->matches == 0)
        cfg_problem(search->report, &origin, NULL, NULL,
                    "unknown variable: no key of any section that is there has this name; "
                    "--help-config lists them");
    else if (search->matches > 1)
        cfg_problem(search->report, &origin, NULL, NULL,
                    "the variable fits %u keys; rename a section or use the file", search->matches);
    else
        cfg_assign(search->cfg, search->report, search->instance, search->key, search->is_path,
                   bytes_of(value), &origin);
}

static void add_names(struct cfg *cfg, struct cfg_report *report, const struct cfg_section *section,
                      const char *list, const struct cfg_origin *origin)
{
    while (*list != '\0' && report->rc == OBX_OK) {
        struct obx_bytes name = {NULL, 0};

        list += strspn(list, " \t,");
        name = (struct obx_bytes){list, strcspn(list, " \t,")};
        list += name.len;
        if (name.len > 0 && cfg_find_instance(cfg, section, name) == NULL)
            cfg_add_instance(cfg, report, section, name, origin);
    }
}

/* Sections that exist by the environment alone come before the variables of their keys are looked
 * up. */
static void create_sections(struct cfg *cfg, struct cfg_report *report,
                            const struct cfg_section *section, char *const *env)
{
    struct obx_buf variable = {.rc = report->rc};
    struct cfg_origin origin = {.kind = CFG_FROM_ENV};

    cfg_out_names_variable(&variable, section);
    report->rc = variable.rc;
    origin.variable = cfg_copy(cfg, report, buf_bytes(&variable));
    for (; *env != NULL && report->rc == OBX_OK; env++) {
        if (strncmp(*env, variable.data, variable.len) == 0 && (*env)[variable.len] == '=')
            add_names(cfg, report, section, *env + variable.len + 1, &origin);
    }
    buf_fini(&variable);
}

void cfg_read_env(struct cfg *cfg, struct cfg_report *report, char *const *env)
{
    struct obx_buf candidate = {0};

    if (env == NULL)
        return;
    for (size_t i = 0; i < cfg->schema->section_count; i++) {
        if (cfg->schema->sections[i].is_named)
            create_sections(cfg, report, &cfg->schema->sections[i], env);
    }
    for (; *env != NULL && report->rc == OBX_OK; env++) {
        const size_t len = strcspn(*env, "=");
        struct search search = {
            .cfg = cfg, .report = report, .candidate = &candidate, .variable = {*env, len}};

        if (strncmp(*env, prefix, sizeof(prefix) - 1) == 0 && (*env)[len] == '=')
            take_variable(&search, *env + len + 1);
    }
    buf_fini(&candidate);
}
