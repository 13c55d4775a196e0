/*
 * The statements over inbox_call. Called by cmd_notify.c and cmd_notify_change.c.
 */
#include "notify_store.h"

#include <inttypes.h>
#include <string.h>

enum { ARGS_MAX = 10 };

#define COLUMNS                                                                                    \
    "n.id, n.consumer_group, n.endpoint, n.state, n.due_at, n.message_id, n.topic, n.attempts,"    \
    " n.recorded_at, n.last_at, n.last_status, n.last_error, COALESCE(e.is_paused, 0)"
#define FROM                                                                                       \
    " FROM inbox_call n LEFT JOIN inbox_endpoint e"                                                \
    " ON e.consumer_group = n.consumer_group AND e.endpoint = n.endpoint"

/* A statement while it is put together; the first failure makes the rest do nothing. */
struct query {
    struct obx_buf sql;
    struct obx_buf pattern;
    struct obx_value args[ARGS_MAX];
    size_t arg_count;
    enum obx_code rc;
};

static void add(struct query *query, const char *text)
{
    if (query->rc == OBX_OK)
        query->rc = buf_add_text(&query->sql, text);
}

static void add_if(struct query *query, const char *condition, const char *value)
{
    if (value == NULL)
        return;
    add(query, condition);
    query->args[query->arg_count++] = DB_TEXT(value);
}

/* A topic; with a star at its end as a pattern of LIKE, in which '\', '%' and '_' stand for
 * themselves. */
static void add_topic(struct query *query, const char *topic)
{
    size_t len = topic == NULL ? 0 : strlen(topic);

    if (len == 0 || topic[len - 1] != '*') {
        add_if(query, " AND n.topic = ?", topic);
        return;
    }
    for (size_t i = 0; i + 1 < len && query->rc == OBX_OK; i++)
        query->rc = buf_addf(&query->pattern, "%s%c", strchr("%_\\", topic[i]) != NULL ? "\\" : "",
                             topic[i]);
    if (query->rc == OBX_OK)
        query->rc = buf_add_text(&query->pattern, "%");
    if (query->rc != OBX_OK)
        return;
    add(query, " AND n.topic LIKE ?");
    query->args[query->arg_count++] = DB_BYTES(buf_bytes(&query->pattern));
}

static void add_filter(struct query *query, const struct notify_filter *filter)
{
    add(query, " WHERE n.id > ?");
    query->args[query->arg_count++] = DB_U64(filter->after);
    add_if(query, " AND n.consumer_group = ?", filter->group);
    add_if(query, " AND n.endpoint = ?", filter->endpoint);
    add_if(query, " AND n.state = ?", filter->state);
    if (filter->state == NULL && filter->finished_only)
        add(query, " AND n.state = 'given_up'");
    add_if(query, " AND n.message_id = ?", filter->message_id);
    add_topic(query, filter->topic);
    add_if(query,
           " AND n.id IN (SELECT k.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED"
           " PATH '$')) k)",
           filter->ids);
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
    buf_fini(&query->sql);
    buf_fini(&query->pattern);
    return rc;
}

enum obx_code notify_find(struct db *db, const struct notify_filter *filter, struct db_rows **out,
                          struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};

    add(&query, "SELECT " COLUMNS FROM);
    add_filter(&query, filter);
    add(&query, " ORDER BY n.id LIMIT ?");
    query.args[query.arg_count++] = DB_U64(filter->limit);
    return run(&query, db, out, err);
}

enum obx_code notify_get(struct db *db, uint64_t id, struct db_rows **out, struct obx_err *err)
{
    enum obx_code rc = db_query(db,
                                "SELECT " COLUMNS ", n.ordering_key, n.content_type, n.created_at,"
                                " IF(e.is_paused, e.reason, NULL), n.body" FROM " WHERE n.id = ?",
                                DB_ARGS(DB_U64(id)), out, err);

    if (rc != OBX_OK || db_rows_next(*out))
        return rc;
    db_rows_free(*out);
    *out = NULL;
    return obx_fail(err, OBX_E_NOT_FOUND, "there is no notification %" PRIu64, id);
}

enum obx_code notify_count(struct db *db, const struct notify_filter *filter, uint64_t cap,
                           uint64_t *out, struct obx_err *err)
{
    struct query query = {.rc = OBX_OK};
    struct db_rows *rows = NULL;
    enum obx_code rc;

    add(&query, "SELECT COUNT(*) FROM (SELECT 1 FROM inbox_call n");
    add_filter(&query, filter);
    add(&query, " LIMIT ?) c");
    query.args[query.arg_count++] = DB_U64(cap);
    rc = run(&query, db, &rows, err);
    *out = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

/* The ids of the next portion as "[1,2]"; absent when there are none. */
static enum obx_code next_ids(struct db *db, struct notify_filter *filter, uint64_t *after,
                              struct obx_buf *ids, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = notify_find(db, filter, &rows, err);
    size_t found = 0;

    while (rc == OBX_OK && db_rows_next(rows)) {
        filter->after = db_rows_u64(rows, NOTIFY_ID);
        if (buf_addf(ids, "%c%" PRIu64, found == 0 ? '[' : ',', filter->after) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of ids");
        found++;
    }
    db_rows_free(rows);
    *after = found == filter->limit ? filter->after : 0;
    if (rc == OBX_OK && found > 0 && buf_add_text(ids, "]") != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "list of ids");
    return rc;
}

enum obx_code notify_resend(struct db *db, const struct notify_filter *filter, uint64_t *after,
                            uint64_t *sent, struct obx_err *err)
{
    static const char sql[] =
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k STRAIGHT_JOIN"
        " inbox_call n FORCE INDEX (PRIMARY) ON n.id = k.id"
        " SET n.state = 'waiting', n.due_at = UTC_TIMESTAMP(6), n.attempts = 0";
    struct notify_filter portion = *filter;
    struct obx_buf ids = {0};
    enum obx_code rc;

    *sent = 0;
    portion.after = *after;
    rc = next_ids(db, &portion, after, &ids, err);
    if (rc == OBX_OK && ids.len > 0)
        rc = db_exec(db, sql, DB_ARGS(DB_BYTES(buf_bytes(&ids))), sent, err);
    buf_fini(&ids);
    return rc;
}

enum obx_code notify_set_pause(struct db *db, const struct notify_pause *pause, struct obx_err *err)
{
    static const char sql[] =
        "INSERT INTO inbox_endpoint"
        " (consumer_group, endpoint, is_paused, reason, changed_at, changed_by)"
        " VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), ?)"
        " ON DUPLICATE KEY UPDATE is_paused = VALUES(is_paused), reason = VALUES(reason),"
        " changed_at = VALUES(changed_at), changed_by = VALUES(changed_by)";

    return db_exec(db, sql,
                   DB_ARGS(DB_TEXT(pause->group), DB_TEXT(pause->endpoint),
                           DB_U64(pause->is_paused), DB_TEXT(pause->reason), DB_TEXT(pause->by)),
                   NULL, err);
}

enum obx_code notify_endpoint_known(struct db *db, const char *group, const char *endpoint,
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
