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
#include "parked_key.h"

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

static enum obx_code begin(struct lookup *lookup, const char *head)
{
    buf_reset(&lookup->sql);
    return buf_add_text(&lookup->sql, head);
}

static enum obx_code add_group(struct lookup *lookup)
{
    return db_add_literal(lookup->db, &lookup->sql, bytes_of(lookup->settings->group));
}

/* The list of the items that is_wanted picks; *listed of them. add appends one. */
static enum obx_code add_list(struct lookup *lookup, bool (*is_wanted)(const struct item *item),
                              enum obx_code (*add)(struct obx_buf *sql, const struct item *item),
                              size_t *listed)
{
    enum obx_code rc = buf_add_text(&lookup->sql, "(");

    *listed = 0;
    for (size_t i = 0; i < lookup->count && rc == OBX_OK; i++) {
        if (!is_wanted(lookup->items[i]))
            continue;
        rc = (*listed)++ > 0 ? buf_add_text(&lookup->sql, ",") : OBX_OK;
        if (rc == OBX_OK)
            rc = add(&lookup->sql, lookup->items[i]);
    }
    return rc == OBX_OK ? buf_add_text(&lookup->sql, ")") : rc;
}

static enum obx_code run(struct lookup *lookup, enum obx_code built, struct db_rows **rows)
{
    *rows = NULL;
    if (built != OBX_OK)
        return obx_fail(lookup->err, built, "list of messages");
    return db_query_text(lookup->db, buf_bytes(&lookup->sql), rows, lookup->err);
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

static void found_row(struct lookup *lookup, uint64_t id, uint64_t claim)
{
    for (size_t i = 0; i < lookup->count; i++) {
        struct item *item = lookup->items[i];

        if (item->parked_id == id && item->claim == claim)
            item->found = FOUND_NOTHING;
    }
}

/* One that is locked is another process's by now: it is not waited for. */
static enum obx_code lock_rows(struct lookup *lookup)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc =
        begin(lookup, "SELECT id, claim FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id IN ");

    if (rc == OBX_OK)
        rc = add_list(lookup, is_row, add_row_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    if (rc == OBX_OK)
        rc = buf_add_text(&lookup->sql, " FOR UPDATE SKIP LOCKED");
    rc = run(lookup, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows))
        found_row(lookup, db_rows_u64(rows, 0), db_rows_u64(rows, 1));
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ deliveries that have a row */

static bool is_delivery(const struct item *item)
{
    return item->parked_id == 0 && item_has_id(item);
}

/*
 * Its row is enough, unless that is dead and its producer was notified: a producer that sends the
 * message again has not heard it, and is answered again.
 */
static void found_parked(struct item *item, bool is_reported, struct obx_bytes reason)
{
    item->found = FOUND_ROW;
    if (is_reported && item->wants_receipt) {
        item->found = FOUND_REJECTED;
        (void)parked_read_outcome(item, bytes_of(DEDUP_REJECTED), reason);
    }
}

static enum obx_code find_parked(struct lookup *lookup)
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc = begin(
        lookup, "SELECT message_id, state = 'dead' AND is_reported = 1, reason FROM inbox_parked "
                "FORCE INDEX (parked_message) WHERE consumer_group = ");

