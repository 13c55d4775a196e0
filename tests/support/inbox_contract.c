/* The statements are cut out of the file by their names; see inbox_contract.h. */
#include "inbox_contract.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"

enum { FILE_MAX = 1 << 16, MARK_MAX = 64, BACK_SHARE = 20, BACK_MAX_US = 60 * 1000000 };

static char texts[INBOX_STATEMENTS][4096];
static pthread_once_t once = PTHREAD_ONCE_INIT;

const char *inbox_statement_name(enum inbox_statement statement)
{
    static const char *const names[INBOX_STATEMENTS] = {"take",    "next",    "done",   "following",
                                                        "retry",   "reject",  "failed", "count",
                                                        "counted", "payload", "replay", "discard"};

    return names[statement];
}

static void cut(const char *page, enum inbox_statement statement)
{
    char mark[MARK_MAX];
    const char *begin, *end;

    (void)snprintf(mark, sizeof(mark), "\n-- %s: ", inbox_statement_name(statement));
    begin = strstr(page, mark);
    begin = begin == NULL ? NULL : strchr(begin + 1, '\n');
    end = begin == NULL ? NULL : strstr(begin, ";\n");
    if (end == NULL || (size_t)(end - begin) > sizeof(texts[0])) {
        fprintf(stderr, "%s has no %s\n", OBX_INBOX_STATEMENTS, inbox_statement_name(statement));
        exit(EXIT_FAILURE);
    }
    memcpy(texts[statement], begin + 1, (size_t)(end - begin - 1));
}

static void read_all(void)
{
    static char page[FILE_MAX];
    FILE *file = fopen(OBX_INBOX_STATEMENTS, "r");

    if (file == NULL) {
        perror(OBX_INBOX_STATEMENTS);
        exit(EXIT_FAILURE);
    }
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    (void)fclose(file);
    for (int i = 0; i < INBOX_STATEMENTS; i++)
        cut(page, (enum inbox_statement)i);
}

const char *inbox_statement_text(enum inbox_statement statement)
{
    (void)pthread_once(&once, read_all);
    return texts[statement];
}

static void copy_text(char *to, size_t size, struct obx_bytes from)
{
    size_t len = from.len < size - 1 ? from.len : size - 1;

    if (len > 0)
        memcpy(to, from.p, len);
    to[len] = '\0';
}

/* The columns of take. */
static void fill(struct inbox_taken *taken, const struct db_rows *rows)
{
    enum { ID, MESSAGE_ID, TOPIC, KEY, ATTEMPT = 10, HASH = 12, SIZE, PAYLOAD, DUE };
    struct obx_bytes hash = db_rows_bytes(rows, HASH);

    memset(taken, 0, sizeof(*taken));
    taken->id = db_rows_u64(rows, ID);
    taken->attempt = db_rows_u64(rows, ATTEMPT);
    taken->size = db_rows_u64(rows, SIZE);
    taken->has_key = hash.len == INBOX_HASH;
    if (taken->has_key)
        memcpy(taken->hash, hash.p, INBOX_HASH);
    taken->has_payload = !db_rows_is_null(rows, PAYLOAD);
    copy_text(taken->message_id, sizeof(taken->message_id), db_rows_bytes(rows, MESSAGE_ID));
    copy_text(taken->key, sizeof(taken->key), db_rows_bytes(rows, KEY));
    copy_text(taken->payload, sizeof(taken->payload), db_rows_bytes(rows, PAYLOAD));
    copy_text(taken->due, sizeof(taken->due), db_rows_bytes(rows, DUE));
}

static enum obx_code take_by(struct db *db, enum inbox_statement statement,
                             const struct obx_value *args, size_t arg_count,
                             struct inbox_taken *taken, bool *found, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, inbox_statement_text(statement), args, arg_count, &rows, err);

    *found = false;
    if (rc != OBX_OK)
        return rc;
    *found = db_rows_next(rows);
    if (*found)
        fill(taken, rows);
    db_rows_free(rows);
    return OBX_OK;
}

