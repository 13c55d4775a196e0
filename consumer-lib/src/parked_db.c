/* Rows of obx_parked, written and removed. See parked_db.h. */
#include "parked_db.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/bytes.h"
#include "parked_key.h"
#include "props.h"

enum {
    MADE_ID_MAX = 48,
    TOPIC_MAX = 255,
    US_PER_MS = 1000,
    LARGE_BODY = 256 * 1024,
    HEADROOM = 16 * 1024
};

static const char *const state_names[] = {
    [PARK_WAITING] = "waiting", [PARK_BEHIND] = "behind", [PARK_DEAD] = "dead"};

enum obx_code parked_add_hex(struct obx_buf *sql, struct obx_bytes bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    const unsigned char *p = bytes.p;
    enum obx_code rc = buf_reserve(sql, 2 * bytes.len + sizeof("X''"));

    if (rc == OBX_OK)
        rc = buf_add_text(sql, "X'");
    for (size_t i = 0; i < bytes.len && rc == OBX_OK; i++) {
        const char pair[] = {digits[p[i] >> 4], digits[p[i] & 0xF]};

        rc = buf_add(sql, pair, sizeof(pair));
    }
    return rc == OBX_OK ? buf_add_text(sql, "'") : rc;
}

/* ------------------------------------------------------------------ writing */

static struct obx_bytes cut(struct obx_bytes bytes, size_t max)
{
    return (struct obx_bytes){bytes.p != NULL ? bytes.p : "", bytes.len < max ? bytes.len : max};
}

static struct db_value wait_of(const struct park *park)
{
    return park->is_due ? DB_U64((uint64_t)park->wait_ms * US_PER_MS) : DB_NULL();
}

/* A message that came without an id, or with one that is too long, gets one under which it can be
 * listed, and applied after a replay. */
static struct obx_bytes id_of(const struct item *item, char made[MADE_ID_MAX])
{
    if (item_has_id(item))
        return item->msg.message_id;
    snprintf(made, MADE_ID_MAX, "no-id-%016" PRIx64 "%016" PRIx64, random_u64(), random_u64());
    return bytes_of(made);
}

/*
 * What could be written must also be readable: a row comes back with its reason, an operator's note
 * and more. So a statement with a large body is made larger by that, and refused if it does not
 * fit.
 */
static struct obx_bytes headroom_for(struct obx_bytes body)
{
    static const char room[HEADROOM];

    return (struct obx_bytes){room, body.len >= LARGE_BODY ? sizeof(room) : 0};
}

#define INSERT_ROW                                                                                 \
    "INSERT INTO obx_parked (consumer_group, message_id, ordering_key, lane, state, next_at, "     \
    "attempts, reason_code, reason, first_failed_at, last_failed_at, replay_until, queue, "        \
    "exchange, routing_key, topic, properties, body, size, is_told) VALUES (?, ?, ?, ?, ?, "       \
    "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?, ?, ?, IF(?, UTC_TIMESTAMP(6), NULL), "          \
    "IF(?, UTC_TIMESTAMP(6), NULL), UTC_TIMESTAMP(6) + INTERVAL ? SECOND, ?, ?, ?, ?, ?, ?, "      \
    "? + 0 * OCTET_LENGTH(?), ?)"

static enum obx_code insert(struct db *db, const struct settings *settings, const struct item *item,
                            const struct park *park, struct obx_err *err)
{
    const struct bridge_message *from = &item->delivery->msg;
    char made_id[MADE_ID_MAX];
    struct parked_key key;
    struct obx_buf props = {0};
    enum obx_code rc = props_write(from, &props);

    if (rc != OBX_OK) {
        rc = obx_fail(err, rc, "properties of a message");
        goto out;
    }
    parked_key_of(item->msg.ordering_key, &key);
    rc = db_exec(
        db, INSERT_ROW,
        DB_ARGS(
            DB_TEXT(settings->group), DB_BYTES(id_of(item, made_id)), DB_BYTES(key.bytes),
            DB_U64(item->lane), DB_TEXT(state_names[park->state]), wait_of(park),
            DB_U64(park->attempts), DB_TEXT(park->has_failed ? obx_code_name(item->why.code) : ""),
            DB_TEXT(park->has_failed ? item->why.text : ""), DB_U64(park->has_failed),
            DB_U64(park->has_failed), DB_U64(settings->dedup_retention_s), DB_TEXT(settings->queue),
            DB_BYTES(cut(from->exchange, UINT8_MAX)), DB_BYTES(cut(from->routing_key, UINT8_MAX)),
            DB_BYTES(cut(item->msg.topic, TOPIC_MAX)), DB_BYTES(cut(buf_bytes(&props), SIZE_MAX)),
            DB_BYTES(cut(from->body, SIZE_MAX)), DB_U64(props.len + from->body.len),
            DB_BYTES(headroom_for(from->body)), DB_U64(park->is_told)),
        NULL, err);
    if (rc == OBX_E_DB_DUPLICATE)
        rc = OBX_OK;
out:
    buf_fini(&props);
    return rc;
}

