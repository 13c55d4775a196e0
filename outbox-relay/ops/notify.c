/*
 * Notifications: calls to HTTP endpoints, as inbox-relay keeps them. What is written here, the
 * process that makes the calls obeys within a second or so.
 */
#include <string.h>

#include "resources.h"

static const struct column columns[] = {
    {"t.id", "id", ">ID", "ID", COLUMN_NUMBER, false},
    {"t.consumer_group", "group", NULL, "group", COLUMN_TEXT, false},
    {"t.endpoint", "endpoint", "ENDPOINT", "endpoint", COLUMN_TEXT, false},
    {"COALESCE(e.is_paused, 0)", "is_paused", NULL, NULL, COLUMN_BOOL, false},
    {"IF(e.is_paused, e.reason, NULL)", "pause_note", NULL, "paused", COLUMN_TEXT, false},
    {"t.state", "state", "STATE", "state", COLUMN_TEXT, false},
    {"t.message_id", "message_id", "MESSAGE", "message id", COLUMN_TEXT, false},
    {"t.topic", "topic", "TOPIC", "topic", COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", NULL, "ordering key", COLUMN_TEXT, false},
    {"t.attempts", "attempts", ">ATTEMPTS", "attempts", COLUMN_NUMBER, false},
    {"CASE WHEN t.state <> 'waiting' THEN NULL WHEN e.is_paused THEN 'paused'"
     " ELSE CONCAT(LEFT(t.due_at, 19), 'Z') END",
     NULL, "NEXT", NULL, COLUMN_TEXT, false},
    {"t.due_at", "due_at", NULL, NULL, COLUMN_TIME, false},
    {"IF(t.state = 'waiting', t.due_at, NULL)", NULL, NULL, "next call", COLUMN_TIME, false},
    {"IF(t.state = 'waiting', NULL, t.due_at)", NULL, NULL, "kept until", COLUMN_TIME, false},
    {"t.created_at", "created_at", NULL, "created", COLUMN_TIME, false},
    {"t.recorded_at", "recorded_at", NULL, "recorded", COLUMN_TIME, false},
    {"t.last_at", "last_at", NULL, "last call", COLUMN_TIME, false},
    {"t.last_status", "last_status", ">STATUS", "status", COLUMN_NUMBER, false},
    {"t.last_error", "reason", "BECAUSE", "because", COLUMN_TEXT, false},
    {"t.content_type", "content_type", NULL, "content type", COLUMN_TEXT, false},
    {"t.body", "payload", NULL, NULL, COLUMN_PAYLOAD, true},
};

static const struct filter filters[] = {
    {CTL_ENDPOINT, "t.endpoint = ?"},
    {CTL_GROUP, "t.consumer_group = ?"},
    {CTL_TOPIC, "t.topic"},
    {CTL_MESSAGE, "t.message_id = ?"},
};
static const char *const states[] = {"waiting", "delivered", "given_up", NULL};

/* What is not delivered is little beside the rest. It is in the order of its times there, so that a
 * page sorts all of it: good for one page. */
static const struct path paths[] = {
    {.option = CTL_MESSAGE, .index = "message"},
    {.option = CTL_STATE,
     .except = "delivered",
     .for_one_page = true,
     .index = "due",
     .values = "SELECT DISTINCT consumer_group, endpoint FROM inbox_call FORCE INDEX (due)",
     .condition = " AND t.consumer_group = ? AND t.endpoint = ?",
     .options = {CTL_GROUP, CTL_ENDPOINT}}};

const struct resource notify_rows = {
    .noun = "notification",
    .group = "notify",
    .none = "no notification is like that",
    .side = SCHEMA_NOTIFY,
    .table = "inbox_call",
    .join = " LEFT JOIN inbox_endpoint e ON e.consumer_group = t.consumer_group AND"
            " e.endpoint = t.endpoint",
    .key = "t.id",
    COLUMNS_OF(columns),
    FILTERS_OF(filters),
    .states = states,
    PATHS_OF(paths)};

/* ---- resend ---- */

/* No request: inbox-relay reads what is due by itself, so that a due row is all there is to ask. A
 * call that is being made meanwhile records its outcome only if the attempts are as it left them. */
static enum obx_code make_due(struct request *request, struct item *items, size_t count,
                              const struct id_list *ids, struct obx_err *err)
{
    (void)items;
    (void)count;
    return db_exec(request->session.db,
                   "UPDATE " ID_LIST_TABLE
                   " STRAIGHT_JOIN inbox_call t FORCE INDEX (PRIMARY) ON t.id = k.id SET"
                   " t.state = 'waiting', t.due_at = UTC_TIMESTAMP(6), t.attempts = 0",
                   DB_ARGS(ID_LIST_ARG(ids)), NULL, err);
}

const struct action notify_resend = {
    .done = "due again", .state = "given_up", .empty_is_failure = true, .run = make_due};
/* Of one message all are meant, whatever became of them. */
const struct action notify_resend_message = {
    .done = "due again", .empty_is_failure = true, .run = make_due};