enum obx_code inbox_take(struct db *db, const char *queue, struct inbox_from *from,
                         struct inbox_taken *taken, bool *found, struct obx_err *err)
{
    const uint64_t begun_us = clock_now_us();
    const bool is_start = from == NULL || begun_us >= from->back_us;
    enum obx_code rc = take_by(
        db, INBOX_TAKE, DB_ARGS(DB_TEXT(queue), DB_TEXT(is_start ? "1970-01-01" : from->due)),
        taken, found, err);

    if (from == NULL || rc != OBX_OK)
        return rc;
    if (*found)
        memcpy(from->due, taken->due, sizeof(from->due));
    if (is_start) {
        const uint64_t now_us = clock_now_us();
        const uint64_t pause_us = BACK_SHARE * (now_us - begun_us);

        /* With nothing taken yet there is no other place to begin at. */
        from->back_us =
            from->due[0] == '\0' ? 0 : now_us + (pause_us < BACK_MAX_US ? pause_us : BACK_MAX_US);
    }
    return OBX_OK;
}

enum obx_code inbox_following(struct db *db, uint64_t id, struct inbox_taken *taken,
                              struct obx_err *err)
{
    bool found = false;
    enum obx_code rc = take_by(db, INBOX_FOLLOWING, DB_ARGS(DB_U64(id)), taken, &found, err);

    return rc == OBX_OK && !found ? obx_fail(err, OBX_E_CONFLICT, "the successor is gone") : rc;
}

static enum obx_code find_next(struct db *db, const char *queue, const struct inbox_taken *taken,
                               uint64_t *next, struct obx_err *err)
{
    const struct obx_bytes hash = {.p = taken->hash, .len = INBOX_HASH};
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    *next = 0;
    if (!taken->has_key)
        return OBX_OK;
    rc = db_query(db, inbox_statement_text(INBOX_NEXT),
                  DB_ARGS(DB_TEXT(queue), DB_BYTES(hash), DB_U64(taken->id)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows))
        *next = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return rc;
}

static enum obx_code expect(enum obx_code rc, uint64_t changed, uint64_t wanted,
                            struct obx_err *err)
{
    if (rc == OBX_OK && changed != wanted)
        return obx_fail(err, OBX_E_CONFLICT, "the row is not ours");
    return rc;
}

enum obx_code inbox_done(struct db *db, const char *queue, const struct inbox_taken *taken,
                         uint64_t *successor, struct obx_err *err)
{
    uint64_t changed = 0;
    uint64_t next = 0;
    enum obx_code rc = find_next(db, queue, taken, &next, err);

    if (rc == OBX_OK)
        rc = db_exec(db, inbox_statement_text(INBOX_DONE), DB_ARGS(DB_U64(taken->id), DB_U64(next)),
                     &changed, err);
    if (successor != NULL)
        *successor = next;
    return expect(rc, changed, next == 0 ? 1 : 2, err);
}

enum obx_code inbox_retry(struct db *db, const struct inbox_taken *taken, int64_t delay_ms,
                          const char *reason, struct obx_err *err)
{
    uint64_t changed = 0;
    struct obx_value delay = delay_ms < 0 ? DB_NULL() : DB_I64(delay_ms);
    enum obx_code rc = db_exec(db, inbox_statement_text(INBOX_RETRY),
                               DB_ARGS(delay, DB_TEXT(reason), DB_U64(taken->id)), &changed, err);

    return expect(rc, changed, 1, err);
}

enum obx_code inbox_reject(struct db *db, const struct inbox_taken *taken, const char *reason,
                           struct obx_err *err)
{
    uint64_t changed = 0;
    enum obx_code rc = db_exec(db, inbox_statement_text(INBOX_REJECT),
                               DB_ARGS(DB_TEXT(reason), DB_U64(taken->id)), &changed, err);

    return expect(rc, changed, 1, err);
}
