/*
 * What inbox_parked has for the messages of a batch, asked in a few statements whatever the size of
 * the batch, and only while the group has rows at all:
 *
 * - the rows of items that were claimed: locked, and still under our claim;
 * - rows of messages that have just been delivered again: they need no second one;
 * - the first row of each ordering key: deliveries of that key wait for it;
 * - of those, which ones have been applied already: they need not.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "parked_db.h"

enum {
    KEYS_MAX = 100, /* in one statement, each of which opens the table */
    ROWS_MAX = 500  /* in one statement, far from what a server takes at once */
};

struct lookup {
    struct db *db;
    const struct settings *settings;
    struct item **items;
    size_t count;
    struct obx_buf sql;
    struct obx_err *err;
};

/* ------------------------------------------------------------------ statements with lists */

/* A failure sticks to the buffer: run() is where it shows. */
static void begin_for_group(struct lookup *lookup, const char *head)
{
    buf_reset(&lookup->sql);
    buf_add_text(&lookup->sql, head);
    db_add_literal(lookup->db, &lookup->sql, bytes_of(lookup->settings->group));
}

static bool is_delivery(const struct item *item, enum item_found found)
{
    return item->parked_id == 0 && item_has_id(item) && item->found == found;
}

/* " AND message_id IN (...)" for the deliveries that are found so far to be so; how many they are. As
 * X'...': an id may have any bytes, in whatever character set the session is. */
static size_t add_ids(struct lookup *lookup, enum item_found found)
{
    size_t listed = 0;

    buf_add_text(&lookup->sql, " AND message_id IN (");
    for (size_t i = 0; i < lookup->count; i++) {
        if (!is_delivery(lookup->items[i], found))
            continue;
        buf_add_text(&lookup->sql, listed++ > 0 ? "," : "");
        parked_add_hex(&lookup->sql, lookup->items[i]->msg.message_id);
    }
    buf_add_text(&lookup->sql, ")");
    return listed;
}

static enum obx_code run(struct lookup *lookup, struct db_rows **rows)
{
    *rows = NULL;
    if (lookup->sql.rc != OBX_OK)
        return obx_fail(lookup->err, lookup->sql.rc, "list of messages");
    return db_query_text(lookup->db, buf_bytes(&lookup->sql), rows, lookup->err);
}

/* ------------------------------------------------------------------ rows under our claim */

/* One that is locked is another process's by now: it is not waited for. */
static enum obx_code lock_rows(struct lookup *lookup)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc = OBX_OK;

    buf_reset(&lookup->sql);
    buf_add_text(&lookup->sql,
                 "SELECT id, claim FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id IN (");
    for (size_t i = 0; i < lookup->count; i++) {
        if (lookup->items[i]->parked_id != 0)
            buf_addf(&lookup->sql, "%s%" PRIu64, listed++ > 0 ? "," : "",
                     lookup->items[i]->parked_id);
    }
    if (listed == 0)
        return OBX_OK;
    buf_add_text(&lookup->sql, ") FOR UPDATE SKIP LOCKED");
    rc = run(lookup, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < lookup->count; i++) {
            struct item *item = lookup->items[i];

            if (item->parked_id == db_rows_u64(rows, 0) && item->claim == db_rows_u64(rows, 1))
                item->found = FOUND_NOTHING;
        }
    }
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ deliveries that have a row */

/*
 * A row of a delivery is enough, unless it is dead and its producer was notified: a producer that
 * sends the message again has not heard it, and is answered again.
 */
static enum obx_code find_parked(struct lookup *lookup)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    begin_for_group(lookup, "SELECT message_id, state = 'dead' AND is_reported = 1, reason FROM "
                            "inbox_parked FORCE INDEX (parked_message) WHERE consumer_group = ");
    if (add_ids(lookup, FOUND_NOTHING) == 0)
        return OBX_OK;
    rc = run(lookup, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        const bool is_reported = db_rows_u64(rows, 1) != 0;

        for (size_t i = 0; i < lookup->count; i++) {
            struct item *item = lookup->items[i];

            if (!is_delivery(item, FOUND_NOTHING) ||
                !bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                continue;
            item->found = is_reported && item->wants_receipt ? FOUND_REJECTED : FOUND_ROW;
            if (item->found == FOUND_REJECTED)
                (void)parked_read_outcome(item, bytes_of(DEDUP_REJECTED), db_rows_bytes(rows, 2));
        }
    }
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ keys that wait */

static bool is_first_of_key(const struct lookup *lookup, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (item_same_key(lookup->items[i], lookup->items[at]))
            return false;
    }
    return item_has_key(lookup->items[at]);
}

/*
 * The statement for the keys that begin at items[*at] and after it, at most KEYS_MAX, each "(SELECT 3,
 * p.id FROM ... LIMIT 1)" with its key as a literal: for a key out of another table MySQL reads and
 * sorts all that waits in it. *at moves on past them; returns how many they are.
 */
