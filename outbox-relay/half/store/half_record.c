/* Rows of half_message, the names of states and verdicts, and pages of a list. */
#include "half_record.h"

#include <string.h>

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

/*
 * Lists
 *
 * A page costs at most some LIST_SCAN_MAX rows, whatever the filter and however many half-messages
 * there are. Where few match, the index finds them and they are sorted; where many do, the page
 * goes along the primary key, looks through LIST_SCAN_MAX rows and may end short of its limit: its
 * `next` says where to go on. Proved by plans_test (half_messages_are_listed).
 */

enum { LIST_SCAN_MAX = 5000, STATES = sizeof(state_names) / sizeof(state_names[0]) };

#define GID_LAST "\x7f" /* after every name that the column can hold */

/* What a list's filter comes to: the four states or one of them, a range of producers. */
struct filter {
    const char *states[STATES];
    const char *producer_from, *producer_to;
    bool is_open; /* everything matches */
};

#define MATCHES "state IN (?, ?, ?, ?) AND producer BETWEEN ? AND ?"
#define MATCH_ARGS(f)                                                                              \
    DB_TEXT((f)->states[0]), DB_TEXT((f)->states[1]), DB_TEXT((f)->states[2]),                     \
        DB_TEXT((f)->states[3]), DB_TEXT((f)->producer_from), DB_TEXT((f)->producer_to)
_Static_assert(STATES == 4, "MATCHES and MATCH_ARGS have a place for each");

static struct filter filter_of(const struct half_list *list)
{
    const bool any_producer = list->producer[0] == '\0';
    struct filter filter = {.producer_from = list->producer,
                            .producer_to = any_producer ? GID_LAST : list->producer,
                            .is_open = any_producer && !list->has_state};

    for (unsigned i = 0; i < STATES; i++)
        filter.states[i] = state_names[list->has_state ? (unsigned)list->state : i];
    return filter;
}

enum obx_code half_page_end(struct db *db, const char *after, uint32_t rows_max,
                            char last[HALF_GID_MAX + 1], struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT gid FROM half_message FORCE INDEX (PRIMARY) WHERE gid > ? ORDER BY gid LIMIT ?, 1",
        DB_ARGS(DB_TEXT(after), DB_U64(rows_max - 1)), &rows, err);

    last[0] = '\0';
    if (rc == OBX_OK && db_rows_next(rows))
        (void)bytes_to_text(db_rows_bytes(rows, 0), last, HALF_GID_MAX + 1);
    db_rows_free(rows);
    return rc;
}

/* Whether the index finds so few that they can be sorted. */
static enum obx_code are_few(struct db *db, const struct filter *filter, bool *few,
                             struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db,
                                "SELECT COUNT(*) FROM (SELECT 1 FROM half_message "
                                "FORCE INDEX (due) WHERE " MATCHES " LIMIT ?) AS some",
                                DB_ARGS(MATCH_ARGS(filter), DB_U64(LIST_SCAN_MAX)), &rows, err);

    *few = rc == OBX_OK && db_rows_next(rows) && db_rows_u64(rows, 0) < LIST_SCAN_MAX;
    db_rows_free(rows);
    return rc;
}

/* One row more than a page shows whether there is another. `end`: how far this page can see; "":
 * to the last one. */
static enum obx_code find_page(struct db *db, const struct half_list *list, char *end,
                               struct db_rows **rows, struct obx_err *err)
{
    const struct filter filter = filter_of(list);
    bool few = false;
    enum obx_code rc = filter.is_open ? OBX_OK : are_few(db, &filter, &few, err);

    end[0] = '\0';
    if (rc == OBX_OK && few)
        return db_query(db,
                        "SELECT " HALF_RECORD_COLUMNS " FROM half_message FORCE INDEX (due) "
                        "WHERE " MATCHES " AND gid > ? ORDER BY gid LIMIT ?",
                        DB_ARGS(MATCH_ARGS(&filter), DB_TEXT(list->after), DB_U64(list->limit + 1)),
                        rows, err);
    if (rc == OBX_OK && !filter.is_open)
        rc = half_page_end(db, list->after, LIST_SCAN_MAX, end, err);
    if (rc != OBX_OK)
        return rc;
    return db_query(db,
                    "SELECT " HALF_RECORD_COLUMNS " FROM half_message FORCE INDEX (PRIMARY) "
                    "WHERE gid > ? AND gid <= ? AND " MATCHES " ORDER BY gid LIMIT ?",
                    DB_ARGS(DB_TEXT(list->after), DB_TEXT(end[0] == '\0' ? GID_LAST : end),
                            MATCH_ARGS(&filter), DB_U64(list->limit + 1)),
                    rows, err);
}

enum obx_code half_list_run(struct db *db, struct half_list *list, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    char end[HALF_GID_MAX + 1];
    enum obx_code rc;

    half_list_fini(list);
    rc = find_page(db, list, end, &rows, err);
    if (rc != OBX_OK)
        return rc;
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
    if (db_rows_count(rows) > list->limit)
        memcpy(list->next, list->items[list->count - 1].gid, sizeof(list->next));
    else
        memcpy(list->next, end, sizeof(list->next));
    db_rows_free(rows);
    return OBX_OK;
}

void half_list_fini(struct half_list *list)
{
    obx_free(list->items);
    list->items = NULL;
    list->count = 0;
    list->next[0] = '\0';
}
