/*
 * What inbox_parked has for the messages of a batch, asked in a few statements whatever the size of
 * the batch, and only while the group has rows at all:
 *
 * - the rows of items that were claimed: locked, and still under our claim;
 * - rows of messages that have just been delivered again: they need no second one;
 * - the first row of each ordering key: deliveries of that key go behind it;
 * - of those, which ones have been applied already: they need not.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "parked_db.h"
#include "parked_key.h"

enum { KEYS_MAX = 100 /* in one statement, each of which opens the table */ };

struct survey {
    struct db *db;
    const struct settings *settings;
    struct item **items;
    size_t count;
    struct obx_buf sql;
    struct obx_err *err;
};

/* ------------------------------------------------------------------ statements with lists */

static enum obx_code begin(struct survey *survey, const char *head)
{
    buf_reset(&survey->sql);
    return buf_add_text(&survey->sql, head);
}

static enum obx_code add_group(struct survey *survey)
{
    return db_add_literal(survey->db, &survey->sql, bytes_of(survey->settings->group));
}

/* The list of the items that is_wanted picks; *listed of them. add appends one. */
static enum obx_code add_list(struct survey *survey, bool (*is_wanted)(const struct item *item),
                              enum obx_code (*add)(struct obx_buf *sql, const struct item *item),
                              size_t *listed)
{
    enum obx_code rc = buf_add_text(&survey->sql, "(");

    *listed = 0;
    for (size_t i = 0; i < survey->count && rc == OBX_OK; i++) {
        if (!is_wanted(survey->items[i]))
            continue;
        rc = (*listed)++ > 0 ? buf_add_text(&survey->sql, ",") : OBX_OK;
        if (rc == OBX_OK)
            rc = add(&survey->sql, survey->items[i]);
    }
    return rc == OBX_OK ? buf_add_text(&survey->sql, ")") : rc;
}

static enum obx_code run(struct survey *survey, enum obx_code built, struct db_rows **rows)
{
    *rows = NULL;
    if (built != OBX_OK)
        return obx_fail(survey->err, built, "list of messages");
    return db_query_text(survey->db, buf_bytes(&survey->sql), rows, survey->err);
}

static enum obx_code add_row_id(struct obx_buf *sql, const struct item *item)
{
    return buf_addf(sql, "%" PRIu64, item->parked_id);
}

static enum obx_code add_message_id(struct obx_buf *sql, const struct item *item)
{
    return parked_add_hex(sql, item->msg.message_id);
}

/* ------------------------------------------------------------------ rows under our claim */

static bool is_row(const struct item *item)
{
    return item->parked_id != 0;
}

static void found_row(struct survey *survey, uint64_t id, uint64_t claim)
{
    for (size_t i = 0; i < survey->count; i++) {
        struct item *item = survey->items[i];

        if (item->parked_id == id && item->claim == claim)
            item->survey.is_lost = false;
    }
}

/* One that is locked is another process's by now: it is not waited for. */
static enum obx_code lock_rows(struct survey *survey)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc =
        begin(survey, "SELECT id, claim FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id IN ");

    if (rc == OBX_OK)
        rc = add_list(survey, is_row, add_row_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    if (rc == OBX_OK)
        rc = buf_add_text(&survey->sql, " FOR UPDATE SKIP LOCKED");
    rc = run(survey, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows))
        found_row(survey, db_rows_u64(rows, 0), db_rows_u64(rows, 1));
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ deliveries that have a row */

static bool is_delivery(const struct item *item)
{
    return item->parked_id == 0 && item_has_id(item);
}

/*
 * Its row is enough, unless that is dead and its producer was told so: a producer that sends the
 * message again has not heard it, and is told again.
 */
static void found_parked(struct item *item, bool is_reported, struct obx_bytes reason)
{
    if (is_reported && item->wants_receipt) {
        item->survey.was_decided = true;
        parked_read_outcome(item, bytes_of(DEDUP_REJECTED), reason);
    } else {
        item->survey.is_parked = true;
    }
}

static enum obx_code find_parked(struct survey *survey)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc = begin(
        survey, "SELECT message_id, state = 'dead' AND is_reported = 1, reason FROM inbox_parked "
                "FORCE INDEX (parked_message) WHERE consumer_group = ");

    if (rc == OBX_OK)
        rc = add_group(survey);
    if (rc == OBX_OK)
        rc = buf_add_text(&survey->sql, " AND message_id IN ");
    if (rc == OBX_OK)
        rc = add_list(survey, is_delivery, add_message_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    rc = run(survey, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < survey->count; i++) {
            struct item *item = survey->items[i];

            if (is_delivery(item) && bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                found_parked(item, db_rows_u64(rows, 1) != 0, db_rows_bytes(rows, 2));
        }
    }
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ keys that wait */

static bool is_first_of_key(const struct survey *survey, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (item_same_key(survey->items[i], survey->items[at]))
            return false;
    }
    return item_has_key(survey->items[at]);
}

