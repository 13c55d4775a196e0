/* Rows of half_message, the names of states and verdicts, and pages of a list. */
#include "half_record.h"

#include "base/alloc.h"
#include "base/bytes.h"

static const char *const state_names[] = {"prepared", "committed", "rolled_back", "parked"};
static const char *const verdict_names[] = {"commit", "rollback"};

const char *half_state_name(enum half_state state)
{
    return state_names[state];
}

const char *half_verdict_name(enum half_verdict verdict)
{
    return verdict_names[verdict];
}

enum half_state half_state_after(enum half_verdict verdict)
{
    return verdict == HALF_COMMIT ? HALF_COMMITTED : HALF_ROLLED_BACK;
}

bool half_state_parse(struct obx_bytes text, enum half_state *state)
{
    for (unsigned i = 0; i < sizeof(state_names) / sizeof(state_names[0]); i++)
        if (bytes_is(text, state_names[i])) {
            *state = (enum half_state)i;
            return true;
        }
    return false;
}

void half_record_read(const struct db_rows *rows, struct half_record *rec)
{
    rec->state = HALF_PARKED;
    (void)half_state_parse(db_rows_bytes(rows, HALF_COLUMN_STATE), &rec->state);
    (void)bytes_to_text(db_rows_bytes(rows, HALF_COLUMN_PRODUCER), rec->producer,
                        sizeof(rec->producer));
    rec->prepared_us = db_rows_u64(rows, 4);
    rec->decided_us = db_rows_u64(rows, 5);
    rec->next_check_us = db_rows_u64(rows, 6);
    (void)bytes_to_text(db_rows_bytes(rows, 7), rec->decided_by, sizeof(rec->decided_by));
    (void)bytes_to_text(db_rows_bytes(rows, 8), rec->note, sizeof(rec->note));
    rec->checks_asked = (uint32_t)db_rows_u64(rows, 9);
    rec->checks_answered = (uint32_t)db_rows_u64(rows, 10);
}

/* Lists */

static bool is_open(const struct half_list *list)
{
    return list->has_state && (list->state == HALF_PREPARED || list->state == HALF_PARKED);
}

/* Open ones are few beside the decided ones, which fill the table: each kind has its own way in,
 * which the optimiser cannot know. One row more than a page tells whether there is another. */
static enum obx_code find_page(struct db *db, const struct half_list *list, struct db_rows **rows,
                               struct obx_err *err)
{
    static const char open_sql[] =
        "SELECT " HALF_RECORD_COLUMNS " FROM half_message FORCE INDEX (due) WHERE state = ? AND "
        "(? = '' OR producer = ?) AND gid > ? ORDER BY gid LIMIT ?";
    static const char all_sql[] =
        "SELECT " HALF_RECORD_COLUMNS " FROM half_message FORCE INDEX (PRIMARY) WHERE "
        "(? IS NULL OR state = ?) AND (? = '' OR producer = ?) AND gid > ? ORDER BY gid LIMIT ?";
    const char *state = list->has_state ? half_state_name(list->state) : NULL;

    if (is_open(list))
        return db_query(db, open_sql,
                        DB_ARGS(DB_TEXT(state), DB_TEXT(list->producer), DB_TEXT(list->producer),
                                DB_TEXT(list->after), DB_U64(list->limit + 1)),
                        rows, err);
    return db_query(db, all_sql,
                    DB_ARGS(DB_TEXT(state), DB_TEXT(state), DB_TEXT(list->producer),
                            DB_TEXT(list->producer), DB_TEXT(list->after), DB_U64(list->limit + 1)),
                    rows, err);
}

enum obx_code half_list_run(struct db *db, struct half_list *list, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc;

    half_list_fini(list);
    rc = find_page(db, list, &rows, err);
    if (rc != OBX_OK)
        return rc;
    list->has_more = db_rows_count(rows) > list->limit;
    list->items = obx_calloc(list->limit, sizeof(*list->items));
    if (list->items == NULL) {
        db_rows_free(rows);
        return obx_fail(err, OBX_E_NOMEM, "%u half-messages", list->limit);
    }
    while (list->count < list->limit && db_rows_next(rows)) {
        struct half_item *item = &list->items[list->count++];

        (void)bytes_to_text(db_rows_bytes(rows, HALF_COLUMN_GID), item->gid, sizeof(item->gid));
        half_record_read(rows, &item->rec);
    }
    db_rows_free(rows);
    return OBX_OK;
}

void half_list_fini(struct half_list *list)
{
    obx_free(list->items);
    list->items = NULL;
    list->count = 0;
    list->has_more = false;
}
