/*
 * outboxctl half list and half show.
 */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "half/api/half_json.h"
#include "half/store/half_record.h"
#include "half_target.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/table.h"
#include "tables/outbox_columns.h"

enum { HISTORY_LINES = 50 };

static const char *const heads[] = {"GID",    "STATE",     "PRODUCER",   "PREPARED", "CHECK DUE",
                                    ">ASKED", ">ANSWERED", "DECIDED BY", "NOTE"};
enum { HEAD_COUNT = sizeof(heads) / sizeof(heads[0]) };

/* ---- list ---- */

static struct obx_bytes text_or_absent(const char *text)
{
    return text[0] == '\0' ? (struct obx_bytes){0} : bytes_of(text);
}

static void add_row(struct table *table, const struct half_item *item)
{
    const struct half_record *rec = &item->rec;
    char text[HUMAN_MAX];

    table_add(table, bytes_of(item->gid));
    table_add(table, bytes_of(half_state_name(rec->state)));
    table_add(table, bytes_of(rec->producer));
    table_add(table, bytes_of(human_time_us(rec->prepared_us, text)));
    table_add(table, bytes_of(human_time_us(rec->next_check_us, text)));
    table_addf(table, "%" PRIu32, rec->checks_asked);
    table_addf(table, "%" PRIu32, rec->checks_answered);
    table_add(table, text_or_absent(rec->decided_by));
    table_add(table, text_or_absent(rec->note));
}

static enum ctl_exit list_as_table(const struct half_list *list)
{
    struct table table;
    enum obx_code rc;

    if (list->count == 0) {
        printf("there is none%s\n", list->has_state && list->state == HALF_PARKED
                                        ? "; --state any shows those that are not parked"
                                        : "");
        return CTL_OK;
    }
    table_init(&table, heads, HEAD_COUNT);
    for (size_t i = 0; i < list->count; i++)
        add_row(&table, &list->items[i]);
    rc = table_print(&table, stdout);
    table_fini(&table);
    if (rc == OBX_OK && list->next[0] != '\0')
        printf("more: --after %s\n", list->next);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

/* As the API shows it. */
static enum ctl_exit list_as_json(const struct half_list *list)
{
    struct obx_buf text = {0};
    enum obx_code rc = half_json_add_list(&text, list);

    if (rc == OBX_OK)
        printf("%s\n", text.data);
    buf_fini(&text);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

/* Parked ones, unless another state is asked for. */
static bool fill_filter(const struct ctl_args *args, struct half_list *list)
{
    const char *state = args->text[CTL_STATE] != NULL ? args->text[CTL_STATE] : "parked";

    *list = (struct half_list){.limit = args->limit};
    list->has_state = strcmp(state, "any") != 0;
    if (list->has_state && !half_state_parse(bytes_of(state), &list->state)) {
        fprintf(stderr, "outboxctl: --state is prepared, parked, committed, rolled_back or any\n");
        return false;
    }
    if (!bytes_to_text(bytes_of(args->text[CTL_PRODUCER]), list->producer,
                       sizeof(list->producer)) ||
        !bytes_to_text(bytes_of(args->text[CTL_AFTER]), list->after, sizeof(list->after))) {
        fprintf(stderr, "outboxctl: --producer or --after is too long\n");
        return false;
    }
    return true;
}

enum ctl_exit cmd_half_list(const struct ctl_args *args)
{
    struct half_target half;
    struct half_list list;
    struct obx_err err = {0};
    enum ctl_exit status;

    if (!fill_filter(args, &list))
        return CTL_USAGE;
    status = half_target_open(args, &half);
    if (status != CTL_OK)
        return status;
    if (half_list_run(half.db, &list, &err) != OBX_OK) {
        target_complain(half.target, &err);
        status = CTL_FAILED;
    } else {
        status = args->json ? list_as_json(&list) : list_as_table(&list);
    }
    half_list_fini(&list);
    half_target_close(&half);
    return status;
}

/* ---- show ---- */

/* What is known of one: the record, its messages, its history. */
struct story {
    struct half_record rec;
    struct db_rows *parts;
    struct db_rows *history;
};

static void story_fini(struct story *story)
{
    db_rows_free(story->parts);
    db_rows_free(story->history);
}

static enum obx_code read_story(struct db *db, const char *gid, struct story *story,
                                struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, "SELECT " HALF_RECORD_COLUMNS " FROM half_message WHERE gid = ?",
                 DB_ARGS(DB_TEXT(gid)), &rows, err);

