/*
 * outboxctl parked list and parked show.
 */
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
#include "outboxctl/target.h"
#include "parked_store.h"

enum { DECIMAL = 10 };

static const char *const heads[] = {">ID",    "OUTBOX", "TOPIC",  "KEY",     ">SIZE",  "PARKED",
                                    ">TRIES", "BEHIND", "REASON", "REQUEST", "BECAUSE"};
enum { HEAD_COUNT = sizeof(heads) / sizeof(heads[0]) };

static uint64_t number_at(const struct db_rows *rows, enum parked_column column)
{
    return db_rows_u64(rows, (unsigned)column);
}

static struct obx_bytes bytes_at(const struct db_rows *rows, enum parked_column column)
{
    return db_rows_bytes(rows, (unsigned)column);
}

/* ---- list ---- */

static void add_row(struct table *table, const struct db_rows *rows)
{
    char text[HUMAN_MAX];

    table_addf(table, "%" PRIu64, number_at(rows, PARKED_ID));
    table_add(table, bytes_at(rows, PARKED_OUTBOX));
    table_add(table, bytes_at(rows, PARKED_TOPIC));
    table_add(table, bytes_at(rows, PARKED_KEY));
    table_add(table, bytes_of(human_size(number_at(rows, PARKED_PAYLOAD_LEN), text)));
    table_add(table, bytes_of(human_time(bytes_at(rows, PARKED_AT), text)));
    table_addf(table, "%" PRIu64, number_at(rows, PARKED_ATTEMPTS));
    if (number_at(rows, PARKED_HOLDS_KEY) != 0)
        table_addf(table, "(head of %" PRIu64 ")", number_at(rows, PARKED_FOLLOWERS));
    else
        table_add(table, bytes_at(rows, PARKED_BEHIND_ID));
    table_add(table, bytes_at(rows, PARKED_REASON_CODE));
    table_add(table, bytes_at(rows, PARKED_REQUEST));
    table_add(table, bytes_at(rows, PARKED_REASON));
}

static void set_json_text(json_t *object, const char *name, struct obx_bytes text)
{
    char hex_name[64];
    struct obx_buf hex = {0};
    const unsigned char *p = text.p;
    json_t *value = json_null();

    if (text.p != NULL && utf8_is_valid(text)) {
        value = json_stringn(text.p, text.len);
    } else if (text.p != NULL) {
        /* Bytes that are no text: under another name, so that nobody takes the digits for the text.
         */
        for (size_t i = 0; i < text.len; i++) {
            if (buf_addf(&hex, "%02x", p[i]) != OBX_OK)
                break;
        }
        snprintf(hex_name, sizeof(hex_name), "%s_hex", name);
        json_object_set_new(object, hex_name, json_string(hex.data));
        buf_fini(&hex);
    }
    json_object_set_new(object, name, value);
}

static json_t *row_as_json(const struct db_rows *rows, const char *source)
{
    json_t *object = json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:b, s:I}", "parked_id",
                               (json_int_t)number_at(rows, PARKED_ID), "source", source, "id",
                               (json_int_t)number_at(rows, PARKED_ROW_ID), "attempts",
                               (json_int_t)number_at(rows, PARKED_ATTEMPTS), "payload_bytes",
                               (json_int_t)number_at(rows, PARKED_PAYLOAD_LEN), "age_ms",
                               (json_int_t)(number_at(rows, PARKED_AGE_US) / 1000), "holds_key",
                               number_at(rows, PARKED_HOLDS_KEY) != 0, "followers",
                               (json_int_t)number_at(rows, PARKED_FOLLOWERS));

    set_json_text(object, "outbox", bytes_at(rows, PARKED_OUTBOX));
    set_json_text(object, "message_id", bytes_at(rows, PARKED_MESSAGE_ID));
    set_json_text(object, "topic", bytes_at(rows, PARKED_TOPIC));
    set_json_text(object, "ordering_key", bytes_at(rows, PARKED_KEY));
    set_json_text(object, "content_type", bytes_at(rows, PARKED_CONTENT_TYPE));
    set_json_text(object, "reason_code", bytes_at(rows, PARKED_REASON_CODE));
    set_json_text(object, "reason", bytes_at(rows, PARKED_REASON));
    set_json_text(object, "created_at", bytes_at(rows, PARKED_CREATED_AT));
    set_json_text(object, "parked_at", bytes_at(rows, PARKED_AT));
    set_json_text(object, "blocked_by", bytes_at(rows, PARKED_BEHIND_ID));
    set_json_text(object, "request", bytes_at(rows, PARKED_REQUEST));
    set_json_text(object, "requested_at", bytes_at(rows, PARKED_REQUESTED_AT));
    set_json_text(object, "requested_by", bytes_at(rows, PARKED_REQUESTED_BY));
    set_json_text(object, "request_note", bytes_at(rows, PARKED_REQUEST_NOTE));
    return object;
}

