/*
 * outboxctl notify: calls to HTTP endpoints, as inbox-relay keeps them. What is written here, the
 * process that makes the calls obeys within a second or so.
 */
#include <string.h>

#include <jansson.h>

#include "outboxctl/engine/request.h"
#include "outboxctl/print/json_print.h"

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

static const struct resource notify = {
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

static const struct action resend = {
    .done = "due again", .state = "given_up", .empty_is_failure = true, .run = make_due};
/* Of one message all are meant, whatever became of them. */
static const struct action resend_message = {
    .done = "due again", .empty_is_failure = true, .run = make_due};

static enum ctl_exit run_resend(const struct ctl_args *args)
{
    return request_run(args, &notify, args->text[CTL_MESSAGE] != NULL ? &resend_message : &resend,
                       (struct obx_bytes){0});
}

/* ---- pause, resume ---- */

/* Whether there is a notification of the endpoint, or a pause: to tell a name from a mistake. */
static enum obx_code is_endpoint_known(struct db *db, const char *group, const char *endpoint,
                                       bool *is_known, struct obx_err *err)
{
    static const char sql[] =
        "SELECT EXISTS (SELECT 1 FROM inbox_call WHERE consumer_group = ? AND endpoint = ?)"
        " OR EXISTS (SELECT 1 FROM inbox_endpoint WHERE consumer_group = ?"
        " AND endpoint = ?)";
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db, sql, DB_ARGS(DB_TEXT(group), DB_TEXT(endpoint), DB_TEXT(group), DB_TEXT(endpoint)),
        &rows, err);

    *is_known = rc == OBX_OK && db_rows_next(rows) && db_rows_u64(rows, 0) != 0;
    db_rows_free(rows);
    return rc;
}

/* An active endpoint keeps its row, with who let it go on and why. */
static enum obx_code write_pause(const struct session *session, const char *group, bool is_paused,
                                 struct obx_err *err)
{
    static const char sql[] =
        "INSERT INTO inbox_endpoint"
        " (consumer_group, endpoint, is_paused, reason, changed_at, changed_by)"
        " VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), ?)"
        " ON DUPLICATE KEY UPDATE is_paused = VALUES(is_paused), reason = VALUES(reason),"
        " changed_at = VALUES(changed_at), changed_by = VALUES(changed_by)";
    const char *note = session->args->text[CTL_NOTE];
    char who[WHO_MAX];

    who_am_i(who);
    return db_exec(session->db, sql,
                   DB_ARGS(DB_TEXT(group), DB_TEXT(session->args->words[0]), DB_U64(is_paused),
                           DB_TEXT(note == NULL ? "" : note), DB_TEXT(who)),
                   NULL, err);
}

static void report_pause(const struct ctl_args *args, const char *group, bool is_paused,
                         bool is_known)
{
    json_t *object;

    if (!args->json) {
        printf("endpoint %s of group %s is %s%s\n", args->words[0], group,
               is_paused ? "paused" : "active",
               is_known ? "" : " (there is no notification of it yet; is the name right?)");
        return;
    }
    object = json_pack("{s:s, s:s, s:b, s:b}", "group", group, "endpoint", args->words[0],
                       "is_paused", is_paused, "is_known", is_known);
    json_print(object);
    json_decref(object);
}

/* A name that nothing is known of may be paused before its first message, but not resumed: that is a
 * mistake, and the endpoint that was meant stays paused. */
static enum ctl_exit set_pause(const struct ctl_args *args, bool is_paused)
{
    const char *group = args->text[CTL_GROUP] == NULL ? "notify" : args->text[CTL_GROUP];
    struct session session;
    struct obx_err err = {0};
    bool is_known = false;
    enum ctl_exit status;
    enum obx_code rc;

    if (args->word_count != 1)
        return ctl_usage(args, "%s takes the name of one endpoint", args->command->name);
    status = resource_open(args, &notify, &session);
    if (status != CTL_OK)
        return status;
    rc = is_endpoint_known(session.db, group, args->words[0], &is_known, &err);
    if (rc == OBX_OK && !is_known && !is_paused)
        rc = obx_fail(&err, OBX_E_NOT_FOUND, "nothing is known of an endpoint %s of group %s",
                      args->words[0], group);
    if (rc == OBX_OK)
        rc = write_pause(&session, group, is_paused, &err);
    if (rc == OBX_OK)
        report_pause(args, group, is_paused, is_known);
    else
        status = session_fail(&session, &err);
    session_close(&session);
    return status;
}

static enum ctl_exit run_pause(const struct ctl_args *args)
{
    return set_pause(args, true);
}

static enum ctl_exit run_resume(const struct ctl_args *args)
{
    return set_pause(args, false);
}

/* ---- the commands ---- */

#define FILTER                                                                                     \
    (CTL_BIT(ENDPOINT) | CTL_BIT(GROUP) | CTL_BIT(MESSAGE) | CTL_BIT(STATE) | CTL_BIT(TOPIC))
#define STATE_HELP "  --state STATE         waiting, delivered, given_up or any\n"
#define PAUSE_HELP                                                                                 \
    "  --group GROUP         of this consumer group (notify)\n"                                    \
    "  --note TEXT           why\n"

const struct ctl_command notify_commands[] = {
    {.name = "notify list",
     .options = CTL_TARGET | FILTER | CTL_BIT(LIMIT) | CTL_BIT(AFTER),
     .summary = "list calls to HTTP endpoints",
     .synopsis = "[FILTER...] [--limit N] [--after ID]",
     .help = "Lists calls to HTTP endpoints, as inbox-relay keeps them. --db names its database.\n"
             "NEXT is when the next call is due, or says that the endpoint is paused.\n"
             "\n" STATE_HELP,
     .run = resource_list,
     .subject = &notify},
    {.name = "notify show",
     .options = CTL_TARGET | CTL_BIT(PAYLOAD),
     .words = "ID",
     .summary = "show one of them",
     .synopsis = "[--payload raw]",
     .help = "Shows one notification: what became of its calls, and the beginning of its\n"
             "payload.\n",
     .run = resource_show,
     .subject = &notify},
    {.name = "notify resend",
     .options = CTL_TARGET | FILTER | CTL_BIT(ALL),
     .words = REQUEST_WORDS,
     .summary = "call again what was given up",
     .help = "Makes notifications due now, with a whole schedule before them. The receiver gets\n"
             "the same message id again. With filters those given up are meant, unless --state\n"
             "or --message says otherwise.\n"
             "\n" STATE_HELP "  --all                 everything that was given up\n",
     .exits = REQUEST_EXITS ", or none fits",
     .run = run_resend,
     .subject = &notify},
    {.name = "notify pause",
     .options = CTL_TARGET | CTL_BIT(GROUP) | CTL_BIT(NOTE),
     .words = "ENDPOINT",
     .summary = "stop the calls to an endpoint",
     .synopsis = "[--group GROUP] [--note TEXT]",
     .help = "Stops the calls to an endpoint, within a second; what is for it waits, without\n"
             "using up attempts. inbox-relay itself does the same with an endpoint that answers\n"
             "410 Gone.\n"
             "\n" PAUSE_HELP,
     .run = run_pause},
    {.name = "notify resume",
     .options = CTL_TARGET | CTL_BIT(GROUP) | CTL_BIT(NOTE),
     .words = "ENDPOINT",
     .summary = "let them go on",
     .synopsis = "[--group GROUP] [--note TEXT]",
     .help = "Lets the calls to a paused endpoint go on.\n"
             "\n" PAUSE_HELP,
     .run = run_resume},
    {0}};
