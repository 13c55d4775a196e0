/*
 * What the tables of a source say of a message: outbox, delayed, journal, awaiting, receipts, parked,
 * audit, and half-messages by their gid. Called by trace.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "ops/outbox_state.h"
#include "trace_private.h"

enum { IDS_MAX = 50, OUTBOXES_MAX = 64, NAME_LEN = 65, US_PER_MS = 1000, HEX = 16 };

/* Facts by what they say of where the message is now: what waits for a person first. */
enum {
    RANK_PUBLISHED = 20,
    RANK_AWAITING = 30,
    RANK_RECEIPT = 35,
    RANK_ENDED = 38,
    RANK_DELAYED = 60,
    RANK_HALF = 62,
    RANK_OUTBOX = 65,
    RANK_PARKED = 90
};

#define OF_KEY "t.ordering_key = ?"

static const struct column name_fields[] = {
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
    {"OCTET_LENGTH(t.payload)", "payload_bytes", NULL, NULL, COLUMN_SIZE, false},
    {"t.id", "row_id", NULL, NULL, COLUMN_NUMBER, false},
};

static const struct trace_event outbox_events[] = {
    {"t.created_at",
     "CONCAT('written in its transaction, row ', t.id, '; waits here to be published')",
     RANK_OUTBOX}};
static const struct trace_lookup outbox_lookup = {
    .side = SCHEMA_PRODUCER, EVENTS_OF(outbox_events), TRACE_FIELDS(name_fields)};

static const struct trace_event delayed_events[] = {
    {"t.created_at", "CONCAT('written as a delayed message for ', t.outbox)", 0},
    {"t.deliver_at", "CONCAT('due: goes into ', t.outbox, ' then')", RANK_DELAYED}};

static const struct column journal_fields[] = {
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.outbox", "outbox", NULL, NULL, COLUMN_TEXT, false},
};
static const struct trace_event journal_events[] = {
    {"t.created_at", "CONCAT('written in its transaction into ', t.outbox)", 0},
    {"t.settled_at",
     "'published, confirmed by the broker and taken out of the outbox by then; which relay did it "
     "is"
     " unknown, because no table keeps it'",
     RANK_PUBLISHED}};

static const struct column awaiting_fields[] = {
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
    {"t.receipt_from", "receipt_from", NULL, NULL, COLUMN_TEXT, false},
    {"t.sends", "sends", NULL, NULL, COLUMN_NUMBER, false},
};
static const struct trace_event awaiting_events[] = {
    {"t.created_at", "CONCAT('written in its transaction into ', t.outbox)", 0},
    {"t.sent_at",
     "CONCAT('confirmed by the broker', IF(t.sends > 1, CONCAT(' for the ', t.sends, 'th time'),"
     " ''), '; waits for receipts of ', t.receipt_from)",
     RANK_AWAITING},
    {"t.next_send_at", "'will be sent again, unless the receipts have come by then'", 0}};

/* The id of a compensation is made as outbox/compensate.c makes it. */
static const struct trace_event receipt_events[] = {
    {"t.received_at",
     "IF(t.consumer_group = '', CONCAT('rejected; where the message names a compensation it was "
     "sent, as"
     " message rej-', IF(LENGTH(t.message_id) <= 60, CONVERT(t.message_id USING utf8mb4),"
     " LEFT(SHA2(t.message_id, 256), 60))), CONCAT('receipt of ', t.consumer_group, ': ', "
     "t.outcome,"
     " IF(t.reason IS NULL, '', CONCAT(', ', t.reason))))",
     RANK_RECEIPT}};

static const struct column parked_fields[] = {
    {"t.parked_id", "parked_id", NULL, NULL, COLUMN_NUMBER, false},
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
    {"t.outbox", "outbox", NULL, NULL, COLUMN_TEXT, false},
    {"t.reason_code", "reason_code", NULL, NULL, COLUMN_TEXT, false},
    {"t.attempts", "attempts", NULL, NULL, COLUMN_NUMBER, false},
    {"OCTET_LENGTH(t.payload)", "payload_bytes", NULL, NULL, COLUMN_SIZE, false},
};
static const struct trace_event parked_events[] = {
    {"t.created_at", "CONCAT('written in its transaction into ', t.outbox, ', row ', t.id)", 0},
    {"t.parked_at",
     "CONCAT('parked after ', t.attempts, IF(t.attempts = 1, ' attempt: ', ' attempts: '),"
     " t.reason_code, IF(t.reason = '', '', CONCAT(', ', t.reason)), IF(t.blocked_by IS NULL,"
     " IF(t.holds_key, '; its key is frozen by it', ''), CONCAT('; it waits for row ',"
     " t.blocked_by, ' of its frozen key')))",
     RANK_PARKED},
    {"t.requested_at",
     "IF(t.request IS NULL, NULL, CONCAT(t.request, ' requested by ', t.requested_by,"
     " IF(t.request_note = '', '', CONCAT(': ', t.request_note)), '; the request stands'))",
     0}};

static const struct trace_event audit_events[] = {
    {"t.done_at", "CONCAT(t.action, ' by ', t.actor, ': ', t.note)", RANK_ENDED}};

