/*
 * The SELECT of a resource. A page reads about as many rows as it shows, however large the table is:
 * along the primary key, or along the index that a path names. Such an index has the rows in the
 * order of the key only within each value of its first columns; so each value has a part of its own,
 * as long as the page, and the server merges the parts. Proved by
 * tests/system/outboxctl_resources_test.c.
 */
#include <string.h>

#include "base/crash.h"
#include "history.h"
#include "resource.h"

enum { ARGS_MAX = 1024, PARTS_MAX = 64 };

/* A statement while it is put together. */
struct query {
    const struct session *session;
    const struct selection *selection;
    struct obx_buf sql;
    struct obx_buf topic;
    const char *topic_operator;
    struct obx_value args[ARGS_MAX];
    size_t arg_count;
};

static void add(struct query *query, const char *text)
{
    buf_add_text(&query->sql, text);
}

static void add_value(struct query *query, const char *condition, struct obx_value value)
{
    add(query, condition);
    OBX_ASSERT(query->arg_count < ARGS_MAX);
    query->args[query->arg_count++] = value;
}

const char *topic_operand(const char *topic, struct obx_buf *out)
{
    size_t len = strlen(topic);

    if (len == 0 || topic[len - 1] != '*') {
        buf_add_text(out, topic);
        return "=";
    }
    /* In a pattern '\\', '%' and '_' would not stand for themselves. */
    for (size_t i = 0; i + 1 < len; i++)
        buf_addf(out, "%s%c", strchr("%_\\", topic[i]) != NULL ? "\\" : "", topic[i]);
    buf_add_text(out, "%");
    return "LIKE";
}

/* A number as a number: compared with a text, the server would make both doubles, which are not
 * exact above 2^53. */
static struct obx_value key_value(const struct resource *resource, const char *text)
{
    uint64_t id = 0;

    if (resource->has_text_key)
        return DB_TEXT(text);
    (void)ctl_parse_number(text, UINT64_MAX, &id);
    return DB_U64(id);
}

/* Whether the parts of the path have a condition in the place of the option's. */
static bool stands_for(const struct path *path, enum ctl_option option)
{
    return path != NULL && (path->options[0] == option || path->options[1] == option);
}

static void add_filters(struct query *query, const struct path *parts)
{
    const struct resource *resource = query->session->resource;
    const char *const *text = query->session->args->text;

    for (size_t i = 0; i < resource->filter_count; i++) {
        const struct filter *filter = &resource->filters[i];

        if (text[filter->option] == NULL || stands_for(parts, filter->option))
            continue;
        add(query, " AND ");
        if (filter->option != CTL_TOPIC) {
            add_value(query, filter->sql, DB_TEXT(text[filter->option]));
            continue;
        }
        add(query, filter->sql);
        add(query, " ");
        add(query, query->topic_operator);
        add_value(query, " ?", DB_BYTES(buf_bytes(&query->topic)));
    }
    if (query->selection->state != NULL)
        add_value(query, " AND t.state = ?", DB_TEXT(query->selection->state));
}

/* The first one has a name, because what is merged has no table of which it could be said. */
static void add_columns(struct query *query)
{
    const struct resource *resource = query->session->resource;

    for (size_t i = 0; i < resource->column_count; i++) {
        if (resource->columns[i].only_shown && !query->selection->is_whole)
            break;
        add(query, i == 0 ? "SELECT " : ", ");
        add(query, resource->columns[i].sql);
        add(query, i == 0 ? " AS row_key" : "");
    }
}

static void add_order(struct query *query, const char *key)
{
    add(query, " ORDER BY ");
    add(query, key);
    add(query, query->session->resource->is_latest_first ? " DESC" : "");
    add_value(query, " LIMIT ?", DB_U64(query->selection->limit));
}

/* The ids first, each then found by the primary key, whatever share of the table they are. */
static void add_from(struct query *query, const char *index)
{
    const struct resource *resource = query->session->resource;

    if (query->selection->ids != NULL)
        add_value(query, " FROM " ID_LIST_TABLE " STRAIGHT_JOIN ",
                  ID_LIST_ARG(query->selection->ids));
    else
        add(query, " FROM ");
    add(query, resource->table);
    add(query, " t FORCE INDEX (");
    add(query, index);
    add(query, query->selection->ids != NULL ? ") ON k.id = " : ")");
    add(query, query->selection->ids != NULL ? resource->key : "");
    add(query, resource->join == NULL ? "" : resource->join);
    add(query, " WHERE 1 = 1");
}

/* Up to the condition of its part, which is the caller's to add, and the order. parts: the path whose
 * part it is; NULL: it is the whole. */
static void add_part(struct query *query, const char *index, const struct path *parts)
{
    const struct selection *selection = query->selection;
    const struct resource *resource = query->session->resource;

    add_columns(query);
    add_from(query, index);
    if (selection->key == NULL && selection->ids == NULL)
        add_filters(query, parts);
    if (selection->key != NULL || selection->after != NULL) {
        add(query, " AND ");
        add(query, resource->key);
    }
    if (selection->key != NULL)
        add_value(query, " = ?", key_value(resource, selection->key));
    else if (selection->after != NULL)
        add_value(query, resource->is_latest_first ? " < ?" : " > ?",
                  key_value(resource, selection->after));
    if (selection->key == NULL && selection->until != NULL) {
        add(query, " AND ");
        add(query, resource->key);
        add_value(query, " <= ?", key_value(resource, selection->until));
    }
}

