/*
 * outboxctl notify list and notify show.
 */
#include "cmd_notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/utf8.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/show.h"
#include "outboxctl/print/table.h"
#include "sql/schema.h"

enum { DECIMAL = 10 };

static const char *const heads[] = {">ID",       "ENDPOINT", "STATE",   "MESSAGE", "TOPIC",
                                    ">ATTEMPTS", "NEXT",     ">STATUS", "BECAUSE"};
enum { HEAD_COUNT = sizeof(heads) / sizeof(heads[0]) };

static struct obx_bytes at(const struct db_rows *rows, enum notify_column column)
{
    return db_rows_bytes(rows, (unsigned)column);
}

static uint64_t number_at(const struct db_rows *rows, enum notify_column column)
{
    return db_rows_u64(rows, (unsigned)column);
}

bool notify_parse_id(const char *text, uint64_t *id)
{
    char *end = NULL;

    errno = 0;
    *id = strtoull(text, &end, DECIMAL);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

enum ctl_exit notify_run(const struct ctl_args *args, notify_run_fn *run)
{
    struct targets targets;
    const struct target *target;
    struct obx_err err = {0};
    struct db *db = NULL;
    enum ctl_exit status = targets_open(args, &targets);

    if (status != CTL_OK)
        return status;
    target = targets_single(&targets);
    status = target == NULL ? CTL_USAGE : CTL_OK;
    if (status == CTL_OK) {
        db = target_connect(target);
        status = db == NULL ? CTL_FAILED : CTL_OK;
    }
    if (status == CTL_OK && schema_check(db, SCHEMA_NOTIFY, &err) == OBX_OK)
        status = run(args, target, db);
    else if (status == CTL_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    }
    db_close(db);
    targets_close(&targets);
    return status;
}

struct notify_filter notify_filter_of(const struct ctl_args *args)
{
    return (struct notify_filter){.group = args->text[CTL_GROUP],
                                  .endpoint = args->text[CTL_ENDPOINT],
                                  .state = args->text[CTL_STATE],
                                  .message_id = args->text[CTL_MESSAGE],
                                  .topic = args->text[CTL_TOPIC]};
}

bool notify_state_is_right(const char *state)
{
    if (state == NULL || strcmp(state, "waiting") == 0 || strcmp(state, "delivered") == 0 ||
        strcmp(state, "given_up") == 0)
        return true;
    fprintf(stderr, "outboxctl: --state is waiting, delivered or given_up\n");
    return false;
}

/* ---- list ---- */

static void add_row(struct table *table, const struct db_rows *rows)
{
    const bool is_waiting = bytes_is(at(rows, NOTIFY_STATE), "waiting");
    char text[HUMAN_MAX];

    table_addf(table, "%" PRIu64, number_at(rows, NOTIFY_ID));
    table_add(table, at(rows, NOTIFY_ENDPOINT));
    table_add(table, at(rows, NOTIFY_STATE));
    table_add(table, at(rows, NOTIFY_MESSAGE_ID));
    table_add(table, at(rows, NOTIFY_TOPIC));
    table_addf(table, "%" PRIu64, number_at(rows, NOTIFY_ATTEMPTS));
    if (is_waiting && number_at(rows, NOTIFY_PAUSED) != 0)
        table_add(table, bytes_of("paused"));
    else if (is_waiting)
        table_add(table, bytes_of(human_time(at(rows, NOTIFY_DUE_AT), text)));
    else
        table_add(table, (struct obx_bytes){NULL, 0});
    table_add(table, at(rows, NOTIFY_LAST_STATUS));
    table_add(table, at(rows, NOTIFY_LAST_ERROR));
}

static void set_text(json_t *object, const char *name, struct obx_bytes text)
{
    json_t *value = bytes_is_absent(text) || !utf8_is_valid(text) ? json_null()
                                                                  : json_stringn(text.p, text.len);

    json_object_set_new(object, name, value);
}

static json_t *as_json(const struct db_rows *rows)
{
    json_t *object = json_pack("{s:I, s:I, s:b}", "id", (json_int_t)number_at(rows, NOTIFY_ID),
                               "attempts", (json_int_t)number_at(rows, NOTIFY_ATTEMPTS), "paused",
                               number_at(rows, NOTIFY_PAUSED) != 0);

    set_text(object, "group", at(rows, NOTIFY_GROUP));
    set_text(object, "endpoint", at(rows, NOTIFY_ENDPOINT));
    set_text(object, "state", at(rows, NOTIFY_STATE));
    set_text(object, "due_at", at(rows, NOTIFY_DUE_AT));
    set_text(object, "message_id", at(rows, NOTIFY_MESSAGE_ID));
    set_text(object, "topic", at(rows, NOTIFY_TOPIC));
    set_text(object, "recorded_at", at(rows, NOTIFY_RECORDED_AT));
    set_text(object, "last_at", at(rows, NOTIFY_LAST_AT));
    set_text(object, "last_status", at(rows, NOTIFY_LAST_STATUS));
    set_text(object, "last_error", at(rows, NOTIFY_LAST_ERROR));
    return object;
}

static void list_json(struct db_rows *rows, uint32_t limit)
{
    json_t *list = json_array();

    while (json_array_size(list) < limit && db_rows_next(rows))
        json_array_append_new(list, as_json(rows));
    json_print(list);
    json_decref(list);
}

/* One row more than asked for was read, to know whether there is another page. */
static enum ctl_exit list_table(struct db_rows *rows, uint32_t limit)
{
    struct table table;
    uint64_t last = 0;
    uint32_t shown = 0;
    enum obx_code rc = OBX_OK;

    table_init(&table, heads, HEAD_COUNT);
    for (; shown < limit && db_rows_next(rows); shown++) {
        add_row(&table, rows);
        last = number_at(rows, NOTIFY_ID);
    }
    if (shown == 0)
        printf("no notification is like that\n");
    else
        rc = table_print(&table, stdout);
    if (rc == OBX_OK && db_rows_count(rows) > limit)
        printf("more: --after %" PRIu64 "\n", last);
    table_fini(&table);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

static enum ctl_exit list(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct notify_filter filter = notify_filter_of(args);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (args->text[CTL_AFTER] != NULL && !notify_parse_id(args->text[CTL_AFTER], &filter.after)) {
        fprintf(stderr, "outboxctl: --after is an ID, as notify list shows it\n");
        return CTL_USAGE;
    }
    filter.limit = args->limit + 1;
    if (notify_find(db, &filter, &rows, &err) != OBX_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    } else if (args->json) {
        list_json(rows, args->limit);
    } else {
        status = list_table(rows, args->limit);
    }
    db_rows_free(rows);
    return status;
}

enum ctl_exit cmd_notify_list(const struct ctl_args *args)
{
    return notify_state_is_right(args->text[CTL_STATE]) ? notify_run(args, list) : CTL_USAGE;
}

/* ---- show ---- */

static void show_time(const char *name, struct obx_bytes value)
{
    char text[HUMAN_MAX];

    if (!bytes_is_absent(value))
        show_field(name, bytes_of(human_time(value, text)));
}

static void show_row(const struct db_rows *rows)
{
    const bool is_waiting = bytes_is(at(rows, NOTIFY_STATE), "waiting");

    show_field("ID", at(rows, NOTIFY_ID));
    show_field("group", at(rows, NOTIFY_GROUP));
    show_field("endpoint", at(rows, NOTIFY_ENDPOINT));
    show_field("paused", at(rows, NOTIFY_PAUSE_REASON));
    show_field("state", at(rows, NOTIFY_STATE));
    show_time(is_waiting ? "next call" : "kept until", at(rows, NOTIFY_DUE_AT));
    show_field("message id", at(rows, NOTIFY_MESSAGE_ID));
    show_field("topic", at(rows, NOTIFY_TOPIC));
    show_field("ordering key", at(rows, NOTIFY_KEY));
    show_time("created", at(rows, NOTIFY_CREATED_AT));
    show_time("recorded", at(rows, NOTIFY_RECORDED_AT));
    show_field("attempts", at(rows, NOTIFY_ATTEMPTS));
    show_time("last call", at(rows, NOTIFY_LAST_AT));
    show_field("status", at(rows, NOTIFY_LAST_STATUS));
    show_field("because", at(rows, NOTIFY_LAST_ERROR));
    show_field("content type", at(rows, NOTIFY_CONTENT_TYPE));
    show_preview(at(rows, NOTIFY_BODY));
}

static enum ctl_exit show(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t id = 0;
    enum ctl_exit status = CTL_OK;

    (void)notify_parse_id(args->words[0], &id);
    if (notify_get(db, id, &rows, &err) != OBX_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    } else if (args->text[CTL_PAYLOAD] != NULL) {
        struct obx_bytes body = at(rows, NOTIFY_BODY);

        if (body.len > 0 && fwrite(body.p, 1, body.len, stdout) != body.len)
            status = CTL_FAILED;
    } else if (args->json) {
        json_t *object = as_json(rows);

        set_text(object, "body", at(rows, NOTIFY_BODY));
        json_print(object);
        json_decref(object);
    } else {
        show_row(rows);
    }
    db_rows_free(rows);
    return status;
}

enum ctl_exit cmd_notify_show(const struct ctl_args *args)
{
    const char *payload = args->text[CTL_PAYLOAD];
    uint64_t id = 0;

    if (args->word_count != 1 || !notify_parse_id(args->words[0], &id)) {
        fprintf(stderr, "outboxctl: notify show takes one ID, as notify list shows it\n");
        return CTL_USAGE;
    }
    if (payload != NULL && strcmp(payload, "raw") != 0) {
        fprintf(stderr, "outboxctl: --payload is raw\n");
        return CTL_USAGE;
    }
    return notify_run(args, show);
}
