/*
 * What the tables of a consumer's database say of a message: dedup, what waits or is dead, the inbox,
 * calls over HTTP, audit. Called by trace.c.
 */
#include <inttypes.h>
#include <string.h>

#include "trace_private.h"

enum { IDS_MAX = 50 };
/* As those of trace_source.c. */
enum {
    RANK_APPLIED = 40,
    RANK_DELIVERED = 45,
    RANK_DISCARDED = 48,
    RANK_INBOX = 50,
    RANK_CALL = 55,
    RANK_WAITS = 70,
    RANK_DEAD = 92
};

static const struct column applied_fields[] = {
    {"t.consumer_group", "group", NULL, NULL, COLUMN_TEXT, false},
};
static const struct trace_event applied_events[] = {
    {"t.applied_at",
     "IF(t.outcome IS NULL, CONCAT('applied by group ', t.consumer_group), CONCAT(t.outcome, ' by"
     " group ', t.consumer_group, IF(t.reason IS NULL, '', CONCAT(': ', t.reason))))",
     RANK_APPLIED}};

static const struct column dead_fields[] = {
    {"t.id", "parked_id", NULL, NULL, COLUMN_NUMBER, false},
    {"t.consumer_group", "group", NULL, NULL, COLUMN_TEXT, false},
    {"t.state", "state", NULL, NULL, COLUMN_TEXT, false},
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
    {"t.attempts", "attempts", NULL, NULL, COLUMN_NUMBER, false},
    {"t.reason_code", "reason_code", NULL, NULL, COLUMN_TEXT, false},
};
#define BECAUSE "t.reason_code, IF(t.reason = '', '', CONCAT(', ', t.reason))"
static const struct trace_event dead_events[] = {
    {"t.parked_at", "CONCAT('taken off queue ', t.queue, ' by group ', t.consumer_group)", 0},
    {"t.first_failed_at",
     "IF(t.first_failed_at = t.last_failed_at, NULL, CONCAT('first attempt of group ',"
     " t.consumer_group, ' failed'))",
     0},
    {"t.last_failed_at",
     "CONCAT('attempt ', t.attempts, ' of group ', t.consumer_group, ' failed: ', " BECAUSE ")", 0},
    {"COALESCE(t.last_failed_at, t.parked_at)",
     "IF(t.state = 'dead', CONCAT('dead at group ', t.consumer_group, ': ', " BECAUSE
     ", IF(t.is_reported, '; its producer knows that it was rejected', '')), NULL)",
     RANK_DEAD},
    {"COALESCE(t.next_at, t.parked_at)",
     "CASE t.state WHEN 'waiting' THEN CONCAT('waits for the next attempt of group ',"
     " t.consumer_group) WHEN 'blocked' THEN CONCAT('waits for an earlier message of its key at "
     "group"
     " ', t.consumer_group) ELSE NULL END",
     RANK_WAITS},
    {"t.requested_at",
     "IF(t.request IS NULL, NULL, CONCAT(t.request, ' requested by ', t.requested_by,"
     " IF(t.request_note = '', '', CONCAT(': ', t.request_note)), '; the request stands'))",
     0}};

static const struct trace_event audit_events[] = {
    {"t.done_at", "CONCAT(t.action, ' at ', t.consumer_group, ' by ', t.actor, ': ', t.note)",
     RANK_DISCARDED}};

