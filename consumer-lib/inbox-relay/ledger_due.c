/*
 * Reading what is due: first the ids, from the index alone, then the rows by primary key, large
 * bodies one by one. In one statement the server would read a body for each row that is held
 * already, and put hundreds of large ones into one answer.
 */
#include "ledger_private.h"

#include "base/alloc.h"
#include "base/clock.h"

#define INLINE_MAX "65536" /* a larger body is read by itself */

static const char sql_ids[] =
    "SELECT id FROM inbox_call FORCE INDEX (due) WHERE consumer_group = ? AND endpoint = ?"
    " AND state = 'waiting' AND due_at <= UTC_TIMESTAMP(6) ORDER BY due_at LIMIT ?";

enum column {
    COL_ID,
    COL_ATTEMPTS,
    COL_FIRST_TEXT, /* seven of them */
    COL_BODY_LEN = COL_FIRST_TEXT + JOB_TEXTS,
    COL_BODY,
    COL_NOW
};
static const char sql_rows[] =
    "SELECT n.id, n.attempts, n.message_id, n.topic, n.ordering_key, n.content_type, n.source,"
    " n.traceparent, DATE_FORMAT(n.created_at, '%Y-%m-%dT%H:%i:%s.%fZ'), OCTET_LENGTH(n.body),"
    " IF(OCTET_LENGTH(n.body) <= " INLINE_MAX ", n.body, NULL),"
    " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    " FROM" LEDGER_OF_IDS " WHERE n.state = 'waiting'";
static const char sql_body[] = "SELECT body FROM inbox_call WHERE id = ?";

static enum obx_code find_ids(struct ledger *ledger, const struct due_request *request,
                              size_t *count, struct obx_err *err)
{
    const struct idset *held = &request->outlet->keeper.held;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(ledger->db, sql_ids,
                                DB_ARGS(DB_TEXT(ledger->group), DB_TEXT(request->endpoint->name),
                                        /* those that are held are due, too, and come first */
                                        DB_U64(held->count + request->max)),
                                &rows, err);

    *count = 0;
    id_list_clear(&ledger->ids);
    while (rc == OBX_OK && *count < request->max && db_rows_next(rows)) {
        uint64_t id = db_rows_u64(rows, 0);

        if (idset_has(held, id))
            continue;
        (*count)++;
        rc = id_list_add(&ledger->ids, id, err);
    }
    db_rows_free(rows);
    return rc;
}

/* A large one by itself, for the answer of a statement is held whole in memory. */
static enum obx_code set_body(struct ledger *ledger, struct job *job, const struct db_rows *row,
                              struct obx_err *err)
{
    struct obx_bytes body = db_rows_bytes(row, COL_BODY);
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (bytes_is_absent(body)) {
        rc = db_query(ledger->db, sql_body, DB_ARGS(DB_U64(job->id)), &rows, err);
        if (rc == OBX_OK && db_rows_next(rows))
            body = db_rows_bytes(rows, 0);
    }
    if (rc == OBX_OK && buf_add(&job->body, body.p, body.len) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "body of %zu bytes", body.len);
    db_rows_free(rows);
    return rc;
}

static enum obx_code fill(struct ledger *ledger, struct job *job, const struct db_rows *row,
                          struct obx_err *err)
{
    struct obx_bytes texts[JOB_TEXTS];

    job->id = db_rows_u64(row, COL_ID);
    job->attempts = (uint32_t)db_rows_u64(row, COL_ATTEMPTS);
    job->epoch = ledger->lease.epoch; /* its result counts under this one only */
    for (unsigned i = 0; i < JOB_TEXTS; i++)
        texts[i] = db_rows_bytes(row, COL_FIRST_TEXT + i);
    if (job_set_texts(job, texts) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "notification");
    return set_body(ledger, job, row, err);
}

static enum obx_code add_job(struct ledger *ledger, const struct due_request *request,
                             const struct db_rows *row, struct job_list *jobs, struct obx_err *err)
{
    struct job *job = obx_calloc(1, sizeof(*job));
    enum obx_code rc;

    if (job == NULL)
        return obx_fail(err, OBX_E_NOMEM, "notification");
    job->config = notify_config_ref(request->config);
    job->endpoint = request->endpoint;
    job->outlet = request->outlet;
    rc = fill(ledger, job, row, err);
    if (rc == OBX_OK && idset_add(&request->outlet->keeper.held, job->id) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "notification");
    if (rc != OBX_OK) {
        job_destroy(job);
        return rc;
    }
    job_list_add(jobs, job);
    return OBX_OK;
}

enum obx_code ledger_read_due(struct ledger *ledger, const struct due_request *request,
                              struct job_list *jobs, uint64_t *bytes, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    size_t count = 0;
    uint64_t taken = 0;
    enum obx_code rc = find_ids(ledger, request, &count, err);

    if (rc != OBX_OK || count == 0)
        return rc;
    rc = db_query(ledger->db, sql_rows, DB_ARGS(ID_LIST_ARG(&ledger->ids)), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        uint64_t len = db_rows_u64(rows, COL_BODY_LEN);

        lease_note_db_clock(&ledger->lease, db_rows_u64(rows, COL_NOW));
        if (taken > 0 && taken + len > request->bytes_max)
            break;
        rc = add_job(ledger, request, rows, jobs, err);
        taken += rc == OBX_OK ? len : 0;
    }
    db_rows_free(rows);
    *bytes += taken;
    return rc;
}