#define UPDATE_ROW                                                                                 \
    "UPDATE obx_parked SET state = ?, is_told = ?, "                                               \
    "next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, "                                        \
    "attempts = ?, claim = 0, claim_size = 0, reason_code = IF(?, ?, reason_code), "               \
    "reason = IF(?, ?, reason), "                                                                  \
    "first_failed_at = COALESCE(first_failed_at, IF(?, UTC_TIMESTAMP(6), NULL)), "                 \
    "last_failed_at = IF(?, UTC_TIMESTAMP(6), last_failed_at) WHERE id = ?"

static enum obx_code update(struct db *db, const struct item *item, const struct park *park,
                            struct obx_err *err)
{
    const struct db_value failed = DB_U64(park->has_failed);

    return db_exec(db, UPDATE_ROW,
                   DB_ARGS(DB_TEXT(state_names[park->state]), DB_U64(park->is_told), wait_of(park),
                           DB_U64(park->attempts), failed, DB_TEXT(obx_code_name(item->why.code)),
                           failed, DB_TEXT(item->why.text), failed, failed,
                           DB_U64(item->parked_id)),
                   NULL, err);
}

enum obx_code parked_write(struct db *db, const struct settings *settings, const struct item *item,
                           const struct park *park, struct obx_err *err)
{
    return item->parked_id != 0 ? update(db, item, park, err)
                                : insert(db, settings, item, park, err);
}

enum obx_code parked_remove(struct db *db, uint64_t id, struct obx_err *err)
{
    return db_exec(db, "DELETE FROM obx_parked WHERE id = ?", DB_ARGS(DB_U64(id)), NULL, err);
}

/* ------------------------------------------------------------------ a key goes on */

#define FIRST_OF_KEY                                                                               \
    "SELECT id, state FROM obx_parked WHERE consumer_group = ? AND ordering_key = ? "

enum obx_code parked_promote(struct db *db, const struct settings *settings, struct obx_bytes key,
                             struct obx_err *err)
{
    struct parked_key stored;
    struct db_rows *rows = NULL;
    uint64_t id = 0;
    enum obx_code rc = OBX_OK;

    parked_key_of(key, &stored);
    rc = db_query(db,
                  settings->skips_dead ? FIRST_OF_KEY "AND state <> 'dead' ORDER BY id LIMIT 1"
                                       : FIRST_OF_KEY "ORDER BY id LIMIT 1",
                  DB_ARGS(DB_TEXT(settings->group), DB_BYTES(stored.bytes)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows) && bytes_is(db_rows_bytes(rows, 1), "behind"))
        id = db_rows_u64(rows, 0);
    db_rows_free(rows);
    if (id == 0)
        return rc;
    return db_exec(db,
                   "UPDATE obx_parked SET state = 'waiting', next_at = UTC_TIMESTAMP(6) "
                   "WHERE id = ? AND state = 'behind'",
                   DB_ARGS(DB_U64(id)), NULL, err);
}

void parked_read_outcome(struct item *item, struct obx_bytes outcome, struct obx_bytes reason)
{
    item->was_rejected = bytes_is(outcome, DEDUP_REJECTED);
    if (!item->was_rejected)
        return;
    item->why.code = OBX_E_REJECTED;
    (void)bytes_to_text(reason, item->why.text, sizeof(item->why.text));
}
