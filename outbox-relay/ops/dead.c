/*
 * Dead messages: messages that a consumer could not apply, and what operators have ended or changed
 * of them. What an operator asks for is written into the row; a consumer of the group runs it, within
 * a second where one is there.
 */
#include <string.h>

#include "history.h"
#include "resources.h"

#define MAY_REPLAY " AND t.replay_until >= UTC_TIMESTAMP(6) AND t.is_reported = 0"

/* The body is empty then; an edited one takes the place of the pieces. */
#define IN_PIECES "t.pieces > 0 AND t.is_edited = 0"

static const struct column columns[] = {
    {"t.id", "id", ">ID", "ID", COLUMN_NUMBER, false},
    {"t.consumer_group", "group", "GROUP", "group", COLUMN_TEXT, false},
    {"t.state", "state", "STATE", "state", COLUMN_TEXT, false},
    {"t.message_id", "message_id", NULL, "message id", COLUMN_TEXT, false},
    {"t.topic", "topic", "TOPIC", "topic", COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", "KEY", "ordering key", COLUMN_TEXT, false},
    {"t.size", "size_bytes", NULL, NULL, COLUMN_SIZE, false}, /* properties, too */
    {"t.attempts", "attempts", ">ATTEMPTS", "attempts", COLUMN_NUMBER, false},
    {"t.last_failed_at", NULL, "FAILED", NULL, COLUMN_TIME, false},
    {"t.reason_code", "reason_code", "REASON", "reason", COLUMN_TEXT, false},
    {"t.request", "request", "REQUEST", NULL, COLUMN_TEXT, false},
    {"t.reason", "reason", "BECAUSE", "because", COLUMN_TEXT, false},
    {"t.parked_at", "parked_at", NULL, "parked", COLUMN_TIME, false},
    {"t.first_failed_at", "first_failed_at", NULL, "first failed", COLUMN_TIME, false},
    {"t.last_failed_at", "last_failed_at", NULL, "last failed", COLUMN_TIME, false},
    {"t.next_at", "next_at", NULL, "next", COLUMN_TIME, false},
    {"t.replay_until", "replay_until", NULL, NULL, COLUMN_TIME, false},
    {"t.replay_until < UTC_TIMESTAMP(6)", "is_too_old", NULL, NULL, COLUMN_BOOL, false},
    {"t.is_reported", "is_reported", NULL, NULL, COLUMN_BOOL, false},
    {"CASE WHEN t.state <> 'dead' THEN NULL"
     " WHEN t.is_reported THEN 'with --force only: its producer knows it as rejected'"
     " WHEN t.replay_until < UTC_TIMESTAMP(6)"
     " THEN 'with --force only: older than the dedup rows are kept'"
     " ELSE CONCAT('until ', LEFT(t.replay_until, 19), 'Z') END",
     NULL, NULL, "replay", COLUMN_TEXT, false},
    {"t.request", NULL, NULL, "request", COLUMN_TEXT, false},
    {"t.requested_by", "requested_by", NULL, "requested by", COLUMN_TEXT, false},
    {"t.requested_at", "requested_at", NULL, "requested at", COLUMN_TIME, false},
    {"t.request_note", "note", NULL, "note", COLUMN_TEXT, false},
    {"t.replays", "replays", NULL, "replays", COLUMN_NUMBER, false},
    {"t.is_edited", "is_edited", NULL, "edited", COLUMN_BOOL, false},
    {"IF(t.is_edited, 0, t.pieces)", "pieces", NULL, NULL, COLUMN_NUMBER, false},
    {"IF(" IN_PIECES
     ", CONCAT('in ', t.pieces, ' pieces; --payload raw writes them as one'), NULL)",
     NULL, NULL, "payload", COLUMN_TEXT, false},
    {"t.queue", "queue", NULL, "queue", COLUMN_TEXT, true},
    {"t.exchange", "exchange", NULL, "exchange", COLUMN_TEXT, true},
    {"t.routing_key", "routing_key", NULL, "routing key", COLUMN_TEXT, true},
    {"t.properties", "properties", NULL, "came with", COLUMN_LINES, true},
    {"IF(" IN_PIECES ", NULL, t.body)", "payload", NULL, NULL, COLUMN_PAYLOAD, true},
};

/* Those of --group are read along the primary key: most databases have one group, and dead rows are
 * few. A key is what one asks for when it stands still, and may be rare. */
static const struct filter filters[] = {
    {CTL_GROUP, "t.consumer_group = ?"},
    {CTL_TOPIC, "t.topic"},
    {CTL_REASON, "t.reason_code = ?"},
    {CTL_KEY, "t.ordering_key = ?"},
};
static const char *const states[] = {"dead", "waiting", "blocked", NULL};

static const struct path paths[] = {
    {.option = CTL_KEY,
     .index = "parked_key",
     .values = "SELECT DISTINCT consumer_group FROM inbox_parked FORCE INDEX (parked_key)",
     .condition = " AND t.consumer_group = ?",
     .options = {CTL_GROUP, CTL_OPTION_COUNT},
     .splits = {" AND t.is_reported = 0", " AND t.is_reported = 1"}}};

const struct resource dead_rows = {.noun = "parked message",
                                   .group = "dead",
                                   .none = "no message is like that",
                                   .side = SCHEMA_CONSUMER,
                                   .table = "inbox_parked",
                                   .key = "t.id",
                                   COLUMNS_OF(columns),
                                   FILTERS_OF(filters),
                                   .states = states,
                                   .state = "dead",
                                   PATHS_OF(paths),
                                   .piece = "SELECT piece FROM inbox_parked_piece"
                                            " WHERE parked_id = ? AND n = ?"};

static const struct column history_columns[] = {
    HISTORY_COLUMNS,
    {"t.consumer_group", "group", "GROUP", NULL, COLUMN_TEXT, false},
    {"t.parked_id", "parked_id", ">DEAD ID", NULL, COLUMN_NUMBER, false},
};

const struct resource dead_audit = {.noun = "entry",
                                    .group = "dead",
                                    .none = HISTORY_NONE,
                                    .side = SCHEMA_CONSUMER,
                                    .table = "inbox_audit",
                                    .key = "t.audit_id",
                                    .is_latest_first = true,
                                    COLUMNS_OF(history_columns),
                                    FILTERS_OF(history_filters),
                                    PATHS_OF(history_paths)};

/* ---- requests ---- */

static void refuse(struct request *request, struct item *item, const struct record *record)
{
    const struct obx_bytes standing = record_text(record, "request");
    const bool is_plain = strcmp(request->action->request, "replay") == 0;

    if (!bytes_is(record_text(record, "state"), "dead"))
        item_set(request, item, FATE_REFUSED, "is not dead");
    else if (!bytes_is_absent(standing))
        item_set(request, item, FATE_REFUSED, "has a request, %.*s", (int)standing.len,
                 (const char *)standing.p);
    else if (is_plain && record_number(record, "is_reported") != 0)
        item_set(request, item, FATE_REFUSED,
                 "its producer knows that it was rejected, and acts on that; --force to have it "
                 "take effect nevertheless");
    else if (is_plain && record_number(record, "is_too_old") != 0)
        item_set(request, item, FATE_REFUSED,
                 "older than the dedup rows are kept: nothing may tell any more whether a copy was "
                 "applied; --force if you know");
}

/* A row that is there without a request was replayed, whatever came of that: it may be dead again.
 * Who asked last, and when, stays in the row: ours was run, unless it is somebody else's. */
static enum fate settled(struct request *request, struct item *item, const struct record *record)
{
    char at[sizeof(request->began_at)];

    (void)bytes_to_text(record_text(record, "requested_at"), at, sizeof(at));
    if (bytes_is(record_text(record, "requested_by"), request->by) &&
        strcmp(at, request->began_at) >= 0)
        return FATE_DONE;
    item_set(request, item, FATE_REFUSED, "somebody else was first");
    return FATE_REFUSED;
}

static void explain(const struct request *request, const char *group, FILE *file)
{
    (void)request;
    fprintf(file,
            "group %s: a consumer of the group runs what is requested as soon as one is there\n",
            group);
}

static size_t body_values(const struct request *request, struct obx_value *values)
{
    values[0] = DB_U64(request->body.len);
    values[1] = DB_BYTES(request->body);
    return 2;
}

/* Each refuses what the statement would not mark either: the first says why, row by row, the second
 * is what holds when somebody else is faster. */
#define ACTION(word, what)                                                                         \
    .done = (word), .request = (what), .state = "dead", .empty_is_failure = true,                  \
    .place = "group", .refuse = refuse, .settled = settled, .explain = explain
#define DUE_NOW     ", t.next_at = UTC_TIMESTAMP(6)"
#define WITH_BODY   ", t.size = t.size - OCTET_LENGTH(t.body) + ?, t.is_edited = 1, t.body = ?"
#define EDIT_REASON "a message is changed: say why"

const struct action dead_replay = {ACTION("replayed", "replay"), .set = DUE_NOW,
                                   .only = " AND t.state = 'dead'" MAY_REPLAY};
const struct action dead_force_replay = {ACTION("replayed", "force-replay"), .set = DUE_NOW,
                                         .only = " AND t.state = 'dead'"};
const struct action dead_edit_replay = {
    ACTION("replayed", "replay"), .set = DUE_NOW WITH_BODY, .set_values = body_values,
    .only = " AND t.state = 'dead'" MAY_REPLAY, .needs_note = EDIT_REASON};
const struct action dead_edit_force_replay = {
    ACTION("replayed", "force-replay"), .set = DUE_NOW WITH_BODY, .set_values = body_values,
    .only = " AND t.state = 'dead'", .needs_note = EDIT_REASON};
const struct action dead_discard = {
    ACTION("discarded", "discard"), .set = DUE_NOW, .only = " AND t.state = 'dead'",
    .needs_note = "discarding is for ever: say why", .needs_yes = true};