/* A condition with the values of the row in the places of its '?'. */
static void add_condition(struct query *query, const char *condition, const struct db_rows *values)
{
    for (unsigned column = 0; *condition != '\0'; condition++) {
        if (*condition != '?')
            buf_add(&query->sql, condition, 1);
        else if (db_add_literal(query->session->db, &query->sql, db_rows_bytes(values, column++)) !=
                 OBX_OK)
            query->sql.rc = OBX_E_NOMEM;
    }
}

/* A part of another value than the option's would be read for nothing. */
static bool is_wanted(const struct query *query, const struct path *path,
                      const struct db_rows *values)
{
    for (unsigned i = 0; i < 2 && path->options[i] != CTL_OPTION_COUNT; i++) {
        const char *wanted = query->session->args->text[path->options[i]];

        if (wanted != NULL && !bytes_is(db_rows_bytes(values, i), wanted))
            return false;
    }
    return true;
}

/* A part for each value and each split, merged; none: false. One alone is whole by itself, and around
 * it MariaDB would refuse two columns of one name. */
static bool add_parts(struct query *query, const struct path *path, struct db_rows *values)
{
    const char *separator = "(";
    size_t count = 0;

    while (db_rows_next(values)) {
        for (size_t i = 0; is_wanted(query, path, values) && i < 2; i++) {
            if (i > 0 && path->splits[i] == NULL)
                break;
            add(query, separator);
            count++;
            add_part(query, path->index, path);
            add_condition(query, path->condition, values);
            add(query, path->splits[i] == NULL ? "" : path->splits[i]);
            add_order(query, query->session->resource->key);
            separator = ") UNION ALL (";
        }
    }
    add(query, count > 0 ? ")" : "");
    if (count > 1)
        add_order(query, "row_key");
    return count > 0;
}

static bool serves(const struct path *path, const struct query *query)
{
    const char *state = query->selection->state;

    if (path->for_one_page && !query->selection->is_page)
        return false;
    if (path->except != NULL && (state == NULL || strstr(path->except, state) != NULL))
        return false;
    return path->option == CTL_STATE ? state != NULL
                                     : query->session->args->text[path->option] != NULL;
}

static const struct path *choose_path(const struct query *query)
{
    const struct resource *resource = query->session->resource;

    /* What is named is found by the primary key. */
    if (query->selection->key != NULL || query->selection->ids != NULL)
        return NULL;
    for (size_t i = 0; i < resource->path_count; i++)
        if (serves(&resource->paths[i], query))
            return &resource->paths[i];
    return NULL;
}

/* As a text, not prepared: MariaDB 10.11 plans the second run of such a statement as a scan. */
static enum obx_code read_values(const struct query *query, const struct path *path,
                                 struct db_rows **values, struct obx_err *err)
{
    const char *place = strchr(path->values, '?');
    const char *value = path->option == CTL_STATE ? query->selection->state
                                                  : query->session->args->text[path->option];
    struct obx_buf sql = {0};
    enum obx_code rc;

    buf_add(&sql, path->values,
            place == NULL ? strlen(path->values) : (size_t)(place - path->values));
    if (place != NULL)
        (void)db_add_literal(query->session->db, &sql, bytes_of(value));
    buf_add_text(&sql, place == NULL ? "" : place + 1);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_query_text(query->session->db, buf_bytes(&sql), values, err);
    buf_fini(&sql);
    return rc;
}

static enum obx_code build(struct query *query, struct obx_err *err)
{
    const struct path *path = choose_path(query);
    const char *index = path == NULL ? "PRIMARY" : path->index;
    struct db_rows *values = NULL;

    if (path != NULL && path->values != NULL) {
        enum obx_code rc = read_values(query, path, &values, err);

        if (rc != OBX_OK)
            return rc;
    }
    if (values != NULL && db_rows_count(values) > PARTS_MAX / 2) {
        index = "PRIMARY"; /* so many parts would cost more than they save */
        db_rows_free(values);
        values = NULL;
    }
    if (values == NULL || !add_parts(query, path, values)) {
        add_part(query, index, NULL);
        add(query, values != NULL ? " AND 1 = 0" : "");
        add_order(query, query->session->resource->key);
    }
    db_rows_free(values);
    if (query->sql.rc != OBX_OK || query->topic.rc != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "query");
    return OBX_OK;
}

enum obx_code resource_select(struct session *session, const struct selection *selection,
                              struct db_rows **out, struct obx_err *err)
{
    struct query query = {.session = session, .selection = selection};
    const char *topic = session->args->text[CTL_TOPIC];
    enum obx_code rc;

    *out = NULL;
    if (topic != NULL)
        query.topic_operator = topic_operand(topic, &query.topic);
    rc = build(&query, err);
    if (rc == OBX_OK)
        rc = db_query(session->db, query.sql.data, query.args, query.arg_count, out, err);
    buf_fini(&query.sql);
    buf_fini(&query.topic);
    return rc;
}

/* ---- what histories share ---- */

const struct filter history_filters[1] = {{CTL_MESSAGE, "t.message_id = ?"}};
const struct path history_paths[1] = {{.option = CTL_MESSAGE, .index = "audit_message"}};

/* ---- what may be asked ---- */

bool resource_state(const struct ctl_args *args, const struct resource *resource,
                    const char **state)
{
    const char *wanted = args->text[CTL_STATE];

    *state = resource->state;
    if (wanted == NULL)
        return true;
    *state = strcmp(wanted, "any") == 0 ? NULL : wanted;
    for (size_t i = 0; resource->states != NULL && resource->states[i] != NULL; i++)
        if (*state == NULL || strcmp(wanted, resource->states[i]) == 0)
            return true;
    return false;
}

bool resource_key_is_valid(const struct resource *resource, const char *text)
{
    uint64_t id = 0;

    return resource->has_text_key ? text[0] != '\0' : ctl_parse_number(text, UINT64_MAX, &id);
}