static const struct column half_fields[] = {
    {"t.gid", "gid", NULL, NULL, COLUMN_TEXT, false},
    {"t.producer", "producer", NULL, NULL, COLUMN_TEXT, false},
    {"t.state", "state", NULL, NULL, COLUMN_TEXT, false},
};
static const struct trace_event half_events[] = {
    {"t.prepared_at", "CONCAT('half-message prepared by ', t.producer)", 0},
    {"t.next_check_at",
     "IF(t.state = 'prepared', CONCAT('its producer will be asked; asked ', t.checks_asked,"
     " ' times so far'), NULL)",
     RANK_HALF},
    {"COALESCE(t.decided_at, t.prepared_at)",
     "IF(t.state = 'prepared', NULL, CONCAT(REPLACE(t.state, '_', ' '), IF(t.decided_by IS NULL,"
     " '', CONCAT(' by ', t.decided_by)), IF(t.note IS NULL OR t.note = '', '',"
     " CONCAT(': ', t.note))))",
     RANK_HALF}};

static const struct column part_fields[] = {
    {"t.message_id", "message_id", NULL, NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", NULL, NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, NULL, COLUMN_TEXT, false},
};
static const struct trace_event part_events[] = {
    {"NULL", "CONCAT('message ', t.message_id, ' of topic ', t.topic, ' goes out on ', t.verdict)",
     0}};
static const struct trace_event step_events[] = {
    {"t.at",
     "CONCAT(t.event, ' by ', t.actor, IF(t.detail IS NULL OR t.detail = '', '', CONCAT(': ',"
     " t.detail)))",
     0}};

/* The head of a frozen key apart from its followers, of which there may be any number. */
#define PARKED_OF_KEY(holds)                                                                       \
    " FROM (SELECT DISTINCT outbox FROM outbox_parked FORCE INDEX (outbox_key)) o STRAIGHT_JOIN"   \
    " outbox_parked t FORCE INDEX (outbox_key) ON t.outbox = o.outbox AND t.holds_key = " holds    \
    " AND " OF_KEY " LIMIT 50"

static const struct trace_lookup lookups[] = {
    {.table = "outbox_delayed",
     .side = SCHEMA_PRODUCER,
     .by_id = " FROM outbox_delayed t FORCE INDEX (message_id) WHERE t.message_id = ?",
     EVENTS_OF(delayed_events),
     TRACE_FIELDS(name_fields)},
    {.table = "outbox_journal",
     .side = SCHEMA_JOURNAL,
     .by_id = " FROM outbox_journal t FORCE INDEX (PRIMARY) WHERE t.is_custom IN (0, 1) AND"
              " t.message_id = ?",
     EVENTS_OF(journal_events),
     TRACE_FIELDS(journal_fields)},
    {.table = "outbox_awaiting",
     .side = SCHEMA_PRODUCER,
     .by_id = " FROM outbox_awaiting t FORCE INDEX (PRIMARY) WHERE t.message_id = ?",
     EVENTS_OF(awaiting_events),
     TRACE_FIELDS(awaiting_fields)},
    {.table = "outbox_receipt",
     .side = SCHEMA_PRODUCER,
     .by_id = " FROM outbox_receipt t FORCE INDEX (PRIMARY) WHERE t.message_id = ?",
     EVENTS_OF(receipt_events)},
    {.table = "outbox_parked",
     .side = SCHEMA_PRODUCER,
     .by_id = " FROM outbox_parked t FORCE INDEX (parked_message) WHERE t.message_id = ? LIMIT 50",
     .by_key = PARKED_OF_KEY("1"),
     EVENTS_OF(parked_events),
     TRACE_FIELDS(parked_fields)},
    {.table = "outbox_parked",
     .side = SCHEMA_PRODUCER,
     .by_key = PARKED_OF_KEY("0"),
     EVENTS_OF(parked_events),
     TRACE_FIELDS(parked_fields)},
    {.table = "outbox_audit",
     .side = SCHEMA_PRODUCER,
     .by_id = " FROM outbox_audit t FORCE INDEX (audit_message) WHERE t.message_id = ? LIMIT 50",
     EVENTS_OF(audit_events)},
    {.table = "half_message",
     .side = SCHEMA_HALF,
     .by_id = " FROM half_message t FORCE INDEX (PRIMARY) WHERE t.gid = ?",
     EVENTS_OF(half_events),
     TRACE_FIELDS(half_fields)},
    {.table = "half_part",
     .side = SCHEMA_HALF,
     .by_id = " FROM half_part t FORCE INDEX (PRIMARY) WHERE t.gid = ? LIMIT 50",
     EVENTS_OF(part_events),
     TRACE_FIELDS(part_fields)},
    {.table = "half_history",
     .side = SCHEMA_HALF,
     .by_id = " FROM half_history t FORCE INDEX (by_gid) WHERE t.gid = ? ORDER BY t.id LIMIT 50",
     EVENTS_OF(step_events)},
};

/* Milliseconds since 1970 that an id of ours begins with, as microseconds; 0: it is another one. */
static uint64_t time_of(const char *id)
{
    char digits[13];

    if (strlen(id) < 14 || id[8] != '-')
        return 0;
    snprintf(digits, sizeof(digits), "%.8s%.4s", id, id + 9);
    return strspn(digits, "0123456789abcdef") == sizeof(digits) - 1
               ? strtoull(digits, NULL, HEX) * US_PER_MS
               : 0;
}

static enum obx_code say_where_looked(struct tracer *tracer, const char *outbox, bool is_whole,
                                      bool has_time)
{
    if (is_whole)
        return trace_add(tracer, TRACE_NOTHING, outbox, "no row: it does not wait to be published");
    return trace_add(tracer, TRACE_UNKNOWN, outbox,
                     "unknown, because this table has no index for it: it is not among the first "
                     "and last %d rows%s",
                     TRACE_WINDOW, has_time ? ", nor among those of its time" : "");
}

static enum obx_code look_into_outbox(struct tracer *tracer, const char *outbox,
                                      struct obx_err *err)
{
    const char *id = tracer->opts->id;
    struct obx_buf table = {0}, from = {0};
    struct trace_window window = {.time = "created_at",
                                  .condition = id != NULL ? "t.message_id = ?" : OF_KEY,
                                  .value = bytes_of(id != NULL ? id : tracer->opts->key),
                                  .near_us = id != NULL ? time_of(id) : 0};
    uint64_t ids[IDS_MAX];
    size_t count = 0, found = 0;
    bool is_whole = true;
    enum obx_code rc = db_add_identifier(&table, outbox);

    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "query");
    window.table = table.data;
    if (rc == OBX_OK)
        rc = trace_find(tracer, &window, ids, IDS_MAX, &count, &is_whole, err);
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        buf_reset(&from);
        buf_addf(&from, " FROM %s t FORCE INDEX (PRIMARY) WHERE t.id = %" PRIu64, table.data,
                 ids[i]);
        rc = from.rc != OBX_OK
                 ? obx_fail(err, from.rc, "query")
                 : trace_look_from(tracer, &outbox_lookup, outbox, from.data, &found, err);
    }
    if (rc == OBX_OK && count == 0)
        rc = say_where_looked(tracer, outbox, is_whole, window.near_us != 0);
    buf_fini(&table);
    buf_fini(&from);
    return rc;
}