    if (rc == OBX_OK && !db_rows_next(rows))
        rc = obx_fail(err, OBX_E_NOT_FOUND, "there is no half-message %s", gid);
    if (rc == OBX_OK)
        half_record_read(rows, &story->rec);
    db_rows_free(rows);
    if (rc == OBX_OK)
        rc = db_query(db,
                      "SELECT verdict, " MESSAGE_NAME_COLUMNS ", LENGTH(payload), "
                      "content_type FROM half_part WHERE gid = ? ORDER BY verdict, seq",
                      DB_ARGS(DB_TEXT(gid)), &story->parts, err);
    if (rc == OBX_OK)
        rc = db_query(db,
                      "SELECT at, event, actor, detail FROM half_history WHERE gid = ? "
                      "ORDER BY id DESC LIMIT ?",
                      DB_ARGS(DB_TEXT(gid), DB_U64(HISTORY_LINES)), &story->history, err);
    return rc;
}

static void print_field(const char *name, struct obx_bytes value)
{
    struct obx_buf clean = {0};

    if (value.len > 0 && text_add_clean(&clean, value) == OBX_OK)
        printf("%-14s %s\n", name, clean.data);
    buf_fini(&clean);
}

static void print_time(const char *name, uint64_t us)
{
    char text[HUMAN_MAX];

    if (us != 0)
        printf("%-14s %s\n", name, human_time_us(us, text));
}

static void print_record(const char *gid, const struct half_record *rec)
{
    print_field("gid", bytes_of(gid));
    print_field("state", bytes_of(half_state_name(rec->state)));
    print_field("producer", bytes_of(rec->producer));
    print_time("prepared", rec->prepared_us);
    print_time("check due", rec->next_check_us);
    printf("%-14s %" PRIu32 " times, %" PRIu32 " answers that decided nothing\n", "asked",
           rec->checks_asked, rec->checks_answered);
    print_time("decided", rec->decided_us);
    print_field("decided by", bytes_of(rec->decided_by));
    print_field("note", bytes_of(rec->note));
}

static enum obx_code print_parts(struct db_rows *rows)
{
    static const char *const part_heads[] = {"ON", "MESSAGE", "TOPIC", "KEY", ">SIZE", "TYPE"};
    struct table table;
    char text[HUMAN_MAX];
    enum obx_code rc;

    if (db_rows_count(rows) == 0)
        return OBX_OK;
    table_init(&table, part_heads, sizeof(part_heads) / sizeof(part_heads[0]));
    while (db_rows_next(rows)) {
        for (unsigned i = 0; i < 4; i++)
            table_add(&table, db_rows_bytes(rows, i));
        table_add(&table, bytes_of(human_size(db_rows_u64(rows, 4), text)));
        table_add(&table, db_rows_bytes(rows, 5));
    }
    printf("\n");
    rc = table_print(&table, stdout);
    table_fini(&table);
    return rc;
}

static enum obx_code print_history(struct db_rows *rows)
{
    static const char *const history_heads[] = {"AT", "EVENT", "WHO", "WHAT"};
    struct table table;
    char text[HUMAN_MAX];
    enum obx_code rc;

    if (db_rows_count(rows) == 0)
        return OBX_OK;
    table_init(&table, history_heads, sizeof(history_heads) / sizeof(history_heads[0]));
    while (db_rows_next(rows)) {
        table_add(&table, bytes_of(human_time(db_rows_bytes(rows, 0), text)));
        for (unsigned i = 1; i < 4; i++)
            table_add(&table, db_rows_bytes(rows, i));
    }
    printf("\n");
    rc = table_print(&table, stdout);
    table_fini(&table);
    return rc;
}

static json_t *json_rows(struct db_rows *rows, const char *const *names, unsigned count)
{
    json_t *list = json_array();

    while (db_rows_next(rows)) {
        json_t *object = json_object();

        for (unsigned i = 0; i < count; i++) {
            struct obx_bytes value = db_rows_bytes(rows, i);

            json_object_set_new(object, names[i],
                                value.p == NULL ? json_null() : json_stringn(value.p, value.len));
        }
        json_array_append_new(list, object);
    }
    return list;
}

static enum obx_code print_json(const char *gid, const struct story *story)
{
    static const char *const part_names[] = {"on",           "message_id",    "topic",
                                             "ordering_key", "payload_bytes", "content_type"};
    static const char *const history_names[] = {"at", "event", "actor", "detail"};
    struct obx_buf text = {0};
    enum obx_code rc = half_json_add_record(&text, bytes_of(gid), &story->rec, false);
    json_t *root = rc == OBX_OK ? json_loads(text.data, 0, NULL) : NULL;

    buf_fini(&text);
    if (root == NULL)
        return OBX_E_NOMEM;
    json_object_del(root, "repeated");
    json_object_set_new(root, "messages", json_rows(story->parts, part_names, 6));
    json_object_set_new(root, "history", json_rows(story->history, history_names, 4));
    json_print(root);
    json_decref(root);
    return OBX_OK;
}

static enum obx_code print_story(const char *gid, const struct story *story)
{
    enum obx_code rc;

    print_record(gid, &story->rec);
    rc = print_parts(story->parts);
    return rc == OBX_OK ? print_history(story->history) : rc;
}

enum ctl_exit cmd_half_show(const struct ctl_args *args)
{
    struct half_target half;
    struct story story = {0};
    struct obx_err err = {0};
    enum ctl_exit status;
    enum obx_code rc;

    if (args->word_count != 1) {
        fprintf(stderr, "outboxctl: half show takes one GID, as half list shows it\n");
        return CTL_USAGE;
    }
    status = half_target_open(args, &half);
    if (status != CTL_OK)
        return status;
    rc = read_story(half.db, args->words[0], &story, &err);
    if (rc != OBX_OK)
        target_complain(half.target, &err);
    else
        rc = args->json ? print_json(args->words[0], &story) : print_story(args->words[0], &story);
    story_fini(&story);
    half_target_close(&half);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}
