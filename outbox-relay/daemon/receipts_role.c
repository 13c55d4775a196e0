/*
 * The readers of receipts. What is wanted is what the newest configuration says; a reader that was
 * made from other values is stopped and, once it has ended, replaced. Called by daemon.c.
 */
#include "receipts_role.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { START_PAUSE_MS = 5000 };

struct reader {
    struct receipts *receipts;
    struct relay_config *config; /* reference: what it was made from */
    const struct source_config *source;
    bool is_stopping;
};

struct receipts_role {
    struct relay_config *wanted; /* reference; NULL: none */
    struct reader *readers;
    struct receipts_view *views; /* as many as readers */
    size_t count;
    uint64_t not_before_ms; /* after a start that failed */
};

enum obx_code receipts_role_create(struct receipts_role **out, struct obx_err *err)
{
    *out = obx_calloc(1, sizeof(**out));
    return *out != NULL ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "receipts");
}

static void free_reader(struct reader *reader)
{
    receipts_destroy(reader->receipts);
    relay_config_unref(reader->config);
}

void receipts_role_destroy(struct receipts_role *role)
{
    if (role == NULL)
        return;
    for (size_t i = 0; i < role->count; i++)
        receipts_stop(role->readers[i].receipts);
    for (size_t i = 0; i < role->count; i++)
        free_reader(&role->readers[i]);
    relay_config_unref(role->wanted);
    obx_free(role->readers);
    obx_free(role->views);
    obx_free(role);
}

void receipts_role_apply(struct receipts_role *role, struct relay_config *config)
{
    struct relay_config *old = role->wanted;

    role->wanted = config == NULL ? NULL : relay_config_ref(config);
    relay_config_unref(old);
    role->not_before_ms = 0;
}

void receipts_role_stop(struct receipts_role *role)
{
    if (role == NULL)
        return;
    receipts_role_apply(role, NULL);
    receipts_role_turn(role);
}

bool receipts_role_is_idle(const struct receipts_role *role)
{
    return role == NULL || role->count == 0;
}

static bool is_wanted(const struct receipts_role *role, const struct reader *reader)
{
    const struct source_config *source =
        role->wanted == NULL ? NULL : relay_config_source(role->wanted, reader->source->name);

    return source != NULL && relay_config_is_same(reader->config, role->wanted,
                                                  RESTARTS_LANE | RESTARTS_RECEIPTS, source->name);
}

static bool has_reader(const struct receipts_role *role, const char *source)
{
    for (size_t i = 0; i < role->count; i++) {
        if (strcmp(role->readers[i].source->name, source) == 0)
            return true;
    }
    return false;
}

/* Room for one more. */
static bool reserve(struct receipts_role *role)
{
    struct reader *readers = obx_realloc(role->readers, (role->count + 1) * sizeof(*readers));
    struct receipts_view *views = NULL;

    if (readers == NULL)
        return false;
    role->readers = readers;
    views = obx_realloc(role->views, (role->count + 1) * sizeof(*views));
    if (views == NULL)
        return false;
    role->views = views;
    return true;
}

static enum obx_code start_one(struct receipts_role *role, const struct source_config *source,
                               struct obx_err *err)
{
    struct reader *reader = NULL;
    struct receipts_opts opts = {.source = source->name,
                                 .queue = source->lane.receipt_queue,
                                 .db = source->lane.db,
                                 .bridge = source->lane.bridge,
                                 .retention_ms = source->receipt_retention_ms};
    enum obx_code rc = OBX_OK;

    if (!reserve(role))
        return obx_fail(err, OBX_E_NOMEM, "receipts");
    opts.bridge.connection_name = "outbox-relay receipts";
    reader = &role->readers[role->count];
    memset(reader, 0, sizeof(*reader));
    rc = receipts_create(&opts, &reader->receipts, err);
    if (rc != OBX_OK)
        return rc;
    reader->config = relay_config_ref(role->wanted);
    reader->source = relay_config_source(reader->config, source->name);
    role->count++;
    OBX_LOG(LOG_LVL_INFO, "receipts", "reader.started", KV_STR("source", source->name),
            KV_STR("queue", opts.queue));
    return OBX_OK;
}

static void start_missing(struct receipts_role *role)
{
    struct obx_err err = {0};

    for (size_t i = 0; role->wanted != NULL && i < role->wanted->source_count; i++) {
        const struct source_config *source = &role->wanted->sources[i];

        if (source->lane.receipt_queue == NULL || has_reader(role, source->name))
            continue;
        if (start_one(role, source, &err) == OBX_OK)
            continue;
        role->not_before_ms = clock_now_ms() + START_PAUSE_MS;
        OBX_LOG(LOG_LVL_ERROR, "receipts", "reader.start_failed", KV_STR("source", source->name),
                KV_ERR(&err));
    }
}

static bool has_ended(const struct reader *reader)
{
    struct receipts_stats stats;

    receipts_get_stats(reader->receipts, &stats);
    return stats.has_ended;
}

static void put_away(struct receipts_role *role, size_t at)
{
    OBX_LOG(LOG_LVL_INFO, "receipts", "reader.ended",
            KV_STR("source", role->readers[at].source->name));
    free_reader(&role->readers[at]);
    role->readers[at] = role->readers[--role->count];
}

void receipts_role_turn(struct receipts_role *role)
{
    if (role == NULL)
        return;
    for (size_t i = 0; i < role->count; i++) {
        struct reader *reader = &role->readers[i];

        if (!reader->is_stopping && !is_wanted(role, reader)) {
            reader->is_stopping = true;
            receipts_stop(reader->receipts);
        }
    }
    for (size_t i = role->count; i > 0; i--) {
        if (role->readers[i - 1].is_stopping && has_ended(&role->readers[i - 1]))
            put_away(role, i - 1);
    }
    if (clock_now_ms() >= role->not_before_ms)
        start_missing(role);
}

const struct receipts_view *receipts_role_views(struct receipts_role *role, size_t *count)
{
    for (size_t i = 0; i < role->count; i++) {
        role->views[i].source = role->readers[i].source->name;
        receipts_get_stats(role->readers[i].receipts, &role->views[i].stats);
    }
    *count = role->count;
    return role->views;
}
