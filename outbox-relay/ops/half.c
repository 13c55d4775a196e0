/*
 * Half-messages: half-messages and what was asked, answered and decided of them. An operator
 * decides what nobody else could, or has the producer asked again; who and why are recorded with the
 * half-message and in its history. A verdict is given by the same code as the relay's own.
 */
#include <string.h>

#include "config/relay_config.h"
#include "half/api/half_json.h"
#include "human.h"
#include "outbox_state.h"
#include "resources.h"

#define OPERATOR "operator:"

static const struct column columns[] = {
    {"t.gid", "gid", "GID", "gid", COLUMN_TEXT, false},
    {"t.state", "state", "STATE", "state", COLUMN_TEXT, false},
    {"t.producer", "producer", "PRODUCER", "producer", COLUMN_TEXT, false},
    {"t.prepared_at", "prepared_at", "PREPARED", "prepared", COLUMN_TIME, false},
    {"t.next_check_at", "next_check_at", "CHECK DUE", "check due", COLUMN_TIME, false},
    {"t.checks_asked", "checks_asked", ">ASKED", NULL, COLUMN_NUMBER, false},
    {"t.checks_answered", "checks_answered", ">ANSWERED", NULL, COLUMN_NUMBER, false},
    {"CONCAT(t.checks_asked, ' times, ', t.checks_answered, ' answers that decided nothing')", NULL,
     NULL, "asked", COLUMN_TEXT, false},
    {"t.decided_at", "decided_at", NULL, "decided", COLUMN_TIME, false},
    {"t.decided_by", "decided_by", "DECIDED BY", "decided by", COLUMN_TEXT, false},
    {"t.note", "note", "NOTE", "note", COLUMN_TEXT, false},
};

