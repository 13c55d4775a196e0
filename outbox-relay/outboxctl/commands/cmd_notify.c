/*
 * outboxctl notify: what it may be asked, and endpoints paused and resumed. The table and what can be
 * done with it: ops/notify.c.
 */
#include <string.h>

#include <jansson.h>

#include "ops/resources.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/report.h"
#include "outboxctl/print/resource_page.h"

static enum ctl_exit run_resend(const struct ctl_args *args)
{
    return request_run(args, &notify_rows,
                       args->text[CTL_MESSAGE] != NULL ? &notify_resend_message : &notify_resend,
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
    status = resource_open(args, &notify_rows, &session);
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
     .subject = &notify_rows},
    {.name = "notify show",
     .options = CTL_TARGET | CTL_BIT(PAYLOAD),
     .words = "ID",
     .summary = "show one of them",
     .synopsis = "[--payload raw]",
     .help = "Shows one notification: what became of its calls, and the beginning of its\n"
             "payload.\n",
     .run = resource_show,
     .subject = &notify_rows},
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
     .subject = &notify_rows},
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
