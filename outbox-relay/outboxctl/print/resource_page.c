/*
 * What is shown of a resource's rows: a list as a table or as JSON, one row in full with what
 * belongs to it.
 */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "ops/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/show.h"
#include "outboxctl/print/table.h"
#include "resource_page.h"

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
            table_add(table, record_describe(record, column, &text)
                                 ? described(&text)
                                 : record_cell(column, record->rows, i, room));
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

/* ---- the command line ---- */

enum ctl_exit resource_open(const struct ctl_args *args, const struct resource *resource,
                            struct session *out)
{
    enum ctl_exit status = session_open(args, resource->side, resource->choose, out);

    out->resource = resource;
    return status;
}

bool takes_state(const struct ctl_args *args, const struct resource *resource, const char **state)
{
    struct obx_buf names = {0};

    if (resource_state(args, resource, state))
        return true;
    for (size_t i = 0; resource->states[i] != NULL; i++)
        buf_addf(&names, "%s, ", resource->states[i]);
    ctl_usage(args, "--state is %sor any", names.data == NULL ? "" : names.data);
    buf_fini(&names);
    return false;
}

bool takes_key(const struct ctl_args *args, const struct resource *resource, const char *text)
{
    if (resource_key_is_valid(resource, text))
        return true;
    ctl_usage(args, "%s is no ID, as %s list shows it", text, resource->group);
    return false;
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
        rc = record_count(session, &record, err);
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

    if ((selection.after == NULL || takes_key(args, resource, selection.after)) &&
        takes_state(args, resource, &selection.state))
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
        else if (record_describe(record, column, &text))
            show_field(column->label, described(&text));
        else if (column->kind == COLUMN_LINES)
            show_lines(column->label, db_rows_bytes(record->rows, i));
        else
            show_field(column->label, record_cell(column, record->rows, i, room));
    }
    buf_fini(&text);
}

/* What belongs to the row: a table below it, or a list in its object. */
static enum obx_code show_detail(const struct session *session, const struct detail *detail,
                                 json_t *object, struct obx_err *err)
{
    const char *heads[TABLE_COLUMNS_MAX];
    struct db_rows *rows = NULL;
    json_t *list = json_array();
    char room[HUMAN_MAX];
    struct table table;
    enum obx_code rc = OBX_OK;

    table_init(&table, heads, heads_of(detail->columns, detail->column_count, heads));
    rc = detail_select(session->db, detail, session->args->words[0], &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        json_t *item = json_object();

        for (unsigned i = 0; i < detail->column_count; i++) {
            record_set_json(item, &detail->columns[i], rows, i);
            table_add(&table, record_cell(&detail->columns[i], rows, i, room));
        }
        json_array_append_new(list, item);
    }
    json_object_set_new(object, detail->json, list);
    if (rc == OBX_OK && !session->args->json && table.cells > 0) {
        putchar('\n');
        rc = table_print(&table, stdout);
    }
    db_rows_free(rows);
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
    rc = record_count(session, &record, err);
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
    if (!takes_key(args, resource, args->words[0]))
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
