/*
 * The configuration that the config tests load: one plain section and two kinds of named ones, with
 * a key of every type.
 */
#ifndef CONFIG_SAMPLE_H
#define CONFIG_SAMPLE_H

#include "base/config.h"

enum sample_policy { SAMPLE_FREEZE, SAMPLE_SKIP };

struct sample_broker {
    const char *user;
    const char *password;
    bool tls;
    uint32_t window;
    uint32_t timeout_ms;
    struct cfg_list addresses;
};

struct sample_lane {
    const char *name;
    const char *table;
    uint64_t body_max;
    enum sample_policy policy;
    uint32_t poll_ms;
};

struct sample_source {
    const char *name;
    const char *password;
    uint32_t tries;
    struct cfg_list tables;
};

struct sample {
    struct sample_broker broker;
    struct sample_lane *lanes;
    size_t lane_count;
    struct sample_source *sources;
    size_t source_count;
};

extern const struct cfg_schema sample_schema;

/* What sample_schema needs to be complete: the one key without a default. */
#define SAMPLE_LANE "[lane shop.outbox]\ntable = outbox\n"

/* Loads text as the file relay.conf with the environment env (may be NULL). */
enum obx_code sample_load(const char *text, const char *const *env, struct cfg **out,
                          struct obx_buf *problems, struct obx_err *err);
/* Loads what has to be right; the test fails with the problems otherwise. */
struct cfg *sample_must_load(const char *text, const char *const *env);
/* Loads what has to be wrong, and compares the problems line by line. */
void sample_must_fail(const char *text, const char *const *env, const char *problems);

#endif
