/*
 * The statements over outbox_parked. Called by the parked commands.
 */
#include "parked_store.h"

#include <string.h>

enum { ARGS_MAX = 8 };

static const char columns[] =
    "p.parked_id, p.outbox, p.id, p.message_id, p.topic, p.ordering_key, p.reason_code, p.reason,"
    " p.attempts, p.parked_at, TIMESTAMPDIFF(MICROSECOND, p.parked_at, UTC_TIMESTAMP(6)),"
    " OCTET_LENGTH(p.payload), p.holds_key, p.blocked_by, p.request, p.requested_at,"
    " p.requested_by, p.request_note, p.created_at, p.content_type,"
    " CASE WHEN p.holds_key = 1 THEN (SELECT COUNT(*) FROM outbox_parked f"
    " WHERE f.outbox = p.outbox AND f.holds_key = 0 AND f.ordering_key = p.ordering_key AND "
    "f.blocked_by = p.id)"
    " ELSE 0 END";

/* A statement while it is put together. */
struct query {
    struct obx_buf sql;
    struct obx_value args[ARGS_MAX];
    size_t arg_count;
    struct obx_buf pattern; /* of a topic */
    enum obx_code rc;
};

static void query_fini(struct query *query)
{
    buf_fini(&query->sql);
    buf_fini(&query->pattern);
}

static void add_text(struct query *query, const char *text)
{
    if (query->rc == OBX_OK)
        query->rc = buf_add_text(&query->sql, text);
}

static void add_condition(struct query *query, const char *condition, struct obx_value value)
{
    add_text(query, condition);
    query->args[query->arg_count++] = value;
}

/* A topic without its star as a pattern of LIKE, in which '\', '%' and '_' stand for themselves. */
static void add_prefix(struct query *query, const char *topic, size_t len)
{
    for (size_t i = 0; i < len && query->rc == OBX_OK; i++) {
        bool is_special = topic[i] == '%' || topic[i] == '_' || topic[i] == '\\';

        query->rc = buf_addf(&query->pattern, "%s%c", is_special ? "\\" : "", topic[i]);
    }
    if (query->rc == OBX_OK)
        query->rc = buf_add_text(&query->pattern, "%");
    if (query->rc == OBX_OK)
        add_condition(query, " AND p.topic LIKE ?", DB_BYTES(buf_bytes(&query->pattern)));
}

static void add_filter(struct query *query, const struct parked_filter *filter)
{
    size_t len = filter->topic == NULL ? 0 : strlen(filter->topic);

    add_condition(query, " WHERE p.parked_id > ?", DB_U64(filter->after));
    if (filter->outbox != NULL)
        add_condition(query, " AND p.outbox = ?", DB_TEXT(filter->outbox));
    if (len > 0 && filter->topic[len - 1] == '*')
        add_prefix(query, filter->topic, len - 1);
    else if (filter->topic != NULL)
        add_condition(query, " AND p.topic = ?", DB_TEXT(filter->topic));
    if (filter->reason_code != NULL)
        add_condition(query, " AND p.reason_code = ?", DB_TEXT(filter->reason_code));
    if (filter->key != NULL)
        add_condition(query, " AND p.holds_key IN (0, 1) AND p.ordering_key = ?",
                      DB_TEXT(filter->key));
    if (filter->ids != NULL) {
        add_text(query, " AND p.parked_id IN (");
        add_text(query, filter->ids);
        add_text(query, ")");
    }
}

static enum obx_code run(struct query *query, struct db *db, struct db_rows **out,
                         struct obx_err *err)
{
    enum obx_code rc = query->rc;

    *out = NULL;
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "query");
    else
        rc = db_query(db, query->sql.data, query->args, query->arg_count, out, err);
    query_fini(query);
    return rc;
}

enum obx_code parked_find(struct db *db, const struct parked_filter *filter, struct db_rows **out,
                          struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};

    add_text(&query, "SELECT ");
    add_text(&query, columns);
    add_text(&query, " FROM outbox_parked p");
    add_filter(&query, filter);
    add_condition(&query, " ORDER BY p.parked_id LIMIT ?", DB_U64(filter->limit));
    return run(&query, db, out, err);
}

enum obx_code parked_count(struct db *db, const struct parked_filter *filter, uint64_t cap,
                           uint64_t *out, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    struct db_rows *rows = NULL;
    enum obx_code rc;

    add_text(&query, "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_parked p");
    add_filter(&query, filter);
    add_condition(&query, " LIMIT ?) c", DB_U64(cap));
    rc = run(&query, db, &rows, err);
    *out = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code parked_get(struct db *db, uint64_t parked_id, struct db_rows **out,
                         struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    enum obx_code rc;

    add_text(&query, "SELECT ");
    add_text(&query, columns);
    add_text(&query, ", p.headers, p.payload FROM outbox_parked p");
    add_condition(&query, " WHERE p.parked_id = ?", DB_U64(parked_id));
    rc = run(&query, db, out, err);
    if (rc == OBX_OK && !db_rows_next(*out)) {
        db_rows_free(*out);
        *out = NULL;
        rc = obx_fail(err, OBX_E_NOT_FOUND, "there is no parked message %llu",
                      (unsigned long long)parked_id);
    }
    return rc;
}

enum obx_code parked_mark(struct db *db, const char *ids, const struct parked_request *request,
                          uint64_t *marked, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    enum obx_code rc;

    add_condition(&query, "UPDATE outbox_parked SET request = ?", DB_TEXT(request->action));
    add_condition(&query, ", requested_at = UTC_TIMESTAMP(6), requested_by = ?",
                  DB_TEXT(request->by));
    add_condition(&query, ", request_note = ?", DB_TEXT(request->note));
    add_text(&query, " WHERE request IS NULL AND parked_id IN (");
    add_text(&query, ids);
    add_text(&query, ")");
    rc = query.rc;
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "query");
    else
        rc = db_exec(db, query.sql.data, query.args, query.arg_count, marked, err);
    query_fini(&query);
    return rc;
}