    if (rc == OBX_OK)
        rc = add_group(lookup);
    if (rc == OBX_OK)
        rc = buf_add_text(&lookup->sql, " AND message_id IN ");
    if (rc == OBX_OK)
        rc = add_list(lookup, is_delivery, add_message_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    rc = run(lookup, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < lookup->count; i++) {
            struct item *item = lookup->items[i];

            if (is_delivery(item) && bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                found_parked(item, db_rows_u64(rows, 1) != 0, db_rows_bytes(rows, 2));
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

/* "(SELECT 3, p.id FROM ... LIMIT 1)": with its key as a literal. For a key out of another table
 * MySQL reads and sorts all that waits in it. */
static enum obx_code add_first_of_key(struct lookup *lookup, size_t at)
{
    struct parked_key key;
    enum obx_code rc = buf_addf(&lookup->sql,
                                "(SELECT %zu, p.id FROM inbox_parked p FORCE INDEX (parked_key) "
                                "WHERE p.consumer_group = ",
                                at);

    if (rc == OBX_OK)
        rc = add_group(lookup);
    if (rc == OBX_OK)
        rc = buf_add_text(&lookup->sql, " AND p.ordering_key = ");
    parked_key_of(lookup->items[at]->msg.ordering_key, &key);
    if (rc == OBX_OK)
        rc = parked_add_hex(&lookup->sql, key.bytes);
    if (rc == OBX_OK)
        rc = buf_addf(&lookup->sql, " AND %s ORDER BY p.id LIMIT 1)",
                      parked_holds(lookup->settings));
    return rc;
}

/* The statement for the keys that begin at items[*at] and after it, at most KEYS_MAX; *at moves on
 * past them. */
static enum obx_code add_keys(struct lookup *lookup, size_t *at, size_t *listed)
{
    enum obx_code rc = OBX_OK;

    *listed = 0;
    for (; *at < lookup->count && *listed < KEYS_MAX && rc == OBX_OK; (*at)++) {
        if (!is_first_of_key(lookup, *at))
            continue;
        if ((*listed)++ > 0)
            rc = buf_add_text(&lookup->sql, " UNION ALL ");
        if (rc == OBX_OK)
            rc = add_first_of_key(lookup, *at);
    }
    return rc;
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
        size_t listed = 0;

        rc = begin(lookup, "");
        if (rc == OBX_OK)
            rc = add_keys(lookup, &at, &listed);
        if (rc == OBX_OK && listed == 0)
            break;
        rc = run(lookup, rc, &rows);
        while (rc == OBX_OK && db_rows_next(rows))
            block_key(lookup, (size_t)db_rows_u64(rows, 0), db_rows_u64(rows, 1));
        db_rows_free(rows);
    }
    return rc;
}

/* ------------------------------------------------------------------ those that are done with */

static bool is_blocked_delivery(const struct item *item)
{
    return is_delivery(item) && item->found == FOUND_BLOCKED;
}

/* The dedup rows of the items that is_wanted picks; found is told what each of them says. */
static enum obx_code
find_dedup_rows(struct lookup *lookup, bool (*is_wanted)(const struct item *item),
                void (*found)(struct item *item, struct obx_bytes outcome, struct obx_bytes reason))
{
    struct db_rows *rows = NULL;
    size_t listed = 0;
    enum obx_code rc = begin(lookup, "SELECT message_id, outcome, reason FROM inbox_applied "
                                     "FORCE INDEX (PRIMARY) WHERE consumer_group = ");

    if (rc == OBX_OK)
        rc = add_group(lookup);
    if (rc == OBX_OK)
        rc = buf_add_text(&lookup->sql, " AND message_id IN ");
    if (rc == OBX_OK)
        rc = add_list(lookup, is_wanted, add_message_id, &listed);
    if (rc == OBX_OK && listed == 0)
        return OBX_OK;
    rc = run(lookup, rc, &rows);
    while (rc == OBX_OK && db_rows_next(rows)) {
        for (size_t i = 0; i < lookup->count; i++) {
            struct item *item = lookup->items[i];

            if (is_wanted(item) && bytes_equal(item->msg.message_id, db_rows_bytes(rows, 0)))
                found(item, db_rows_bytes(rows, 1), db_rows_bytes(rows, 2));
        }
    }
    db_rows_free(rows);
    return rc;
}

static void found_decided(struct item *item, struct obx_bytes outcome, struct obx_bytes reason)
{
    item->found = parked_read_outcome(item, outcome, reason) == OUTCOME_APPLIED ? FOUND_APPLIED
                                                                                : FOUND_REJECTED;
}

static bool is_grouped(const struct item *item)
{
    return item->found == FOUND_GROUPED;
}

static void found_duplicate(struct item *item, struct obx_bytes outcome, struct obx_bytes reason)
{
    (void)outcome;
    (void)reason;
    item->found = FOUND_DUPLICATE;
}

enum obx_code parked_find_applied(struct db *db, const struct settings *settings,
                                  struct item **items, size_t count, struct obx_err *err)
{
    struct lookup lookup = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = find_dedup_rows(&lookup, is_grouped, found_duplicate);

    buf_fini(&lookup.sql);
    return rc;
}

/* ------------------------------------------------------------------ dedup rows of a batch */

/* A statement for the items from *at on that are to be written, at most ROWS_MAX; *at moves on past
 * them. */
static enum obx_code add_rows(struct lookup *lookup, size_t *at, size_t *listed)
{
    enum obx_code rc =
        begin(lookup, "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ");

    *listed = 0;
    for (; *at < lookup->count && *listed < ROWS_MAX && rc == OBX_OK; (*at)++) {
        if (lookup->items[*at]->dedup != DEDUP_LATER)
            continue;
        rc = buf_add_text(&lookup->sql, (*listed)++ > 0 ? ",(" : "(");
        if (rc == OBX_OK)
            rc = add_group(lookup);
        if (rc == OBX_OK)
            rc = buf_add_text(&lookup->sql, ",");
        if (rc == OBX_OK)
            rc = add_message_id(&lookup->sql, lookup->items[*at]);
        if (rc == OBX_OK)
            rc = buf_add_text(&lookup->sql, ")");
    }
    return rc;
}

enum obx_code parked_insert_applied(struct db *db, const struct settings *settings,
                                    struct item **items, size_t count, struct obx_err *err)
{
    struct lookup lookup = {
        .db = db, .settings = settings, .items = items, .count = count, .err = err};
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; at < count && rc == OBX_OK;) {
        size_t listed = 0;

        rc = add_rows(&lookup, &at, &listed);
        if (rc != OBX_OK)
            rc = obx_fail(err, rc, "list of messages");
        else if (listed > 0)
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
        items[i]->found = is_row(items[i]) ? FOUND_LOST : FOUND_NOTHING;
    rc = lock_rows(&lookup);
    if (rc == OBX_OK)
        rc = find_parked(&lookup);
    if (rc == OBX_OK)
        rc = find_blocked(&lookup);
    if (rc == OBX_OK)
        rc = find_dedup_rows(&lookup, is_blocked_delivery, found_decided);
    buf_fini(&lookup.sql);
    return rc;
}
