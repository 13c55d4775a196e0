/*
 * outboxctl dead list and dead show.
 */
#include "cmd_dead.h"

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

static const char *const heads[] = {">ID",       "GROUP",  "STATE",  "TOPIC",   "KEY",
                                    ">ATTEMPTS", "FAILED", "REASON", "REQUEST", "BECAUSE"};
enum { HEAD_COUNT = sizeof(heads) / sizeof(heads[0]) };

static struct obx_bytes at(const struct db_rows *rows, enum dead_column column)
{
    return db_rows_bytes(rows, (unsigned)column);
}

static uint64_t number_at(const struct db_rows *rows, enum dead_column column)
{
    return db_rows_u64(rows, (unsigned)column);
}

bool dead_parse_id(const char *text, uint64_t *id)
{
    char *end = NULL;

    errno = 0;
    *id = strtoull(text, &end, DECIMAL);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

enum ctl_exit dead_run(const struct ctl_args *args, dead_run_fn *run)
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
    if (status == CTL_OK && schema_check(db, SCHEMA_CONSUMER, &err) == OBX_OK)
        status = run(args, target, db);
    else if (status == CTL_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    }
    db_close(db);
    targets_close(&targets);
    return status;
}

struct dead_filter dead_filter_of(const struct ctl_args *args)
{
    return (struct dead_filter){.group = args->text[CTL_GROUP],
                                .reason_code = args->text[CTL_REASON],
                                .key = args->text[CTL_KEY],
                                .topic = args->text[CTL_TOPIC],
                                .state = "dead"};
}

/* ---- list ---- */

static void add_row(struct table *table, const struct db_rows *rows)
{
    char text[HUMAN_MAX];

    table_addf(table, "%" PRIu64, number_at(rows, DEAD_ID));
    table_add(table, at(rows, DEAD_GROUP));
    table_add(table, at(rows, DEAD_STATE));
    table_add(table, at(rows, DEAD_TOPIC));
    table_add(table, at(rows, DEAD_KEY));
    table_addf(table, "%" PRIu64, number_at(rows, DEAD_ATTEMPTS));
    table_add(table, bytes_of(human_time(at(rows, DEAD_LAST_FAILED_AT), text)));
    table_add(table, at(rows, DEAD_REASON_CODE));
    table_add(table, at(rows, DEAD_REQUEST));
    table_add(table, at(rows, DEAD_REASON));
}

static void set_text(json_t *object, const char *name, struct obx_bytes text)
{
    json_t *value = bytes_is_absent(text) || !utf8_is_valid(text) ? json_null()
                                                                  : json_stringn(text.p, text.len);

    json_object_set_new(object, name, value);
}

static json_t *as_json(const struct db_rows *rows)
{
    static const struct {
        const char *name;
        enum dead_column column;
    } texts[] = {{"group", DEAD_GROUP},
                 {"state", DEAD_STATE},
                 {"message_id", DEAD_MESSAGE_ID},
                 {"topic", DEAD_TOPIC},
                 {"ordering_key", DEAD_KEY},
                 {"reason_code", DEAD_REASON_CODE},
                 {"reason", DEAD_REASON},
                 {"parked_at", DEAD_PARKED_AT},
                 {"first_failed_at", DEAD_FIRST_FAILED_AT},
                 {"last_failed_at", DEAD_LAST_FAILED_AT},
                 {"next_at", DEAD_NEXT_AT},
                 {"replay_until", DEAD_REPLAY_UNTIL},
                 {"request", DEAD_REQUEST},
                 {"requested_at", DEAD_REQUESTED_AT},
                 {"requested_by", DEAD_REQUESTED_BY},
                 {"request_note", DEAD_NOTE}};
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:I, s:b, s:b}", "id", (json_int_t)number_at(rows, DEAD_ID), "attempts",
        (json_int_t)number_at(rows, DEAD_ATTEMPTS), "bytes", (json_int_t)number_at(rows, DEAD_SIZE),
        "replays", (json_int_t)number_at(rows, DEAD_REPLAYS), "is_reported",
        number_at(rows, DEAD_IS_TOLD) != 0, "is_edited", number_at(rows, DEAD_IS_EDITED) != 0);

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        set_text(object, texts[i].name, at(rows, texts[i].column));
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
        last = number_at(rows, DEAD_ID);
    }
    if (shown == 0)
        printf("no message is like that\n");
    else
        rc = table_print(&table, stdout);
    if (rc == OBX_OK && db_rows_count(rows) > limit)
        printf("more: --after %" PRIu64 "\n", last);
    table_fini(&table);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

static bool is_state(const char *state)
{
    static const char *const states[] = {"dead", "waiting", "blocked", "any"};

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(state, states[i]) == 0)
            return true;
    }
    fprintf(stderr, "outboxctl: --state is dead, waiting, behind or any\n");
    return false;
}