static size_t add_keys(struct lookup *lookup, size_t *at)
{
    size_t listed = 0;

    buf_reset(&lookup->sql);
    for (; *at < lookup->count && listed < KEYS_MAX; (*at)++) {
        struct parked_key key;

        if (!is_first_of_key(lookup, *at))
            continue;
        parked_key_of(lookup->items[*at]->msg.ordering_key, &key);
        buf_addf(&lookup->sql,
                 "%s(SELECT %zu, p.id FROM inbox_parked p FORCE INDEX (parked_key) "
                 "WHERE p.consumer_group = ",
                 listed++ > 0 ? " UNION ALL " : "", *at);
        db_add_literal(lookup->db, &lookup->sql, bytes_of(lookup->settings->group));
        buf_add_text(&lookup->sql, " AND p.ordering_key = ");
        parked_add_hex(&lookup->sql, key.bytes);
        buf_addf(&lookup->sql, " AND %s ORDER BY p.id LIMIT 1)", parked_holds(lookup->settings));
    }
    return listed;
}

/*
 * first_id is the first row of the key of items[at]. A delivery waits for it; a claimed row may
 * run only if it is that one, or follows it in this batch.
 */
static void block_key(struct lookup *lookup, size_t at, uint64_t first_id)
{
    bool has_first = false;

    for (size_t i = at; i < lookup->count; i++) {
        struct item *item = lookup->items[i];

        if (!item_same_key(lookup->items[at], item))
            continue;
        has_first = has_first || item->parked_id == first_id;
        if (item->found == FOUND_NOTHING && (item->parked_id == 0 || !has_first))
            item->found = FOUND_BLOCKED;
    }
}

static enum obx_code find_blocked(struct lookup *lookup)
{
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; at < lookup->count && rc == OBX_OK;) {
        struct db_rows *rows = NULL;

        if (add_keys(lookup, &at) == 0)
            break;
        rc = run(lookup, &rows);
        while (rc == OBX_OK && db_rows_next(rows))
            block_key(lookup, (size_t)db_rows_u64(rows, 0), db_rows_u64(rows, 1));
        db_rows_free(rows);
    }
    return rc;
}

/* ------------------------------------------------------------------ dedup rows */

/*
 * Of the deliveries that are GROUPED, or of those that are BLOCKED. One that is blocked has to know how
 * it ended: that is what its producer is answered, and no INSERT of a dedup row will tell.
 */
static enum obx_code find_dedup_rows(struct lookup *lookup, enum item_found wanted)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    begin_for_group(lookup, "SELECT message_id, outcome, reason FROM inbox_applied "
                            "FORCE INDEX (PRIMARY) WHERE consumer_group = ");
    if (add_ids(lookup, wanted) == 0)
        return OBX_OK;
    rc = run(lookup, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < lookup->count; i++) {
            struct item *item = lookup->items[i];

            if (!is_delivery(item, wanted) ||
                !bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                continue;
            item->found = FOUND_DUPLICATE;
            if (wanted == FOUND_BLOCKED)
                item->found = parked_read_outcome(item, db_rows_bytes(rows, 1),
                                                  db_rows_bytes(rows, 2)) == OUTCOME_APPLIED
                                  ? FOUND_APPLIED
                                  : FOUND_REJECTED;
        }
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code parked_find_applied(struct db *db, const struct settings *settings,
                                  struct item **items, size_t count, struct obx_err *err)
{
    struct lookup lookup = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = find_dedup_rows(&lookup, FOUND_GROUPED);

    buf_fini(&lookup.sql);
    return rc;
}

/* A statement for the items from *at on that are to be written, at most ROWS_MAX; *at moves on past
 * them. */
static size_t add_rows(struct lookup *lookup, size_t *at)
{
    size_t listed = 0;

    buf_reset(&lookup->sql);
    buf_add_text(&lookup->sql, "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ");
    for (; *at < lookup->count && listed < ROWS_MAX; (*at)++) {
        if (lookup->items[*at]->dedup != DEDUP_LATER)
            continue;
        buf_add_text(&lookup->sql, listed++ > 0 ? ",(" : "(");
        db_add_literal(lookup->db, &lookup->sql, bytes_of(lookup->settings->group));
        buf_add_text(&lookup->sql, ",");
        parked_add_hex(&lookup->sql, lookup->items[*at]->msg.message_id);
        buf_add_text(&lookup->sql, ")");
    }
    return listed;
}

enum obx_code parked_insert_applied(struct db *db, const struct settings *settings,
                                    struct item **items, size_t count, struct obx_err *err)
{
    struct lookup lookup = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; at < count && rc == OBX_OK;) {
        if (add_rows(&lookup, &at) == 0)
            break;
        if (lookup.sql.rc != OBX_OK)
            rc = obx_fail(err, lookup.sql.rc, "list of messages");
        else
            rc = db_exec_text(db, buf_bytes(&lookup.sql), NULL, err);
    }
    buf_fini(&lookup.sql);
    return rc;
}

enum obx_code parked_lookup(struct db *db, const struct settings *settings, struct item **items,
                            size_t count, struct obx_err *err)
{
    struct lookup lookup = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count; i++)
        items[i]->found = items[i]->parked_id != 0 ? FOUND_LOST : FOUND_NOTHING;
    rc = lock_rows(&lookup);
    if (rc == OBX_OK)
        rc = find_parked(&lookup);
    if (rc == OBX_OK)
        rc = find_blocked(&lookup);
    if (rc == OBX_OK)
        rc = find_dedup_rows(&lookup, FOUND_BLOCKED);
    buf_fini(&lookup.sql);
    return rc;
}
