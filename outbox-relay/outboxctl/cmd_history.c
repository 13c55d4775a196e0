/*
 * outboxctl parked history and dead history: what operators have ended or changed, the latest
 * first, from the audit tables (sql/schema).
 */
#include <inttypes.h>
#include <stdio.h>

#include <jansson.h>

#include "base/utf8.h"
#include "ctl_args.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/table.h"
#include "tables/outbox_columns.h"
#include "target.h"

/* The last ones, or those of one message. */
struct query {
    const char *all, *one;
};
#define SELECT_FROM(place, table)                                                                  \
    "SELECT done_at, actor, action, " MESSAGE_NAME_COLUMNS ", reason_code, note, " place           \
    " FROM " table
#define QUERY(place, table)                                                                        \
    {                                                                                              \
        SELECT_FROM(place, table)                                                                  \
        " ORDER BY audit_id DESC LIMIT ?",                                                         \
            SELECT_FROM(place, table) " WHERE message_id = ? ORDER BY audit_id DESC LIMIT ?"       \
    }
static const struct query of_outbox = QUERY("CONCAT(outbox, ' ', id)", "outbox_audit");
static const struct query of_group = QUERY("CONCAT(consumer_group, ' ', parked_id)", "inbox_audit");

enum { DONE_AT, ACTOR, ACTION, MESSAGE_ID, TOPIC, KEY, REASON_CODE, NOTE, PLACE, COLUMN_COUNT };

static const char *const heads[COLUMN_COUNT] = {"WHEN", "WHO",    "WHAT", "MESSAGE", "TOPIC",
                                                "KEY",  "REASON", "NOTE", "WHERE"};
static const char *const names[COLUMN_COUNT] = {"done_at",     "actor", "action",
                                                "message_id",  "topic", "ordering_key",
                                                "reason_code", "note",  "place"};

static void print_json(struct db_rows *rows)
{
    json_t *list = json_array();

    while (db_rows_next(rows)) {
        json_t *object = json_object();

        for (unsigned i = 0; i < COLUMN_COUNT; i++) {
            const struct obx_bytes text = db_rows_bytes(rows, i);

            json_object_set_new(object, names[i],
                                bytes_is_absent(text) || !utf8_is_valid(text)
                                    ? json_null()
                                    : json_stringn(text.p, text.len));
        }
        json_array_append_new(list, object);
    }
    json_print(list);
    json_decref(list);
}

static enum ctl_exit print_table(struct db_rows *rows)
{
    struct table table;
    char text[HUMAN_MAX];
    enum obx_code rc = OBX_OK;

    if (db_rows_count(rows) == 0) {
        printf("nothing was ended or changed by hand within the last year\n");
        return CTL_OK;
    }
    table_init(&table, heads, COLUMN_COUNT);
    while (db_rows_next(rows)) {
        table_add(&table, bytes_of(human_time(db_rows_bytes(rows, DONE_AT), text)));
        for (unsigned i = ACTOR; i < COLUMN_COUNT; i++)
            table_add(&table, db_rows_bytes(rows, i));
    }
    rc = table_print(&table, stdout);
    table_fini(&table);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

static enum obx_code find(const struct ctl_args *args, struct db *db, const struct query *query,
                          struct db_rows **rows, struct obx_err *err)
{
    const char *message = args->text[CTL_MESSAGE];

    if (message == NULL)
        return db_query(db, query->all, DB_ARGS(DB_U64(args->limit)), rows, err);
    return db_query(db, query->one, DB_ARGS(DB_TEXT(message), DB_U64(args->limit)), rows, err);
}

static enum ctl_exit look(const struct ctl_args *args, const struct target *target,
                          const struct query *query)
{
    struct db *db = target_connect(target);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_FAILED;

    if (db == NULL)
        return CTL_FAILED;
    if (find(args, db, query, &rows, &err) != OBX_OK) {
        target_complain(target, &err);
    } else if (args->json) {
        print_json(rows);
        status = CTL_OK;
    } else {
        status = print_table(rows);
    }
    db_rows_free(rows);
    db_close(db);
    return status;
}

static enum ctl_exit history(const struct ctl_args *args, const struct query *query)
{
    struct targets targets;
    const struct target *target = NULL;
    enum ctl_exit status = targets_open(args, &targets);

    if (status != CTL_OK)
        return status;
    target = targets_single(&targets);
    status = target == NULL ? CTL_USAGE : look(args, target, query);
    targets_close(&targets);
    return status;
}

enum ctl_exit cmd_parked_history(const struct ctl_args *args)
{
    return history(args, &of_outbox);
}

enum ctl_exit cmd_dead_history(const struct ctl_args *args)
{
    return history(args, &of_group);
}
