/*
 * What is shown of a resource's rows: a list as a table or as JSON, one row in full with what
 * belongs to it.
 */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/crash.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/show.h"
#include "outboxctl/print/table.h"
#include "resource.h"

enum { COUNT_CAP = 1000 }; /* a frozen key may have a million followers: "1,000+" says as much */

/* ---- one cell ---- */

/* By name and not by number, so that a column can be put anywhere in its table. A name that is not
 * there is a mistake in the program. */
static unsigned column_of(const struct record *record, const char *json)
{
    const struct resource *resource = record->resource;
    unsigned i = 0;

    while (i < resource->column_count &&
           (resource->columns[i].json == NULL || strcmp(resource->columns[i].json, json) != 0))
        i++;
    OBX_ASSERT(i < resource->column_count);
    return i;
}

struct obx_bytes record_text(const struct record *record, const char *json)
{
    return db_rows_bytes(record->rows, column_of(record, json));
}

uint64_t record_number(const struct record *record, const char *json)
{
    return db_rows_u64(record->rows, column_of(record, json));
}

static void set_json(json_t *object, const struct column *column, const struct db_rows *rows,
                     unsigned at)
{
    const struct obx_bytes value = db_rows_bytes(rows, at);

    if (column->json == NULL)
        return;
    if (bytes_is_absent(value))
        json_object_set_new(object, column->json, json_null());
    else if (column->kind == COLUMN_NUMBER || column->kind == COLUMN_SIZE)
        json_object_set_new(object, column->json, json_integer((json_int_t)db_rows_u64(rows, at)));
    else if (column->kind == COLUMN_BOOL)
        json_object_set_new(object, column->json, json_boolean(db_rows_u64(rows, at) != 0));
    else if (column->kind == COLUMN_TIME)
        json_set_time(object, column->json, value);
    else
        json_set_text(object, column->json, value);
}

/* For people; text is room for it. */
static struct obx_bytes cell_text(const struct column *column, const struct db_rows *rows,
                                  unsigned at, char *text)
{
    const struct obx_bytes value = db_rows_bytes(rows, at);

    if (bytes_is_absent(value))
        return value;
    if (column->kind == COLUMN_SIZE)
        return bytes_of(human_size(db_rows_u64(rows, at), text));
    if (column->kind == COLUMN_TIME)
        return bytes_of(human_time(value, text));
    if (column->kind == COLUMN_BOOL)
        return bytes_of(db_rows_u64(rows, at) != 0 ? "yes" : "no");
    return value;
}

/* ---- rows ---- */

static enum obx_code count(const struct session *session, struct record *record,
                           struct obx_err *err)
{
    const struct counted *counted = session->resource->counted;
    struct db_rows *rows = NULL;
    enum obx_code rc;

    record->counted = 0;
    record->is_capped = false;
    if (counted == NULL || record_number(record, counted->when) == 0)
        return OBX_OK;
    rc = db_query(session->db, counted->sql,
                  DB_ARGS(DB_U64(db_rows_u64(record->rows, 0)), DB_U64(COUNT_CAP + 1)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows)) {
        record->counted = db_rows_u64(rows, 0);
        record->is_capped = record->counted > COUNT_CAP;
        if (record->is_capped)
            record->counted = COUNT_CAP;
    }
    db_rows_free(rows);
    return rc;
}

/* Every row says of which source it is: lists of several databases can be put together. */
static json_t *record_json(const struct session *session, const struct record *record,
                           bool is_whole)
{
    const struct resource *resource = session->resource;
    json_t *object = json_pack("{s:s}", "source", session->target->source);
    char name[64];

    for (unsigned i = 0; i < resource->column_count; i++)
        if (is_whole || !resource->columns[i].only_shown)
            set_json(object, &resource->columns[i], record->rows, i);
    if (resource->counted != NULL) {
        snprintf(name, sizeof(name), "%s_capped", resource->counted->json);
        json_object_set_new(object, resource->counted->json,
                            json_integer((json_int_t)record->counted));
        json_object_set_new(object, name, json_boolean(record->is_capped));
    }
    return object;
}

/* The resource's own words for a column; JSON has plain values and never needs them. */
static bool describe(const struct record *record, const struct column *column, struct obx_buf *out)
{
    buf_reset(out);
    return record->resource->describe != NULL && column->json == NULL &&
           record->resource->describe(record, column, out);
}

static struct obx_bytes described(const struct obx_buf *text)
{
    return text->len == 0 ? (struct obx_bytes){0} : buf_bytes(text);
}