static void list_as_json(struct db_rows *rows, const char *source, uint32_t limit)
{
    json_t *list = json_array();

    while (json_array_size(list) < limit && db_rows_next(rows))
        json_array_append_new(list, row_as_json(rows, source));
    json_print(list);
    json_decref(list);
}

/* One row more than asked for was read, to know whether there is another page. */
static enum ctl_exit list_as_table(struct db_rows *rows, uint32_t limit)
{
    struct table table;
    uint64_t last = 0;
    uint32_t shown = 0;
    enum obx_code rc;

    table_init(&table, heads, HEAD_COUNT);
    for (; shown < limit && db_rows_next(rows); shown++) {
        add_row(&table, rows);
        last = number_at(rows, PARKED_ID);
    }
    if (shown == 0)
        printf("nothing is parked here\n");
    rc = shown == 0 ? OBX_OK : table_print(&table, stdout);
    if (rc == OBX_OK && db_rows_count(rows) > limit)
        printf("more: --after %" PRIu64 "\n", last);
    table_fini(&table);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

static bool parse_id(const char *text, uint64_t *id)
{
    char *end = NULL;

    errno = 0;
    *id = strtoull(text, &end, DECIMAL);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

static uint64_t after_of(const struct ctl_args *args)
{
    uint64_t id = 0;

    if (args->text[CTL_AFTER] != NULL)
        parse_id(args->text[CTL_AFTER], &id);
    return id;
}

static enum ctl_exit list(const struct ctl_args *args, const struct target *target)
{
    const struct parked_filter filter = {.outbox = args->text[CTL_OUTBOX],
                                         .topic = args->text[CTL_TOPIC],
                                         .reason_code = args->text[CTL_REASON],
                                         .key = args->text[CTL_KEY],
                                         .after = after_of(args),
                                         .limit = args->limit + 1};
    struct db *db = target_connect(target);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (db == NULL)
        return CTL_FAILED;
    if (parked_find(db, &filter, &rows, &err) != OBX_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    } else if (args->json) {
        list_as_json(rows, target->source, args->limit);
    } else {
        status = list_as_table(rows, args->limit);
    }
    db_rows_free(rows);
    db_close(db);
    return status;
}

static enum ctl_exit with_single(const struct ctl_args *args,
                                 enum ctl_exit (*run)(const struct ctl_args *args,
                                                      const struct target *target))
{
    struct targets targets;
    const struct target *target;
    enum ctl_exit status = targets_open(args, &targets);

    if (status != CTL_OK)
        return status;
    target = targets_single(&targets);
    status = target == NULL ? CTL_USAGE : run(args, target);
    targets_close(&targets);
    return status;
}

enum ctl_exit cmd_parked_list(const struct ctl_args *args)
{
    const char *after = args->text[CTL_AFTER];
    uint64_t id = 0;

    if (after != NULL && !parse_id(after, &id)) {
        fprintf(stderr, "outboxctl: --after takes an ID, as parked list shows it\n");
        return CTL_USAGE;
    }
    return with_single(args, list);
}

/* ---- show ---- */

static void print_time(const char *name, struct obx_bytes value)
{
    char text[HUMAN_MAX];

    if (!bytes_is_absent(value))
        printf("%-14s %s\n", name, human_time(value, text));
}

static void print_place_in_key(const struct db_rows *rows)
{
    if (number_at(rows, PARKED_HOLDS_KEY) != 0)
        printf("%-14s at its head; %" PRIu64 " parked behind it\n", "frozen key",
               number_at(rows, PARKED_FOLLOWERS));
    else if (!db_rows_is_null(rows, PARKED_BEHIND_ID))
        printf("%-14s behind row %" PRIu64 " of the same key\n", "frozen key",
               number_at(rows, PARKED_BEHIND_ID));
}

static void print_request(const struct db_rows *rows)
{
    show_field("request", bytes_at(rows, PARKED_REQUEST));
    show_field("requested by", bytes_at(rows, PARKED_REQUESTED_BY));
    print_time("requested at", bytes_at(rows, PARKED_REQUESTED_AT));
    show_field("note", bytes_at(rows, PARKED_REQUEST_NOTE));
}

static void print_row(const struct db_rows *rows)
{
    printf("%-14s %" PRIu64 "\n", "ID", number_at(rows, PARKED_ID));
    show_field("outbox", bytes_at(rows, PARKED_OUTBOX));
    printf("%-14s %" PRIu64 "\n", "row", number_at(rows, PARKED_ROW_ID));
    show_field("message id", bytes_at(rows, PARKED_MESSAGE_ID));
    show_field("topic", bytes_at(rows, PARKED_TOPIC));
    show_field("ordering key", bytes_at(rows, PARKED_KEY));
    print_time("created", bytes_at(rows, PARKED_CREATED_AT));
    print_time("parked", bytes_at(rows, PARKED_AT));
    show_field("reason", bytes_at(rows, PARKED_REASON_CODE));
    show_field("because", bytes_at(rows, PARKED_REASON));
    printf("%-14s %" PRIu64 "\n", "attempts", number_at(rows, PARKED_ATTEMPTS));
    print_place_in_key(rows);
    print_request(rows);
    show_field("content type", bytes_at(rows, PARKED_CONTENT_TYPE));
    show_field("headers", bytes_at(rows, PARKED_HEADERS));
    show_preview(bytes_at(rows, PARKED_PAYLOAD));
}

static void print_row_json(const struct db_rows *rows, const char *source)
{
    json_t *object = row_as_json(rows, source);

    set_json_text(object, "headers", bytes_at(rows, PARKED_HEADERS));
    set_json_text(object, "payload", bytes_at(rows, PARKED_PAYLOAD));
    json_print(object);
    json_decref(object);
}

static enum ctl_exit show(const struct ctl_args *args, const struct target *target)
{
    struct db *db = target_connect(target);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t id = 0;
    enum ctl_exit status = CTL_OK;

    if (db == NULL)
        return CTL_FAILED;
    parse_id(args->words[0], &id);
    if (parked_get(db, id, &rows, &err) != OBX_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    } else if (args->text[CTL_PAYLOAD] != NULL) {
        struct obx_bytes payload = bytes_at(rows, PARKED_PAYLOAD);

        if (payload.len > 0 && fwrite(payload.p, 1, payload.len, stdout) != payload.len)
            status = CTL_FAILED;
    } else if (args->json) {
        print_row_json(rows, target->source);
    } else {
        print_row(rows);
    }
    db_rows_free(rows);
    db_close(db);
    return status;
}

enum ctl_exit cmd_parked_show(const struct ctl_args *args)
{
    const char *payload = args->text[CTL_PAYLOAD];
    uint64_t id = 0;

    if (args->word_count != 1 || !parse_id(args->words[0], &id)) {
        fprintf(stderr, "outboxctl: parked show takes one ID, as parked list shows it\n");
        return CTL_USAGE;
    }
    if (payload != NULL && strcmp(payload, "raw") != 0) {
        fprintf(stderr, "outboxctl: --payload is raw\n");
        return CTL_USAGE;
    }
    return with_single(args, show);
}
