/*
 * Writing results: successes in one statement for each status, failures one by one, pauses; all in
 * one transaction under the lease. A commit costs more than all of its rows, so results wait for one
 * another, never for long: the keeper writes whatever has come back each time it turns.
 *
 * Every statement asks for the state (and the attempts) that was read: one that is done twice, after
 * a commit without an answer, changes nothing the second time.
 */
#include "ledger_private.h"

#include "base/crash.h"

static const char sql_delivered[] =
    "UPDATE" LEDGER_OF_IDS " SET n.state = 'delivered', n.attempts = n.attempts + 1,"
    " n.due_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, n.last_at = UTC_TIMESTAMP(6),"
    " n.last_status = ?, n.last_error = NULL WHERE n.state = 'waiting'";
static const char sql_removed[] = "DELETE n FROM" LEDGER_OF_IDS " WHERE n.state = 'waiting'";
static const char sql_failed[] =
    "UPDATE inbox_call SET state = ?, attempts = attempts + 1,"
    " due_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, last_at = UTC_TIMESTAMP(6),"
    " last_status = ?, last_error = ? WHERE id = ? AND state = 'waiting' AND attempts = ?";
static const char sql_gone[] =
    "UPDATE inbox_call SET last_at = UTC_TIMESTAMP(6), last_status = ?, last_error = ?"
    " WHERE id = ? AND state = 'waiting'";
static const char sql_pause[] =
    "INSERT INTO inbox_endpoint"
    " (consumer_group, endpoint, is_paused, reason, changed_at, changed_by)"
    " VALUES (?, ?, 1, ?, UTC_TIMESTAMP(6), ?)"
    " ON DUPLICATE KEY UPDATE is_paused = 1, reason = VALUES(reason),"
    " changed_at = VALUES(changed_at), changed_by = VALUES(changed_by)";

bool ledger_next_delay(const struct job *job, uint32_t *delay_ms)
{
    uint32_t made = job->attempts + 1;

    if (made >= job->endpoint->schedule_count)
        return false;
    *delay_ms = job->endpoint->schedule_ms[made];
    if (*delay_ms < job->result.retry_after_ms)
        *delay_ms = job->result.retry_after_ms;
    return true;
}

static enum obx_code write_delivered(struct ledger *ledger, const struct job *sample,
                                     struct obx_err *err)
{
    uint32_t keep_ms = sample->config->keep_delivered_ms;

    if (keep_ms == 0)
        return db_exec(ledger->db, sql_removed, DB_ARGS(ID_LIST_ARG(&ledger->ids)), NULL, err);
    return db_exec(ledger->db, sql_delivered,
                   DB_ARGS(ID_LIST_ARG(&ledger->ids), DB_U64((uint64_t)keep_ms * LEDGER_US_PER_MS),
                           DB_U64(sample->result.status)),
                   NULL, err);
}

static bool is_delivered_like(const struct job *job, const struct job *sample)
{
    return job->result.end == CALL_DELIVERED && job->result.status == sample->result.status &&
           job->config->keep_delivered_ms == sample->config->keep_delivered_ms;
}

/* All that are like the first of their kind; nothing when `sample` is not the first. A walk over the
 * list for each kind: there are two or three statuses, and a batch has a bound. */
static enum obx_code record_delivered(struct ledger *ledger, const struct job_list *jobs,
                                      const struct job *sample, struct obx_err *err)
{
    const struct job *job = jobs->first;
    enum obx_code rc = OBX_OK;

    while (!is_delivered_like(job, sample))
        job = job->next;
    if (job != sample)
        return OBX_OK;
    id_list_clear(&ledger->ids);
    for (; job != NULL && rc == OBX_OK; job = job->next) {
        if (is_delivered_like(job, sample))
            rc = id_list_add(&ledger->ids, job->id, err);
    }
    return rc == OBX_OK ? write_delivered(ledger, sample, err) : rc;
}

static enum obx_code record_failed(struct ledger *ledger, const struct job *job,
                                   struct obx_err *err)
{
    const struct call_result *result = &job->result;
    uint32_t keep_ms = job->config->keep_given_up_ms;
    uint32_t delay_ms = 0;
    bool goes_on = ledger_next_delay(job, &delay_ms);
    struct obx_value due = DB_U64((uint64_t)(goes_on ? delay_ms : keep_ms) * LEDGER_US_PER_MS);

    if (!goes_on && keep_ms == 0)
        due = DB_NULL();
    return db_exec(ledger->db, sql_failed,
                   DB_ARGS(DB_TEXT(goes_on ? "waiting" : "given_up"), due,
                           result->status == 0 ? DB_NULL() : DB_U64(result->status),
                           DB_TEXT(result->why), DB_U64(job->id), DB_U64(job->attempts)),
                   NULL, err);
}

/* 410 says that nobody wants these any more, for good: the row is kept, with the pause, for a person to
 * decide. */
static enum obx_code record_gone(struct ledger *ledger, const struct job *job, struct obx_err *err)
{
    enum obx_code rc = db_exec(
        ledger->db, sql_gone,
        DB_ARGS(DB_U64(job->result.status), DB_TEXT(job->result.why), DB_U64(job->id)), NULL, err);

    if (rc != OBX_OK)
        return rc;
    return db_exec(ledger->db, sql_pause,
                   DB_ARGS(DB_TEXT(ledger->group), DB_TEXT(job->endpoint->name),
                           DB_TEXT(job->result.why), DB_TEXT(ledger->lease.opts.owner)),
                   NULL, err);
}

static enum obx_code record_each(struct ledger *ledger, const struct job_list *jobs,
                                 struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (const struct job *job = jobs->first; job != NULL && rc == OBX_OK; job = job->next) {
        if (job->result.end == CALL_DELIVERED)
            rc = record_delivered(ledger, jobs, job, err);
        else if (job->result.end == CALL_FAILED)
            rc = record_failed(ledger, job, err);
        else if (job->result.end == CALL_GONE)
            rc = record_gone(ledger, job, err);
    }
    return rc;
}

enum obx_code ledger_record(struct ledger *ledger, const struct job_list *jobs, struct obx_err *err)
{
    enum obx_code rc = lease_begin(&ledger->lease, ledger->db, err);

    if (rc != OBX_OK)
        return rc;
    rc = record_each(ledger, jobs, err);
    if (rc != OBX_OK) {
        lease_rollback(ledger->db);
        return rc;
    }
    OBX_CRASH_POINT("notify-record-before-commit");
    rc = lease_commit(&ledger->lease, ledger->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("notify-recorded");
    return rc;
}