static void add_to_table(struct table *table, const struct record *record)
{
    struct obx_buf text = {0};
    char room[HUMAN_MAX];

    for (unsigned i = 0; i < record->resource->column_count; i++) {
        const struct column *column = &record->resource->columns[i];

        if (column->head != NULL)
            table_add(table, describe(record, column, &text)
                                 ? described(&text)
                                 : cell_text(column, record->rows, i, room));
    }
    buf_fini(&text);
}

/* The headings of a list, in the order of the columns, which is that of the cells, too. */
static size_t heads_of(const struct column *columns, size_t count, const char **heads)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        if (columns[i].head != NULL)
            heads[found++] = columns[i].head;
    return found;
}

/* ---- list ---- */

/* Rows of a page as a table or as JSON. One row more than asked for was read, to know whether there
 * is another page. */
static enum obx_code print_list(const struct session *session, struct db_rows *rows,
                                struct obx_err *err)
{
    const struct resource *resource = session->resource;
    const char *heads[TABLE_COLUMNS_MAX];
    struct record record = {.resource = resource, .rows = rows};
    struct obx_bytes key = {0};
    struct obx_buf last = {0};
    struct table table;
    json_t *items = json_array();
    enum obx_code rc = OBX_OK;

    table_init(&table, heads, heads_of(resource->columns, resource->column_count, heads));
    for (uint32_t shown = 0; shown < session->args->limit && rc == OBX_OK && db_rows_next(rows);
         shown++) {
        rc = count(session, &record, err);
        if (session->args->json)
            json_array_append_new(items, record_json(session, &record, false));
        else
            add_to_table(&table, &record);
        key = db_rows_bytes(rows, 0);
        buf_reset(&last);
        if (rc == OBX_OK)
            rc = buf_add(&last, key.p, key.len);
    }
    if (db_rows_count(rows) <= session->args->limit)
        buf_reset(&last);
    if (rc == OBX_OK && session->args->json)
        json_print_page(items, last.len == 0 ? NULL : last.data);
    else if (rc == OBX_OK && table.cells == 0)
        printf("%s\n", resource->none);
    else if (rc == OBX_OK)
        rc = table_print(&table, stdout);
    if (rc == OBX_OK && last.len > 0 && !session->args->json)
        printf("more: --after %s\n", last.data);
    json_decref(items);
    buf_fini(&last);
    table_fini(&table);
    return rc;
}

enum ctl_exit resource_list(const struct ctl_args *args)
{
    const struct resource *resource = args->command->subject;
    struct selection selection = {
        .after = args->text[CTL_AFTER], .limit = args->limit + 1, .is_page = true};
    struct session session;
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_USAGE;

    if ((selection.after == NULL || resource_key_is_valid(args, resource, selection.after)) &&
        resource_state(args, resource, &selection.state))
        status = resource_open(args, resource, &session);
    if (status != CTL_OK)
        return status;
    if (resource_select(&session, &selection, &rows, &err) != OBX_OK ||
        print_list(&session, rows, &err) != OBX_OK)
        status = session_fail(&session, &err);
    db_rows_free(rows);
    session_close(&session);
    return status;
}

/* ---- show ---- */

/* "name=value" a line, as consumers keep what came with a message: a field of the page for each. */
static void show_lines(const char *label, struct obx_bytes text)
{
    const char *p = text.p;

    for (size_t at = 0; at < text.len;) {
        const char *end = memchr(p + at, '\n', text.len - at);
        size_t len = end == NULL ? text.len - at : (size_t)(end - (p + at));

        show_field(label, (struct obx_bytes){.p = p + at, .len = len});
        at += len + 1;
    }
}

static void show_record(const struct record *record)
{
    struct obx_buf text = {0};
    char room[HUMAN_MAX];

    for (unsigned i = 0; i < record->resource->column_count; i++) {
        const struct column *column = &record->resource->columns[i];

        if (column->kind == COLUMN_PAYLOAD && !db_rows_is_null(record->rows, i))
            show_preview(db_rows_bytes(record->rows, i));
        else if (column->label == NULL)
            continue;
        else if (describe(record, column, &text))
            show_field(column->label, described(&text));
        else if (column->kind == COLUMN_LINES)
            show_lines(column->label, db_rows_bytes(record->rows, i));
        else
            show_field(column->label, cell_text(column, record->rows, i, room));
    }
    buf_fini(&text);
}