static enum ctl_exit list(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct dead_filter filter = dead_filter_of(args);
    const char *state = args->text[CTL_STATE];
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (args->text[CTL_AFTER] != NULL && !dead_parse_id(args->text[CTL_AFTER], &filter.after)) {
        fprintf(stderr, "outboxctl: --after is an ID, as dead list shows it\n");
        return CTL_USAGE;
    }
    if (state != NULL)
        filter.state = strcmp(state, "any") == 0 ? NULL : state;
    filter.limit = args->limit + 1;
    if (dead_find(db, &filter, &rows, &err) != OBX_OK) {
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

enum ctl_exit cmd_dead_list(const struct ctl_args *args)
{
    if (args->text[CTL_STATE] != NULL && !is_state(args->text[CTL_STATE]))
        return CTL_USAGE;
    return dead_run(args, list);
}

/* ---- show ---- */

static void show_time(const char *name, struct obx_bytes value)
{
    char text[HUMAN_MAX];

    if (!bytes_is_absent(value))
        show_field(name, bytes_of(human_time(value, text)));
}

/* One line of the text for each property and header. */
static void show_properties(struct obx_bytes text)
{
    const char *p = text.p;

    for (size_t i = 0; i < text.len;) {
        const char *end = memchr(p + i, '\n', text.len - i);
        size_t len = end == NULL ? text.len - i : (size_t)(end - (p + i));

        show_field("came with", (struct obx_bytes){.p = p + i, .len = len});
        i += len + 1;
    }
}

static void show_replay(const struct db_rows *rows)
{
    if (number_at(rows, DEAD_IS_TOLD) != 0)
        show_field("replay", bytes_of("with --force only: its producer is told it was rejected"));
    else if (number_at(rows, DEAD_IS_OLD) != 0)
        show_field("replay", bytes_of("with --force only: older than the dedup rows are kept"));
    else
        show_time("replay until", at(rows, DEAD_REPLAY_UNTIL));
}

static void show_row(const struct db_rows *rows)
{
    show_field("ID", at(rows, DEAD_ID));
    show_field("group", at(rows, DEAD_GROUP));
    show_field("state", at(rows, DEAD_STATE));
    show_field("message id", at(rows, DEAD_MESSAGE_ID));
    show_field("topic", at(rows, DEAD_TOPIC));
    show_field("ordering key", at(rows, DEAD_KEY));
    show_field("attempts", at(rows, DEAD_ATTEMPTS));
    show_field("reason", at(rows, DEAD_REASON_CODE));
    show_field("because", at(rows, DEAD_REASON));
    show_time("parked", at(rows, DEAD_PARKED_AT));
    show_time("first failed", at(rows, DEAD_FIRST_FAILED_AT));
    show_time("last failed", at(rows, DEAD_LAST_FAILED_AT));
    show_time("next", at(rows, DEAD_NEXT_AT));
    if (bytes_is(at(rows, DEAD_STATE), "dead"))
        show_replay(rows);
    show_field("request", at(rows, DEAD_REQUEST));
    show_field("requested by", at(rows, DEAD_REQUESTED_BY));
    show_time("requested at", at(rows, DEAD_REQUESTED_AT));
    show_field("note", at(rows, DEAD_NOTE));
    show_field("replays", at(rows, DEAD_REPLAYS));
    show_field("queue", at(rows, DEAD_QUEUE));
    show_field("exchange", at(rows, DEAD_EXCHANGE));
    show_field("routing key", at(rows, DEAD_ROUTING_KEY));
    show_properties(at(rows, DEAD_PROPERTIES));
    if (number_at(rows, DEAD_IS_EDITED) != 0)
        show_field("body", bytes_of("edited by an operator"));
    show_preview(at(rows, DEAD_BODY));
}

static enum ctl_exit print_row(const struct ctl_args *args, const struct db_rows *rows)
{
    struct obx_bytes body = at(rows, DEAD_BODY);
    json_t *object = NULL;

    if (args->text[CTL_PAYLOAD] != NULL)
        return fwrite(body.p, 1, body.len, stdout) == body.len ? CTL_OK : CTL_FAILED;
    if (!args->json) {
        show_row(rows);
        return CTL_OK;
    }
    object = as_json(rows);
    set_text(object, "queue", at(rows, DEAD_QUEUE));
    set_text(object, "exchange", at(rows, DEAD_EXCHANGE));
    set_text(object, "routing_key", at(rows, DEAD_ROUTING_KEY));
    set_text(object, "properties", at(rows, DEAD_PROPERTIES));
    set_text(object, "body", body);
    json_print(object);
    json_decref(object);
    return CTL_OK;
}

static enum ctl_exit show(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t id = 0;
    enum ctl_exit status = CTL_FAILED;

    (void)dead_parse_id(args->words[0], &id);
    if (dead_get(db, id, &rows, &err) == OBX_OK)
        status = print_row(args, rows);
    else
        target_complain(target, &err);
    db_rows_free(rows);
    return status;
}

enum ctl_exit cmd_dead_show(const struct ctl_args *args)
{
    uint64_t id = 0;

    if (args->word_count != 1 || !dead_parse_id(args->words[0], &id)) {
        fprintf(stderr, "outboxctl: dead show takes one ID, as dead list shows it\n");
        return CTL_USAGE;
    }
    if (args->text[CTL_PAYLOAD] != NULL && strcmp(args->text[CTL_PAYLOAD], "raw") != 0) {
        fprintf(stderr, "outboxctl: --payload is raw\n");
        return CTL_USAGE;
    }
    return dead_run(args, show);
}
