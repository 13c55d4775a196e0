/*
 * outboxctl half commit, half rollback and half resume: an operator decides what nobody else could,
 * or has the producer asked again. Who and why are recorded with the half-message and in its
 * history. A verdict is given by the same code as the relay's own.
 */
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "half/api/half_json.h"
#include "half_target.h"
#include "outboxctl/outbox_state.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/who.h"

#define OPERATOR "operator:"

struct decision {
    bool is_resume;
    enum half_verdict verdict; /* unless is_resume */
    const char *why;
    char actor[HALF_ACTOR_MAX + 1];
    bool made_rows; /* in the outbox: its owner is to be rung */
    json_t *report; /* NULL: words for people */
};

static enum ctl_exit complain(const char *what)
{
    fprintf(stderr, "outboxctl: %s\n", what);
    return CTL_USAGE;
}

static enum ctl_exit check_usage(const struct ctl_args *args)
{
    const char *note = args->text[CTL_NOTE];

    if (args->word_count == 0)
        return complain("which half-messages? GIDs, as half list shows them");
    if (note == NULL || note[0] == '\0')
        return complain("it is recorded who decided, and why: --note TEXT");
    if (strlen(note) > HALF_NOTE_MAX)
        return complain("--note is too long");
    for (size_t i = 0; i < args->word_count; i++)
        if (!half_gid_is_valid(bytes_of(args->words[i]))) {
            fprintf(stderr, "outboxctl: %s is no GID\n", args->words[i]);
            return CTL_USAGE;
        }
    return CTL_OK;
}

static void report(struct decision *decision, const char *gid, const char *result,
                   const struct half_record *rec)
{
    char time[HUMAN_MAX];

    if (decision->report != NULL)
        json_array_append_new(
            decision->report,
            json_pack("{s:s, s:s, s:s?, s:s?}", "gid", gid, "result", result, "state",
                      rec != NULL ? half_state_name(rec->state) : NULL, "decided_by",
                      rec != NULL && rec->decided_by[0] != '\0' ? rec->decided_by : NULL));
    else if (rec == NULL || rec->decided_us == 0)
        printf("%s: %s\n", gid, result);
    else
        printf("%s: %s, by %s at %s\n", gid, result, rec->decided_by,
               human_time_us(rec->decided_us, time));
}

/* True when it is as the operator wants it now. */
static bool report_verdict(struct decision *decision, const char *gid,
                           const struct half_request *req)
{
    const bool is_commit = req->verdict == HALF_COMMIT;

    switch (req->answer) {
    case HALF_ANS_OK:
        if (req->is_repeat)
            report(decision, gid, is_commit ? "was committed before" : "was rolled back before",
                   &req->rec);
        else
            report(decision, gid, is_commit ? "committed" : "rolled back", NULL);
        return true;
    case HALF_ANS_CONFLICT:
        report(decision, gid,
               is_commit ? "refused: it was rolled back" : "refused: it was committed", &req->rec);
        return false;
    case HALF_ANS_NOT_FOUND:
        report(decision, gid, "refused: there is no such half-message", NULL);
        return false;
    case HALF_ANS_BUSY:
        report(decision, gid, "refused: another transaction holds it; try again", NULL);
        return false;
    case HALF_ANS_REUSED:
    case HALF_ANS_FAILED:
        break;
    }
    report(decision, gid, req->err.text, NULL);
    return false;
}

static bool decide(struct half_target *half, struct decision *decision, const char *gid,
                   struct obx_err *err)
{
    struct half_request req = {.kind = HALF_REQ_VERDICT,
                               .gid = bytes_of(gid),
                               .verdict = decision->verdict,
                               .actor = decision->actor,
                               .note = decision->why};
    struct half_request *reqs[] = {&req};
    bool made_rows = false;

    if (half_batch_run(half->db, half->outbox, reqs, 1, &made_rows, err) != OBX_OK)
        return false;
    decision->made_rows = decision->made_rows || made_rows;
    return report_verdict(decision, gid, &req);
}

/* Parked: prepared again, all tries before it, due at once. */
static enum obx_code unpark(struct db *db, const struct decision *decision, const char *gid,
                            uint64_t *changed, struct obx_err *err)
{
    enum obx_code rc = db_begin(db, err);

    if (rc == OBX_OK)
        rc = db_exec(db,
                     "UPDATE half_message SET state = 'prepared', checks_answered = 0, note = ?, "
                     "next_check_at = UTC_TIMESTAMP(6) WHERE gid = ? AND state = 'parked'",
                     DB_ARGS(DB_TEXT(decision->why), DB_TEXT(gid)), changed, err);
    if (rc == OBX_OK && *changed > 0)
        rc = db_exec(db,
                     "INSERT INTO half_history (gid, event, actor, detail) "
                     "VALUES (?, 'resumed', ?, ?)",
                     DB_ARGS(DB_TEXT(gid), DB_TEXT(decision->actor), DB_TEXT(decision->why)), NULL,
                     err);
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

static bool resume(struct half_target *half, struct decision *decision, const char *gid,
                   struct obx_err *err)
{
    uint64_t changed = 0;

    if (unpark(half->db, decision, gid, &changed, err) != OBX_OK)
        return false;
    report(decision, gid, changed > 0 ? "resumed" : "refused: it is not parked", NULL);
    return changed > 0;
}

static void ring_owner(const struct half_target *half)
{
    struct outbox_state lease = {0};

    if (outbox_lease_read(half->db, half->outbox, &lease, NULL) == OBX_OK)
        target_ring(&half->targets, half->target, half->outbox, lease.address);
}

static enum ctl_exit decide_all(const struct ctl_args *args, struct half_target *half,
                                struct decision *decision)
{
    enum ctl_exit status = CTL_OK;

    for (size_t i = 0; i < args->word_count; i++) {
        struct obx_err err = {0};
        bool is_done = decision->is_resume ? resume(half, decision, args->words[i], &err)
                                           : decide(half, decision, args->words[i], &err);

        if (!is_done)
            status = CTL_FAILED;
        if (err.code != OBX_OK) {
            target_complain(half->target, &err);
            break;
        }
    }
    if (decision->made_rows)
        ring_owner(half);
    return status;
}

static enum ctl_exit run(const struct ctl_args *args, struct decision *decision)
{
    struct half_target half;
    char who[WHO_MAX];
    enum ctl_exit status = check_usage(args);

    if (status == CTL_OK)
        status = half_target_open(args, &half);
    if (status != CTL_OK)
        return status;
    who_am_i(who);
    (void)snprintf(decision->actor, sizeof(decision->actor), OPERATOR "%.*s",
                   (int)(sizeof(decision->actor) - sizeof(OPERATOR)), who);
    decision->why = args->text[CTL_NOTE];
    decision->report = args->json ? json_array() : NULL;
    status = decide_all(args, &half, decision);
    if (decision->report != NULL) {
        json_print(decision->report);
        json_decref(decision->report);
    }
    half_target_close(&half);
    return status;
}

enum ctl_exit cmd_half_commit(const struct ctl_args *args)
{
    struct decision decision = {.verdict = HALF_COMMIT};

    return run(args, &decision);
}

enum ctl_exit cmd_half_rollback(const struct ctl_args *args)
{
    struct decision decision = {.verdict = HALF_ROLLBACK};

    return run(args, &decision);
}

enum ctl_exit cmd_half_resume(const struct ctl_args *args)
{
    struct decision decision = {.is_resume = true};

    return run(args, &decision);
}
