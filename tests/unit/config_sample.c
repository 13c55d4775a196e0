/* See config_sample.h. */
#include "config_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct cfg_key broker_keys[] = {
    {.name = "user",
     .type = CFG_STRING,
     CFG_FIELD(struct sample_broker, user),
     .def = "guest",
     .min = 1,
     .max = 16,
     .restarts = CFG_PROCESS,
     .help = "The user's name."},
    {.name = "password",
     .type = CFG_SECRET,
     CFG_FIELD(struct sample_broker, password),
     .def = "",
     .max = 32,
     .help = "The user's password."},
    {.name = "tls",
     .type = CFG_BOOL,
     CFG_FIELD(struct sample_broker, tls),
     .def = "no",
     .restarts = CFG_PROCESS,
     .help = "Whether to use TLS."},
    {.name = "window",
     .type = CFG_COUNT,
     CFG_FIELD(struct sample_broker, window),
     .def = "1000",
     .min = 1,
     .max = 100000,
     .help = "Messages in flight at most; more | less."},
    {.name = "timeout",
     .type = CFG_DURATION,
     CFG_FIELD(struct sample_broker, timeout_ms),
     .def = "5s",
     .min = 100,
     .max = 3600000,
     .help =
         "How long to wait for an answer of the broker before the connection counts as lost and "
         "another address is tried."},
    {.name = "addresses",
     .type = CFG_LIST,
     CFG_FIELD(struct sample_broker, addresses),
     .def = "localhost:5672",
     .min = 1,
     .max = 3,
     .restarts = CFG_PROCESS,
     .help = "Where brokers listen."},
};

static const char *const policies[] = {"freeze", "skip", NULL};

static const struct cfg_key lane_keys[] = {
    {.name = "table",
     .type = CFG_STRING,
     CFG_FIELD(struct sample_lane, table),
     .min = 1,
     .restarts = CFG_PROCESS,
     .help = "The outbox table."},
    {.name = "body_max",
     .type = CFG_SIZE,
     CFG_FIELD(struct sample_lane, body_max),
     .def = "1MiB",
     .min = 1,
     .max = 128 << 20,
     .restarts = CFG_PROCESS,
     .help = "The largest payload."},
    {.name = "policy",
     .type = CFG_ENUM,
     CFG_FIELD(struct sample_lane, policy),
     .def = "freeze",
     .choices = policies,
     .help = "What becomes of a key whose head is parked."},
    {.name = "poll",
     .type = CFG_DURATION,
     CFG_FIELD(struct sample_lane, poll_ms),
     .def = "250ms",
     .help = "How often to look."},
};

static const struct cfg_key source_keys[] = {
    {.name = "password",
     .type = CFG_SECRET,
     CFG_FIELD(struct sample_source, password),
     .def = "",
     .restarts = CFG_PROCESS,
     .help = "The password."},
    {.name = "tries",
     .type = CFG_COUNT,
     CFG_FIELD(struct sample_source, tries),
     .def = "3",
     .min = 1,
     .restarts = CFG_PROCESS,
     .help = "How often to try."},
    {.name = "tables",
     .type = CFG_LIST,
     CFG_FIELD(struct sample_source, tables),
     .def = "",
     .restarts = CFG_PROCESS,
     .help = "Tables to look at."},
};

static const struct cfg_section sections[] = {
    {.name = "broker",
     CFG_PLAIN(struct sample, broker),
     CFG_KEYS(broker_keys),
     .restarts = CFG_PROCESS,
     .help = "The RabbitMQ cluster."},
    {.name = "lane",
     CFG_NAMED(struct sample, lanes, lane_count, struct sample_lane, name),
     CFG_KEYS(lane_keys),
     .help = "One outbox table."},
    {.name = "source",
     CFG_NAMED(struct sample, sources, source_count, struct sample_source, name),
     CFG_KEYS(source_keys),
     .restarts = CFG_PROCESS,
     .help = "One database."},
};

static const struct cfg_sample samples[] = {
    {"lane", NULL, "shop.outbox"},
    {"lane", "body_max", "2MiB"},
    {"source", "password", "/run/secrets/s"},
};

/* A rule over two keys: a window of 77 and a timeout of 7 s do not go together. */
static void check(const void *root, struct cfg_report *report)
{
    const struct sample *sample = root;

    if (sample->broker.window == 77 && sample->broker.timeout_ms == 7000)
        cfg_complain(report, "broker", NULL, "window", "%d does not go with that timeout", 77);
    for (size_t i = 0; i < sample->lane_count; i++) {
        if (sample->lanes[i].poll_ms == 13)
            cfg_complain(report, "lane", sample->lanes[i].name, "poll", "unlucky");
        if (strcmp(sample->lanes[i].name, "nameless") == 0)
            cfg_complain(report, "lane", "nameless", NULL, "needs a better name");
    }
    if (sample->broker.window == 78 && sample->source_count == 0)
        cfg_complain(report, "source", NULL, NULL, "there is none");
}

const struct cfg_schema sample_schema = {.sections = sections,
                                         .section_count = sizeof(sections) / sizeof(sections[0]),
                                         .samples = samples,
                                         .sample_count = sizeof(samples) / sizeof(samples[0]),
                                         .root_size = sizeof(struct sample),
                                         .check = check};

enum obx_code sample_load(const char *text, const char *const *env, struct cfg **out,
                          struct obx_buf *problems, struct obx_err *err)
{
    /* environ is not const; the loader takes it as it is and does not write to it. */
    union {
        const char *const *given;
        char *const *wanted;
    } variables = {.given = env};
    const struct cfg_input input = {
        .path = "relay.conf", .text = bytes_of(text), .env = variables.wanted};

    return cfg_load(&sample_schema, &input, out, problems, err);
}

struct cfg *sample_must_load(const char *text, const char *const *env)
{
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;

    if (sample_load(text, env, &cfg, &problems, &err) != OBX_OK)
        fail_msg("%s\n%s", err.text, problems.data);
    assert_int_equal(problems.len, 0);
    buf_fini(&problems);
    return cfg;
}

void sample_must_fail(const char *text, const char *const *env, const char *expected)
{
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;

    assert_int_equal(sample_load(text, env, &cfg, &problems, &err), OBX_E_CONFIG);
    assert_null(cfg);
    assert_int_equal(err.code, OBX_E_CONFIG);
    assert_string_equal(problems.data, expected);
    buf_fini(&problems);
}