static const struct column part_columns[] = {
    {"t.verdict", "on", "ON", NULL, COLUMN_TEXT, false},
    {"t.message_id", "message_id", "MESSAGE", NULL, COLUMN_TEXT, false},
    {"t.topic", "topic", "TOPIC", NULL, COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", "KEY", NULL, COLUMN_TEXT, false},
    {"LENGTH(t.payload)", "payload_bytes", ">SIZE", NULL, COLUMN_SIZE, false},
    {"t.content_type", "content_type", "TYPE", NULL, COLUMN_TEXT, false},
};
static const struct column event_columns[] = {
    {"t.at", "at", "AT", NULL, COLUMN_TIME, false},
    {"t.event", "event", "EVENT", NULL, COLUMN_TEXT, false},
    {"t.actor", "actor", "WHO", NULL, COLUMN_TEXT, false},
    {"t.detail", "detail", "WHAT", NULL, COLUMN_TEXT, false},
};
static const struct detail details[] = {
    {"messages", " FROM half_part t WHERE t.gid = ? ORDER BY t.verdict, t.seq",
     COLUMNS_OF(part_columns)},
    {"history", " FROM half_history t WHERE t.gid = ? ORDER BY t.id DESC LIMIT 50",
     COLUMNS_OF(event_columns)},
};

static const struct filter filters[] = {{CTL_PRODUCER, "t.producer = ?"}};
static const char *const states[] = {"prepared", "parked", "committed", "rolled_back", NULL};

/* Those that nobody is to be asked about any more, which are all but the prepared ones, are in the
 * order of their gids within a producer. */
static const struct path paths[] = {
    {.option = CTL_STATE,
     .index = "due",
     /* Without the state among what is distinct, all of its rows would be read. */
     .values = "SELECT d.producer FROM (SELECT DISTINCT state, producer FROM half_message"
               " FORCE INDEX (due)) d WHERE d.state = ?",
     .condition = " AND t.producer = ?",
     .options = {CTL_PRODUCER, CTL_OPTION_COUNT},
     .splits = {" AND t.next_check_at IS NULL", " AND t.next_check_at IS NOT NULL"}}};

/* The source that has the half-messages; without a [half] section, the only one there is. */
static const struct target *choose(const struct targets *targets)
{
    const struct relay_config *config = targets->config;

    for (size_t i = 0; config != NULL && i < targets->count; i++)
        if (strcmp(targets->items[i].source, config->half.source) == 0)
            return &targets->items[i];
    return targets->count == 1 ? &targets->items[0] : NULL;
}

const struct resource half_rows = {.noun = "half-message",
                                   .group = "half",
                                   .none = "there is none; --state any shows those of every state",
                                   .side = SCHEMA_HALF,
                                   .table = "half_message",
                                   .key = "t.gid",
                                   .has_text_key = true,
                                   COLUMNS_OF(columns),
                                   FILTERS_OF(filters),
                                   .states = states,
                                   .state = "parked",
                                   PATHS_OF(paths),
                                   DETAILS_OF(details),
                                   .choose = choose};

/* ---- deciding ---- */

/* Who gives the verdict, and where its messages go. */
struct decider {
    char actor[HALF_ACTOR_MAX + 1];
    const char *outbox;
    bool made_rows; /* in the outbox */
};

/* "operator:" before the name tells a person's verdict from a producer's in the history. */
static struct decider decider_of(const struct request *request)
{
    const struct relay_config *config = request->session.targets.config;
    struct decider decider = {.outbox = request->session.args->text[CTL_OUTBOX]};

    if (decider.outbox == NULL)
        decider.outbox = config != NULL ? config->half.store.outbox : "outbox";
    (void)snprintf(decider.actor, sizeof(decider.actor), OPERATOR "%.*s",
                   (int)(sizeof(decider.actor) - sizeof(OPERATOR)), request->by);
    return decider;
}

static void note_verdict(struct request *request, struct item *item, const struct half_request *req)
{
    const bool is_commit = req->verdict == HALF_COMMIT;
    char time[HUMAN_MAX];

    human_time_us(req->rec.decided_us, time);
    switch (req->answer) {
    case HALF_ANS_OK:
        item->fate = FATE_DONE;
        if (req->is_repeat)
            item_set(request, item, FATE_DONE, "%s before, by %s at %s",
                     is_commit ? "was committed" : "was rolled back", req->rec.decided_by, time);
        return;
    case HALF_ANS_CONFLICT:
        item_set(request, item, FATE_REFUSED, "%s, by %s at %s",
                 is_commit ? "it was rolled back" : "it was committed", req->rec.decided_by, time);
        return;
    case HALF_ANS_NOT_FOUND:
        item_set(request, item, FATE_REFUSED, "there is no such half-message");
        return;
    case HALF_ANS_BUSY:
        item_set(request, item, FATE_REFUSED, "another transaction holds it; try again");
        return;
    case HALF_ANS_REUSED:
    case HALF_ANS_FAILED:
        break;
    }
    item_set(request, item, FATE_REFUSED, "%s", req->err.text);
}

/* One request in a batch of its own: what is wrong with one says nothing of the next. */
static enum obx_code decide_one(struct request *request, struct decider *decider, struct item *item,
                                struct obx_err *err)
{
    struct half_request req = {
        .kind = HALF_REQ_VERDICT,
        .gid = bytes_of(item->word),
        .verdict = strcmp(request->action->done, "committed") == 0 ? HALF_COMMIT : HALF_ROLLBACK,
        .actor = decider->actor,
        .note = request->note};
    struct half_request *reqs[] = {&req};
    bool made_rows = false;
    enum obx_code rc =
        half_batch_run(request->session.db, decider->outbox, reqs, 1, &made_rows, err);

    decider->made_rows = decider->made_rows || made_rows;
    if (rc == OBX_OK)
        note_verdict(request, item, &req);
    return rc;
}

/* Parked: prepared again, all tries before it, due at once. */
static enum obx_code unpark_one(struct request *request, struct decider *decider, struct item *item,
                                struct obx_err *err)
{
    struct db *db = request->session.db;
    uint64_t changed = 0;
    enum obx_code rc = db_begin(db, err);

    if (rc == OBX_OK)
        rc = db_exec(db,
                     "UPDATE half_message SET state = 'prepared', checks_answered = 0, note = ?, "
                     "next_check_at = UTC_TIMESTAMP(6) WHERE gid = ? AND state = 'parked'",
                     DB_ARGS(DB_TEXT(request->note), DB_TEXT(item->word)), &changed, err);
    if (rc == OBX_OK && changed > 0)
        rc = db_exec(db,
                     "INSERT INTO half_history (gid, event, actor, detail) "
                     "VALUES (?, 'resumed', ?, ?)",
                     DB_ARGS(DB_TEXT(item->word), DB_TEXT(decider->actor), DB_TEXT(request->note)),
                     NULL, err);
    if (rc == OBX_OK)
        rc = db_commit(db, err);
    else
        (void)db_rollback(db, NULL);
    if (rc == OBX_OK && changed == 0)
        item_set(request, item, FATE_REFUSED, "it is not parked");
    return rc;
}

/* One after the other. After a failure, whose outcome may be unknown, the rest is left alone, and
 * the report says so of each. */
static enum obx_code run(struct request *request, struct item *items, size_t count,
                         const struct id_list *ids, struct obx_err *err)
{
    const bool is_resume = strcmp(request->action->done, "resumed") == 0;
    const struct session *session = &request->session;
    struct decider decider = decider_of(request);
    struct outbox_state lease = {0};
    enum obx_code rc = OBX_OK;

    (void)ids;
    for (size_t i = 0; i < count; i++) {
        if (rc != OBX_OK)
            item_set(request, &items[i], FATE_REFUSED, "left alone, after the failure before it");
        else
            rc = is_resume ? unpark_one(request, &decider, &items[i], err)
                           : decide_one(request, &decider, &items[i], err);
        if (rc != OBX_OK && items[i].fate == FATE_WAITING)
            item_set(request, &items[i], FATE_REFUSED, "%s", err->text);
    }
    if (decider.made_rows && outbox_lease_read(session->db, decider.outbox, &lease, NULL) == OBX_OK)
        target_ring(&session->targets, session->target, decider.outbox, lease.address);
    return OBX_OK;
}

#define NEEDS_NOTE "it is recorded who decided, and why"
const struct action half_commit = {.done = "committed", .needs_note = NEEDS_NOTE, .run = run};
const struct action half_rollback = {.done = "rolled back", .needs_note = NEEDS_NOTE, .run = run};
const struct action half_resume = {.done = "resumed", .needs_note = NEEDS_NOTE, .run = run};