static const struct column call_fields[] = {
    {"t.id", "id", NULL, NULL, COLUMN_NUMBER, false},
    {"t.endpoint", "endpoint", NULL, NULL, COLUMN_TEXT, false},
    {"t.state", "state", NULL, NULL, COLUMN_TEXT, false},
    {"t.attempts", "attempts", NULL, NULL, COLUMN_NUMBER, false},
    {"t.last_status", "last_status", NULL, NULL, COLUMN_NUMBER, false},
};
static const struct trace_event call_events[] = {
    {"t.recorded_at", "CONCAT('recorded to be delivered to endpoint ', t.endpoint)", 0},
    {"t.last_at",
     "IF(t.last_at IS NULL, NULL, CONCAT('call ', t.attempts, ' to ', t.endpoint, ': ',"
     " IF(t.last_status IS NULL, 'no answer', CONCAT('status ', t.last_status)), IF(t.last_error IS"
     " NULL, '', CONCAT(', ', t.last_error))))",
     0},
    {"COALESCE(t.last_at, t.recorded_at)",
     "CASE t.state WHEN 'delivered' THEN CONCAT('delivered to endpoint ', t.endpoint) WHEN "
     "'given_up'"
     " THEN CONCAT('delivery to endpoint ', t.endpoint, ' was given up') ELSE NULL END",
     RANK_DELIVERED},
    {"t.due_at", "IF(t.state = 'waiting', CONCAT('next call to endpoint ', t.endpoint), NULL)",
     RANK_CALL}};

static const struct column inbox_fields[] = {
    {"t.id", "id", NULL, NULL, COLUMN_NUMBER, false},
    {"t.queue", "queue", NULL, NULL, COLUMN_TEXT, false},
    {"t.state", "state", NULL, NULL, COLUMN_TEXT, false},
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
    {"t.attempts", "attempts", NULL, NULL, COLUMN_NUMBER, false},
};
static const struct trace_event inbox_events[] = {
    {"t.received_at", "CONCAT('stored in the inbox of queue ', t.queue)", 0},
    {"t.last_failed_at",
     "IF(t.last_failed_at IS NULL, NULL, CONCAT('attempt ', t.attempts, ' of ', t.max_attempts,"
     " ' failed: ', " BECAUSE "))",
     0},
    {"COALESCE(t.last_failed_at, t.received_at)",
     "CASE t.state WHEN 'dead' THEN CONCAT('dead in the inbox of queue ', t.queue, ': ', " BECAUSE
     ") ELSE NULL END",
     RANK_DEAD},
    {"COALESCE(t.due_at, t.received_at)",
     "CASE t.state WHEN 'ready' THEN CONCAT('waits for a worker of queue ', t.queue) WHEN 'blocked'"
     " THEN CONCAT('waits for an earlier message of its key in the inbox of queue ', t.queue)"
     " WHEN 'done' THEN CONCAT('done by a worker of queue ', t.queue) WHEN 'discarded' THEN"
     " CONCAT('discarded in the inbox of queue ', t.queue) ELSE NULL END",
     RANK_INBOX},
    {"t.received_at", "IF(t.state = 'kept', CONCAT('done by a worker of queue ', t.queue), NULL)",
     RANK_INBOX}};

static const struct trace_lookup applied_lookup = {
    .table = "inbox_applied",
    .side = SCHEMA_CONSUMER,
    .by_id = " FROM (SELECT DISTINCT consumer_group FROM inbox_applied) g STRAIGHT_JOIN"
             " inbox_applied t FORCE INDEX (PRIMARY) ON t.consumer_group = g.consumer_group AND"
             " t.message_id = ? LIMIT 50",
    EVENTS_OF(applied_events),
    TRACE_FIELDS(applied_fields),
    .nothing = "no row: no group of this database has applied it, or longer ago than the rows are "
               "kept"};

