/*
 * The statements over inbox_parked. Called by the dead commands.
 */
#include "dead_store.h"

#include <string.h>

enum { ARGS_MAX = 12 };

static const char columns[] =
    "p.id, p.consumer_group, p.state, p.message_id, p.topic, p.ordering_key, p.attempts, "
    "p.reason_code, p.reason, p.parked_at, p.first_failed_at, p.last_failed_at, p.next_at, "
    "p.replay_until, p.replay_until < UTC_TIMESTAMP(6), p.is_reported, p.request, p.requested_at, "
    "p.requested_by, p.request_note, p.replays, p.is_edited, p.size";

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

static void add_if(struct query *query, const char *condition, const char *value)
{
    if (value != NULL)
        add_condition(query, condition, DB_TEXT(value));
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

static void add_filter(struct query *query, const struct dead_filter *filter)
{
    size_t len = filter->topic == NULL ? 0 : strlen(filter->topic);

    add_condition(query, " FROM inbox_parked p WHERE p.id > ?", DB_U64(filter->after));
    add_if(query, " AND p.consumer_group = ?", filter->group);
    add_if(query, " AND p.state = ?", filter->state);
    add_if(query, " AND p.reason_code = ?", filter->reason_code);
    add_if(query, " AND p.ordering_key = ?", filter->key);
    if (len > 0 && filter->topic[len - 1] == '*')
        add_prefix(query, filter->topic, len - 1);
    else
        add_if(query, " AND p.topic = ?", filter->topic);
    if (filter->ids != NULL) {
        add_text(query, " AND p.id IN (");
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

static enum obx_code run_number(struct query *query, struct db *db, uint64_t *out,
                                struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = run(query, db, &rows, err);

    *out = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code dead_find(struct db *db, const struct dead_filter *filter, struct db_rows **out,
                        struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};

    add_text(&query, "SELECT ");
    add_text(&query, columns);
    add_filter(&query, filter);
    add_condition(&query, " ORDER BY p.id LIMIT ?", DB_U64(filter->limit));
    return run(&query, db, out, err);
}

enum obx_code dead_get(struct db *db, uint64_t id, struct db_rows **out, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    enum obx_code rc;

    add_text(&query, "SELECT ");
    add_text(&query, columns);
    add_text(&query, ", p.queue, p.exchange, p.routing_key, p.properties, p.body");
    add_condition(&query, " FROM inbox_parked p WHERE p.id = ?", DB_U64(id));
    rc = run(&query, db, out, err);
    if (rc == OBX_OK && !db_rows_next(*out)) {
        db_rows_free(*out);
        *out = NULL;
        rc = obx_fail(err, OBX_E_NOT_FOUND, "there is no parked message %llu",
                      (unsigned long long)id);
    }
    return rc;
}

enum obx_code dead_count(struct db *db, const struct dead_filter *filter, uint64_t cap,
                         uint64_t *out, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};

    add_text(&query, "SELECT COUNT(*) FROM (SELECT 1");
    add_filter(&query, filter);
    add_condition(&query, " LIMIT ?) c", DB_U64(cap));
    return run_number(&query, db, out, err);
}

enum obx_code dead_mark(struct db *db, const char *ids, const struct dead_request *request,
                        uint64_t *marked, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    enum obx_code rc;

    add_condition(&query, "UPDATE inbox_parked SET request = ?", DB_TEXT(request->action));
    add_text(&query, ", requested_at = UTC_TIMESTAMP(6), next_at = UTC_TIMESTAMP(6)");
    add_condition(&query, ", requested_by = ?", DB_TEXT(request->by));
    add_condition(&query, ", request_note = ?", DB_TEXT(request->note));
    if (request->body != NULL) {
        add_condition(&query, ", size = size - OCTET_LENGTH(body) + ?", DB_U64(request->body->len));
        add_condition(&query, ", is_edited = 1, body = ?", DB_BYTES(*request->body));
    }
    add_text(&query, " WHERE state = 'dead' AND request IS NULL AND id IN (");
    add_text(&query, ids);
    add_text(&query, ")");
    if (strcmp(request->action, "replay") == 0)
        add_text(&query, " AND replay_until >= UTC_TIMESTAMP(6) AND is_reported = 0");
    rc = query.rc;
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "query");
    else
        rc = db_exec(db, query.sql.data, query.args, query.arg_count, marked, err);
    query_fini(&query);
    return rc;
}

enum obx_code dead_count_requested(struct db *db, uint64_t first, uint64_t last, uint64_t *out,
                                   struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};

    add_text(&query, "SELECT COUNT(*) FROM inbox_parked WHERE request IS NOT NULL");
    add_condition(&query, " AND id BETWEEN ?", DB_U64(first));
    add_condition(&query, " AND ?", DB_U64(last));
    return run_number(&query, db, out, err);
}