/* What belongs to the row: a table below it, or a list in its object. */
static enum obx_code show_detail(const struct session *session, const struct detail *detail,
                                 json_t *object, struct obx_err *err)
{
    const char *heads[TABLE_COLUMNS_MAX];
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    json_t *list = json_array();
    char room[HUMAN_MAX];
    struct table table;
    enum obx_code rc = OBX_OK;

    table_init(&table, heads, heads_of(detail->columns, detail->column_count, heads));
    for (size_t i = 0; i < detail->column_count; i++)
        buf_addf(&sql, "%s%s", i == 0 ? "SELECT " : ", ", detail->columns[i].sql);
    buf_add_text(&sql, detail->from);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_query(session->db, sql.data,
                                     DB_ARGS(DB_TEXT(session->args->words[0])), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        json_t *item = json_object();

        for (unsigned i = 0; i < detail->column_count; i++) {
            set_json(item, &detail->columns[i], rows, i);
            table_add(&table, cell_text(&detail->columns[i], rows, i, room));
        }
        json_array_append_new(list, item);
    }
    json_object_set_new(object, detail->json, list);
    if (rc == OBX_OK && !session->args->json && table.cells > 0) {
        putchar('\n');
        rc = table_print(&table, stdout);
    }
    db_rows_free(rows);
    buf_fini(&sql);
    table_fini(&table);
    return rc;
}

static enum obx_code write_bytes(struct obx_bytes bytes, struct obx_err *err)
{
    if (bytes.len == 0 || fwrite(bytes.p, 1, bytes.len, stdout) == bytes.len)
        return OBX_OK;
    return obx_fail(err, OBX_E_SYSTEM, "the payload could not be written");
}

/* Piece by piece: together they may be more than this machine has memory for. */
static enum obx_code write_payload(const struct session *session, const struct record *record,
                                   struct obx_err *err)
{
    const char *piece = session->resource->piece;
    const uint64_t pieces = piece == NULL ? 0 : record_number(record, "pieces");
    const uint64_t key = db_rows_u64(record->rows, 0);
    enum obx_code rc = OBX_OK;

    if (pieces == 0)
        return write_bytes(record_text(record, "payload"), err);
    for (uint64_t n = 0; n < pieces && rc == OBX_OK; n++) {
        struct db_rows *rows = NULL;

        rc = db_query(session->db, piece, DB_ARGS(DB_U64(key), DB_U64(n)), &rows, err);
        if (rc == OBX_OK)
            rc = db_rows_next(rows) ? write_bytes(db_rows_bytes(rows, 0), err)
                                    : obx_fail(err, OBX_E_DB_DATA,
                                               "piece %" PRIu64 " of the payload is not there", n);
        db_rows_free(rows);
    }
    return rc;
}

static enum obx_code show(const struct session *session, struct db_rows *rows, struct obx_err *err)
{
    const struct resource *resource = session->resource;
    struct record record = {.resource = resource, .rows = rows, .is_page = true};
    json_t *object = NULL;
    enum obx_code rc;

    if (!db_rows_next(rows))
        return obx_fail(err, OBX_E_NOT_FOUND, "there is no %s %s", resource->noun,
                        session->args->words[0]);
    if (session->args->text[CTL_PAYLOAD] != NULL)
        return write_payload(session, &record, err);
    rc = count(session, &record, err);
    object = record_json(session, &record, true);
    if (rc == OBX_OK && !session->args->json)
        show_record(&record);
    for (size_t i = 0; i < resource->detail_count && rc == OBX_OK; i++)
        rc = show_detail(session, &resource->details[i], object, err);
    if (rc == OBX_OK && session->args->json)
        json_print(object);
    json_decref(object);
    return rc;
}

enum ctl_exit resource_show(const struct ctl_args *args)
{
    const struct resource *resource = args->command->subject;
    const char *payload = args->text[CTL_PAYLOAD];
    struct selection selection = {.limit = 1, .is_whole = true};
    struct session session;
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (args->word_count != 1)
        return ctl_usage(args, "%s takes one ID, as %s list shows it", args->command->name,
                         resource->group);
    if (payload != NULL && strcmp(payload, "raw") != 0)
        return ctl_usage(args, "--payload is raw");
    if (!resource_key_is_valid(args, resource, args->words[0]))
        return CTL_USAGE;
    selection.key = args->words[0];
    status = resource_open(args, resource, &session);
    if (status != CTL_OK)
        return status;
    if (resource_select(&session, &selection, &rows, &err) != OBX_OK ||
        show(&session, rows, &err) != OBX_OK)
        status = session_fail(&session, &err);
    db_rows_free(rows);
    session_close(&session);
    return status;
}