/* "(SELECT 3, p.id FROM ... LIMIT 1)": with its key as a literal. For a key out of another table
 * MySQL reads and sorts all that waits in it. */
static enum obx_code add_first_of_key(struct survey *survey, size_t at)
{
    struct parked_key key;
    enum obx_code rc = buf_addf(&survey->sql,
                                "(SELECT %zu, p.id FROM inbox_parked p FORCE INDEX (parked_key) "
                                "WHERE p.consumer_group = ",
                                at);

    if (rc == OBX_OK)
        rc = add_group(survey);
    if (rc == OBX_OK)
        rc = buf_add_text(&survey->sql, " AND p.ordering_key = ");
    parked_key_of(survey->items[at]->msg.ordering_key, &key);
    if (rc == OBX_OK)
        rc = parked_add_hex(&survey->sql, key.bytes);
    if (rc == OBX_OK)
        rc = buf_addf(&survey->sql, " AND %s ORDER BY p.id LIMIT 1)",
                      parked_holds(survey->settings));
    return rc;
}

/* The statement for the keys that begin at items[*at] and behind it, at most KEYS_MAX; *at moves
 * behind them. */
static enum obx_code add_keys(struct survey *survey, size_t *at, size_t *listed)
{
    enum obx_code rc = OBX_OK;

    *listed = 0;
    for (; *at < survey->count && *listed < KEYS_MAX && rc == OBX_OK; (*at)++) {
        if (!is_first_of_key(survey, *at))
            continue;
        if ((*listed)++ > 0)
            rc = buf_add_text(&survey->sql, " UNION ALL ");
        if (rc == OBX_OK)
            rc = add_first_of_key(survey, *at);
    }
    return rc;
}

/*
 * first_id is the first row of the key of items[at]. A delivery goes behind it; a claimed row may
 * run only if it is that one, or follows it in this batch.
 */
static void block_key(struct survey *survey, size_t at, uint64_t first_id)
{
    bool has_first = false;

    for (size_t i = at; i < survey->count; i++) {
        struct item *item = survey->items[i];

        if (!item_same_key(survey->items[at], item))
            continue;
        has_first = has_first || item->parked_id == first_id;
        item->survey.is_blocked = item->parked_id == 0 || !has_first;
    }
}

static enum obx_code find_blocked(struct survey *survey)
{
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; at < survey->count && rc == OBX_OK;) {
        struct db_rows *rows = NULL;
        size_t listed = 0;

        rc = begin(survey, "");
        if (rc == OBX_OK)
            rc = add_keys(survey, &at, &listed);
        if (rc == OBX_OK && listed == 0)
            break;
        rc = run(survey, rc, &rows);
        while (rc == OBX_OK && db_rows_next(rows))
            block_key(survey, (size_t)db_rows_u64(rows, 0), db_rows_u64(rows, 1));
        db_rows_free(rows);
    }
    return rc;
}

/* ------------------------------------------------------------------ those that are done with */

static bool is_blocked_delivery(const struct item *item)
{
    return is_delivery(item) && item->survey.is_blocked && !item->survey.is_parked;
}

static enum obx_code find_decided(struct survey *survey)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc = begin(survey, "SELECT message_id, outcome, reason FROM inbox_applied "
                                     "FORCE INDEX (PRIMARY) WHERE consumer_group = ");

    if (rc == OBX_OK)
        rc = add_group(survey);
    if (rc == OBX_OK)
        rc = buf_add_text(&survey->sql, " AND message_id IN ");
    if (rc == OBX_OK)
        rc = add_list(survey, is_blocked_delivery, add_message_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    rc = run(survey, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < survey->count; i++) {
            struct item *item = survey->items[i];

            if (!is_blocked_delivery(item) ||
                !bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                continue;
            item->survey.was_decided = true;
            parked_read_outcome(item, db_rows_bytes(rows, 1), db_rows_bytes(rows, 2));
        }
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code parked_survey(struct db *db, const struct settings *settings, struct item **items,
                            size_t count, struct obx_err *err)
{
    struct survey survey = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count; i++)
        items[i]->survey = (struct item_survey){.is_lost = is_row(items[i])};
    rc = lock_rows(&survey);
    if (rc == OBX_OK)
        rc = find_parked(&survey);
    if (rc == OBX_OK)
        rc = find_blocked(&survey);
    if (rc == OBX_OK)
        rc = find_decided(&survey);
    buf_fini(&survey.sql);
    return rc;
}