static const struct trace_lookup lookups[] = {
    {.table = "inbox_parked",
     .side = SCHEMA_CONSUMER,
     .by_id =
         " FROM (SELECT DISTINCT consumer_group FROM inbox_parked FORCE INDEX (parked_message)) g"
         " STRAIGHT_JOIN inbox_parked t FORCE INDEX (parked_message) ON t.consumer_group ="
         " g.consumer_group AND t.message_id = ? LIMIT 50",
     .by_key =
         " FROM (SELECT DISTINCT consumer_group FROM inbox_parked FORCE INDEX (parked_message)) g"
         " STRAIGHT_JOIN inbox_parked t FORCE INDEX (parked_key) ON t.consumer_group ="
         " g.consumer_group AND t.ordering_key = ? LIMIT 50",
     EVENTS_OF(dead_events),
     TRACE_FIELDS(dead_fields)},
    {.table = "inbox_audit",
     .side = SCHEMA_CONSUMER,
     .by_id = " FROM inbox_audit t FORCE INDEX (audit_message) WHERE t.message_id = ? LIMIT 50",
     EVENTS_OF(audit_events)},
    {.table = "inbox_call",
     .side = SCHEMA_NOTIFY,
     .by_id = " FROM inbox_call t FORCE INDEX (message) WHERE t.message_id = ? LIMIT 50",
     EVENTS_OF(call_events),
     TRACE_FIELDS(call_fields)},
};
static const struct trace_lookup inbox_lookup = {
    .table = "inbox",
    .side = SCHEMA_INBOX,
    .by_key = " FROM (SELECT DISTINCT queue FROM inbox FORCE INDEX (inbox_due)) q STRAIGHT_JOIN"
              " inbox t FORCE INDEX (inbox_key) ON t.queue = q.queue AND t.key_hash ="
              " UNHEX(LEFT(SHA2(?, 256), 32)) LIMIT 50",
    EVENTS_OF(inbox_events),
    TRACE_FIELDS(inbox_fields)};

/* When a group has applied it: the row of the inbox was written in the same transaction. */
static uint64_t applied_since(const struct trace *trace, size_t first)
{
    for (size_t i = first; i < trace->count; i++)
        if (trace->items[i].kind == TRACE_FACT)
            return trace->items[i].at_us;
    return 0;
}

static enum obx_code look_into_inbox(struct tracer *tracer, uint64_t applied_us,
                                     struct obx_err *err)
{
    const struct trace_window window = {.table = "inbox",
                                        .time = "received_at",
                                        .condition = "t.message_id = ?",
                                        .value = bytes_of(tracer->opts->id),
                                        .near_us = applied_us};
    struct obx_buf from = {0};
    uint64_t ids[IDS_MAX];
    size_t count = 0, found = 0;
    bool is_whole = true;
    enum obx_code rc = trace_find(tracer, &window, ids, IDS_MAX, &count, &is_whole, err);

    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        buf_reset(&from);
        buf_addf(&from, " FROM inbox t FORCE INDEX (PRIMARY) WHERE t.id = %" PRIu64, ids[i]);
        rc = from.rc != OBX_OK
                 ? obx_fail(err, from.rc, "query")
                 : trace_look_from(tracer, &inbox_lookup, "inbox", from.data, &found, err);
    }
    buf_fini(&from);
    if (rc != OBX_OK || count > 0)
        return rc;
    return is_whole || applied_us > 0
               ? trace_add(tracer, TRACE_NOTHING, "inbox", "no row: not stored, or removed since")
               : trace_add(tracer, TRACE_UNKNOWN, "inbox",
                           "unknown, because this table has no index for it: it is not among the "
                           "first and last %d rows",
                           TRACE_WINDOW);
}

enum obx_code trace_ask_consumer(struct tracer *tracer, struct obx_err *err)
{
    const size_t first = tracer->out->count;
    size_t found = 0;
    enum obx_code rc;

    if (!trace_has_side(tracer, SCHEMA_CONSUMER))
        return trace_add(tracer, TRACE_UNKNOWN, NULL, "this database has no tables of a consumer");
    rc = trace_look(tracer, &applied_lookup, &found, err);
    if (rc == OBX_OK && trace_has_side(tracer, SCHEMA_INBOX))
        rc = tracer->opts->id != NULL
                 ? look_into_inbox(tracer, applied_since(tracer->out, first), err)
                 : trace_look(tracer, &inbox_lookup, &found, err);
    for (size_t i = 0; i < sizeof(lookups) / sizeof(lookups[0]) && rc == OBX_OK; i++)
        rc = trace_look(tracer, &lookups[i], &found, err);
    return rc;
}
