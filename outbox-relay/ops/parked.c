/*
 * Parked messages: messages that a relay has given up for now, and what operators have ended of
 * them. What an operator asks for is written into the row; the lane that owns the lease does it.
 */
#include <inttypes.h>
#include <string.h>

#include "history.h"
#include "human.h"
#include "outbox_state.h"
#include "resources.h"

static const struct column columns[] = {
    {"t.parked_id", "id", ">ID", "ID", COLUMN_NUMBER, false},
    {"t.outbox", "outbox", "OUTBOX", "outbox", COLUMN_TEXT, false},
    {"t.id", "row_id", NULL, "row", COLUMN_NUMBER, false},
    {"t.message_id", "message_id", NULL, "message id", COLUMN_TEXT, false},
    {"t.topic", "topic", "TOPIC", "topic", COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", "KEY", "ordering key", COLUMN_TEXT, false},
    {"OCTET_LENGTH(t.payload)", "payload_bytes", ">SIZE", NULL, COLUMN_SIZE, false},
    {"t.created_at", "created_at", NULL, "created", COLUMN_TIME, false},
    {"t.parked_at", "parked_at", "PARKED", "parked", COLUMN_TIME, false},
    {"TIMESTAMPDIFF(MICROSECOND, t.parked_at, UTC_TIMESTAMP(6)) DIV 1000", "age_ms", NULL, NULL,
     COLUMN_NUMBER, false},
    {"t.attempts", "attempts", ">TRIES", "attempts", COLUMN_NUMBER, false},
    {"t.holds_key", "holds_key", NULL, NULL, COLUMN_BOOL, false},
    {"t.blocked_by", "blocked_by", NULL, NULL, COLUMN_NUMBER, false},
    {"NULL", NULL, "BLOCKED BY", "frozen key", COLUMN_TEXT, false}, /* place_in_key */
    {"t.reason_code", "reason_code", "REASON", "reason", COLUMN_TEXT, false},
    {"t.request", "request", "REQUEST", NULL, COLUMN_TEXT, false},
    {"t.reason", "reason", "BECAUSE", "because", COLUMN_TEXT, false},
    {"t.request", NULL, NULL, "request", COLUMN_TEXT, false},
    {"t.requested_by", "requested_by", NULL, "requested by", COLUMN_TEXT, false},
    {"t.requested_at", "requested_at", NULL, "requested at", COLUMN_TIME, false},
    {"t.request_note", "note", NULL, "note", COLUMN_TEXT, false},
    {"t.content_type", "content_type", NULL, "content type", COLUMN_TEXT, false},
    {"t.headers", "headers", NULL, "headers", COLUMN_TEXT, true},
    {"t.payload", "payload", NULL, NULL, COLUMN_PAYLOAD, true},
};

static const struct counted followers = {
    "followers", "holds_key",
    "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_parked t FORCE INDEX (PRIMARY) STRAIGHT_JOIN"
    " outbox_parked f FORCE INDEX (outbox_key) ON f.outbox = t.outbox AND f.holds_key = 0 AND"
    " f.ordering_key = t.ordering_key AND f.blocked_by = t.id WHERE t.parked_id = ? LIMIT ?) c"};

/* Its place in a frozen key: the list and the page of one row have words of their own. */
static bool place_in_key(const struct record *record, const struct column *column,
                         struct obx_buf *out)
{
    const uint64_t head = record_number(record, "blocked_by");
    const bool is_head = record_number(record, "holds_key") != 0;
    const bool is_page = record->is_page;
    char number[HUMAN_MAX];
    enum obx_code rc = OBX_OK;

    if (column->head == NULL || strcmp(column->head, "BLOCKED BY") != 0)
        return false;
    human_count(record->counted, record->is_capped, number);
    if (is_head)
        rc = buf_addf(out, is_page ? "at its head; %s parked after it" : "(head of %s)", number);
    else if (head != 0)
        rc = buf_addf(out, is_page ? "blocked by row %" PRIu64 " of the same key" : "%" PRIu64,
                      head);
    return rc == OBX_OK;
}

static const struct filter filters[] = {
    {CTL_OUTBOX, "t.outbox = ?"},
    {CTL_TOPIC, "t.topic"},
    {CTL_REASON, "t.reason_code = ?"},
    {CTL_KEY, "t.ordering_key = ?"},
};

/* A key is asked for when it stands still: its head and any number of followers, or a few rows in a
 * large table. */
static const struct path paths[] = {
    {.option = CTL_KEY,
     .index = "outbox_key",
     .values = "SELECT DISTINCT outbox FROM outbox_parked FORCE INDEX (outbox_key)",
     .condition = " AND t.outbox = ?",
     .options = {CTL_OUTBOX, CTL_OPTION_COUNT},
     .splits = {" AND t.holds_key = 0", " AND t.holds_key = 1"}}};

const struct resource parked_rows = {.noun = "parked message",
                                     .group = "parked",
                                     .none = "nothing is parked here",
                                     .side = SCHEMA_PRODUCER,
                                     .table = "outbox_parked",
                                     .key = "t.parked_id",
                                     COLUMNS_OF(columns),
                                     FILTERS_OF(filters),
                                     PATHS_OF(paths),
                                     .counted = &followers,
                                     .describe = place_in_key};

/* ---- history ---- */

static const struct column history_columns[] = {
    HISTORY_COLUMNS,
    {"t.outbox", "outbox", "OUTBOX", NULL, COLUMN_TEXT, false},
    {"t.id", "row_id", ">ROW", NULL, COLUMN_NUMBER, false},
};

const struct resource parked_audit = {.noun = "entry",
                                      .group = "parked",
                                      .none = HISTORY_NONE,
                                      .side = SCHEMA_PRODUCER,
                                      .table = "outbox_audit",
                                      .key = "t.audit_id",
                                      .is_latest_first = true,
                                      COLUMNS_OF(history_columns),
                                      FILTERS_OF(history_filters),
                                      PATHS_OF(history_paths)};

/* ---- requests ---- */

static enum fate settled(struct request *request, struct item *item, const struct record *record)
{
    const struct obx_bytes why = record_text(record, "note");

    /* A follower's request was passed to the head of its key: it goes when the head goes. */
    if (item->is_first && strcmp(request->action->request, "resume") == 0)
        return FATE_WAITING;
    item_set(request, item, FATE_REFUSED, "%.*s", (int)why.len,
             why.len == 0 ? "" : (const char *)why.p);
    return FATE_REFUSED;
}

static void ring_owner(const struct request *request, const char *outbox)
{
    const struct session *session = &request->session;
    struct outbox_state lease = {0};

    if (outbox_lease_read(session->db, outbox, &lease, NULL) == OBX_OK)
        target_ring(&session->targets, session->target, outbox, lease.address);
}

/* Why nothing has happened yet is the owner's affair, and whether there is one is what one asks. */
static void explain(const struct request *request, const char *outbox, FILE *file)
{
    struct outbox_state lease = {0};

    if (outbox_lease_read(request->session.db, outbox, &lease, NULL) != OBX_OK)
        return;
    if (lease.is_owned)
        fprintf(file, "outbox %s: its owner %s has not come to it yet; the request stands\n",
                outbox, lease.owner);
    else
        fprintf(file,
                "outbox %s: no relay owns it now; the request stands and is run as soon as one "
                "does\n",
                outbox);
}

/* Followers of a frozen key come before their heads, and are waited for before a head is discarded:
 * discarding a head puts what still waits for it back. */
const struct action parked_resume = {.done = "resumed",
                                     .request = "resume",
                                     .place = "outbox",
                                     .first = "blocked_by",
                                     .settled = settled,
                                     .wake = ring_owner,
                                     .explain = explain};
const struct action parked_discard = {
    .done = "discarded",
    .request = "discard",
    .needs_note = "discarding is for ever: say why",
    .needs_yes = true,
    .place = "outbox",
    .first = "blocked_by",
    .first_stuck =
        "the messages that frozen keys hold up are not discarded yet, so their heads were "
        "left alone; run the command again, or give it a longer --wait",
    .settled = settled,
    .wake = ring_owner,
    .explain = explain};