/* Those of the configuration, or those that the database knows. */
static enum obx_code look_into_outboxes(struct tracer *tracer, struct obx_err *err)
{
    const struct trace_place *place = tracer->place;
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;
    char name[NAME_LEN];

    for (size_t i = 0; i < place->outbox_count && rc == OBX_OK; i++)
        rc = look_into_outbox(tracer, place->outboxes[i], err);
    if (place->outbox_count > 0)
        return rc;
    rc = outbox_names_read(tracer->db, &rows, err);
    for (size_t i = 0; rc == OBX_OK && i < OUTBOXES_MAX && db_rows_next(rows); i++) {
        (void)bytes_to_text(db_rows_bytes(rows, 0), name, sizeof(name));
        rc = look_into_outbox(tracer, name, err);
    }
    db_rows_free(rows);
    return rc;
}

/* Without a journal nothing is left of a message that was published and asked for no receipts. */
static enum obx_code say_of_journal(struct tracer *tracer, size_t journal)
{
    if (tracer->opts->id == NULL || journal > 0)
        return OBX_OK;
    if (!tracer->place->has_journal)
        return trace_add(
            tracer, TRACE_UNKNOWN, "outbox_journal",
            "whether and when it was published is unknown, because the journal is off");
    return trace_add(tracer, TRACE_NOTHING, "outbox_journal",
                     "no row: not published yet, or longer ago than the journal is kept");
}

/* What is no text of the column's character set makes the server refuse the whole statement. */
static bool may_be_here(const struct trace_opts *opts)
{
    const unsigned char *at = (const unsigned char *)opts->id;

    if (at == NULL)
        return utf8_is_valid(bytes_of(opts->key));
    while (*at != '\0' && *at < 0x80)
        at++;
    return *at == '\0';
}

enum obx_code trace_ask_source(struct tracer *tracer, struct obx_err *err)
{
    size_t found = 0, journal = 0;
    enum obx_code rc = OBX_OK;

    if (!trace_has_side(tracer, SCHEMA_PRODUCER))
        return trace_add(tracer, TRACE_UNKNOWN, NULL, "this database has no outbox tables");
    if (!may_be_here(tracer->opts))
        return trace_add(tracer, TRACE_NOTHING, NULL,
                         "no row can have that: ids are ASCII and ordering keys UTF-8 here");
    rc = look_into_outboxes(tracer, err);
    for (size_t i = 0; i < sizeof(lookups) / sizeof(lookups[0]) && rc == OBX_OK; i++) {
        rc = trace_look(tracer, &lookups[i], &found, err);
        if (lookups[i].side == SCHEMA_JOURNAL)
            journal += found;
    }
    return rc == OBX_OK ? say_of_journal(tracer, journal) : rc;
}
