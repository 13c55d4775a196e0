/* Rows of inbox_parked, written and removed. See parked_db.h. */
#include "parked_db.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "core/embed.h"
#include "props.h"

enum {
    MADE_ID_MAX = 48,
    TOPIC_MAX = 255,
    US_PER_MS = 1000,
    LARGE_BODY = 256 * 1024,
    HEADROOM = 16 * 1024,
    HOLDS_MAX = 64,
    PIECE_SHARE = 2 /* so much of a packet is the body's */
};

#define HASHES_LEN 33 /* "~" and two times 16 digits */
#define BASIS_A    UINT64_C(14695981039346656037)
#define BASIS_B    UINT64_C(0x9E3779B97F4A7C15)
#define PRIME      UINT64_C(1099511628211)

static const char *const state_names[] = {
    [PARK_WAITING] = "waiting", [PARK_BLOCKED] = "blocked", [PARK_DEAD] = "dead"};

enum obx_code parked_add_hex(struct obx_buf *sql, struct obx_bytes bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    const unsigned char *p = bytes.p;

    if (buf_reserve(sql, 2 * bytes.len + sizeof("X''")) != OBX_OK)
        return sql->rc;
    buf_add_text(sql, "X'");
    for (size_t i = 0; i < bytes.len; i++) {
        const char pair[] = {digits[p[i] >> 4], digits[p[i] & 0xF]};

        buf_add(sql, pair, sizeof(pair));
    }
    return buf_add_text(sql, "'");
}

static uint64_t hash(struct obx_bytes bytes, uint64_t basis)
{
    const unsigned char *p = bytes.p;

    for (size_t i = 0; i < bytes.len; i++)
        basis = (basis ^ p[i]) * PRIME;
    return basis;
}

void parked_key_of(struct obx_bytes key, struct parked_key *out)
{
    const size_t kept = PARKED_KEY_MAX - HASHES_LEN;

    out->bytes = key;
    if (key.len <= PARKED_KEY_MAX)
        return;
    memcpy(out->room, key.p, kept);
    (void)snprintf(out->room + kept, HASHES_LEN + 1, "~%016" PRIx64 "%016" PRIx64,
                   hash(key, BASIS_A), hash(key, BASIS_B));
    out->bytes = (struct obx_bytes){out->room, PARKED_KEY_MAX};
}

/* ------------------------------------------------------------------ writing */

static struct obx_bytes cut(struct obx_bytes bytes, size_t max)
{
    return (struct obx_bytes){bytes.p != NULL ? bytes.p : "", bytes.len < max ? bytes.len : max};
}

static struct obx_value wait_of(const struct park *park)
{
    return park->is_due ? DB_U64((uint64_t)park->wait_ms * US_PER_MS) : DB_NULL();
}

#define INSERT_ROW                                                                                 \
    "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, next_at, "   \
    "attempts, reason_code, reason, first_failed_at, last_failed_at, replay_until, queue, "        \
    "exchange, routing_key, topic, properties, body, size, is_reported, pieces) VALUES (?, ?, ?, " \
    "?, "                                                                                          \
    "?, "                                                                                          \
    "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?, ?, ?, IF(?, UTC_TIMESTAMP(6), NULL), "          \
    "IF(?, UTC_TIMESTAMP(6), NULL), UTC_TIMESTAMP(6) + INTERVAL ? SECOND, ?, ?, ?, ?, ?, ?, "      \
    "? + 0 * OCTET_LENGTH(?), ?, ?)"

static enum obx_code insert_row(struct db *db, const struct settings *settings,
                                const struct item *item, const struct park *park, uint32_t pieces,
                                struct obx_err *err)
{
    const struct bridge_message *from = &item->delivery->msg;
    const struct obx_bytes body = cut(from->body, pieces == 0 ? SIZE_MAX : 0);
    /* What could be written must also be readable: a row comes back with its reason, an operator's
     * note and more. So a statement with a large body is made larger by that, and refused if it does
     * not fit. */
    static const char room[HEADROOM];
    const struct obx_bytes headroom = {room, body.len >= LARGE_BODY ? sizeof(room) : 0};
    struct obx_bytes id = item->msg.message_id;
    char made_id[MADE_ID_MAX];
    struct parked_key key;
    struct obx_buf props = {0};
    enum obx_code rc = props_write(from, &props);

    /* A message that came without an id, or with one that is too long, gets one under which it can be
     * listed, and applied after a replay. */
    if (!item_has_id(item)) {
        (void)snprintf(made_id, sizeof(made_id), "no-id-%016" PRIx64 "%016" PRIx64, random_u64(),
                       random_u64());
        id = bytes_of(made_id);
    }
    if (rc != OBX_OK) {
        rc = obx_fail(err, rc, "properties of a message");
        goto out;
    }
    parked_key_of(item->msg.ordering_key, &key);
    rc = db_exec(
        db, INSERT_ROW,
        DB_ARGS(
            DB_TEXT(settings->group), DB_BYTES(id), DB_BYTES(key.bytes), DB_U64(item->lane),
            DB_TEXT(state_names[park->state]), wait_of(park), DB_U64(park->attempts),
            DB_TEXT(park->has_reason ? obx_code_name(item->why.code) : ""),
            DB_TEXT(park->has_reason ? item->why.text : ""), DB_U64(park->has_failed),
            DB_U64(park->has_failed), DB_U64(settings->dedup_retention_s), DB_TEXT(settings->queue),
            DB_BYTES(cut(from->exchange, UINT8_MAX)), DB_BYTES(cut(from->routing_key, UINT8_MAX)),
            DB_BYTES(cut(item->msg.topic, TOPIC_MAX)), DB_BYTES(cut(buf_bytes(&props), SIZE_MAX)),
            DB_BYTES(body), DB_U64(props.len + from->body.len), DB_BYTES(headroom),
            DB_U64(park->is_reported), DB_U64(pieces)),
        NULL, err);
out:
    buf_fini(&props);
    return rc;
}

/* A body that is larger than the server takes at once (max_allowed_packet). */
static enum obx_code insert_in_pieces(struct db *db, const struct settings *settings,
                                      const struct item *item, const struct park *park,
                                      struct obx_err *err)
{
    const struct obx_bytes body = item->delivery->msg.body;
    const size_t size = db_max_packet(db) / PIECE_SHARE;
    const uint32_t pieces = (uint32_t)((body.len + size - 1) / size);
    enum obx_code rc = insert_row(db, settings, item, park, pieces, err);
    const uint64_t parked_id = db_insert_id(db);

    for (uint32_t n = 0; n < pieces && rc == OBX_OK; n++) {
        const size_t left = body.len - n * size;
        const struct obx_bytes piece = {(const char *)body.p + n * size, left < size ? left : size};

        rc = db_exec(db, "INSERT INTO inbox_parked_piece (parked_id, n, piece) VALUES (?, ?, ?)",
                     DB_ARGS(DB_U64(parked_id), DB_U64(n), DB_BYTES(piece)), NULL, err);
    }
    return rc;
}

enum obx_code parked_read_pieces(struct db *db, uint64_t id, uint32_t pieces, struct obx_buf *body,
                                 struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (uint32_t n = 0; n < pieces && rc == OBX_OK; n++) {
        struct db_rows *rows = NULL;
        struct obx_bytes piece = {0};

        rc = db_query(db, "SELECT piece FROM inbox_parked_piece WHERE parked_id = ? AND n = ?",
                      DB_ARGS(DB_U64(id), DB_U64(n)), &rows, err);
        if (rc == OBX_OK && !db_rows_next(rows))
            rc = obx_fail(err, OBX_E_DB_DATA, "piece %u of row %llu of inbox_parked is not there",
                          (unsigned)n, (unsigned long long)id);
        if (rc == OBX_OK) {
            piece = db_rows_bytes(rows, 0);
            if (buf_add(body, piece.p, piece.len) != OBX_OK)
                rc = obx_fail(err, OBX_E_NOMEM, "body of a parked message");
        }
        db_rows_free(rows);
    }
    return rc;
}

#define UPDATE_ROW                                                                                 \
    "UPDATE inbox_parked SET state = ?, is_reported = ?, "                                         \
    "next_at = UTC_TIMESTAMP(6) + INTERVAL GREATEST(?, IF(?, LEAST(?, TIMESTAMPDIFF(MICROSECOND, " \
    "parked_at, UTC_TIMESTAMP(6))), 0)) MICROSECOND, "                                             \
    "attempts = ?, claim = 0, claim_size = 0, reason_code = IF(?, ?, reason_code), "               \
    "reason = IF(?, ?, reason), "                                                                  \
    "first_failed_at = COALESCE(first_failed_at, IF(?, UTC_TIMESTAMP(6), NULL)), "                 \
    "last_failed_at = IF(?, UTC_TIMESTAMP(6), last_failed_at) WHERE id = ?"

static enum obx_code update(struct db *db, const struct item *item, const struct park *park,
                            struct obx_err *err)
{
    const struct obx_value failed = DB_U64(park->has_failed);
    const struct obx_value has_reason = DB_U64(park->has_reason);

    return db_exec(db, UPDATE_ROW,
                   DB_ARGS(DB_TEXT(state_names[park->state]), DB_U64(park->is_reported),
                           wait_of(park), DB_U64(park->cap_ms > 0),
                           DB_U64((uint64_t)park->cap_ms * US_PER_MS), DB_U64(park->attempts),
                           has_reason, DB_TEXT(obx_code_name(item->why.code)), has_reason,
                           DB_TEXT(item->why.text), failed, failed, DB_U64(item->parked_id)),
                   NULL, err);
}

enum obx_code parked_write(struct db *db, const struct settings *settings, const struct item *item,
                           const struct park *park, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (item->parked_id != 0)
        return update(db, item, park, err);
    rc = insert_row(db, settings, item, park, 0, err);
    if (rc == OBX_E_TOO_LARGE && item->delivery->msg.body.len > 0 && !db_is_lost(db))
        rc = insert_in_pieces(db, settings, item, park, err);
    return rc == OBX_E_DB_DUPLICATE ? OBX_OK : rc;
}

const char *parked_holds(const struct settings *settings)
{
    return settings->skips_dead ? "is_reported = 0 AND state <> 'dead'" : "is_reported = 0";
}

enum obx_code parked_remove(struct db *db, uint64_t id, uint32_t pieces, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (pieces > 0)
        rc = db_exec(db, "DELETE FROM inbox_parked_piece WHERE parked_id = ?", DB_ARGS(DB_U64(id)),
                     NULL, err);
    if (rc != OBX_OK)
        return rc;
    return db_exec(db, "DELETE FROM inbox_parked WHERE id = ?", DB_ARGS(DB_U64(id)), NULL, err);
}

/* ------------------------------------------------------------------ a key goes on */

#define FIRST_OF_KEY                                                                               \
    "SELECT id, state FROM inbox_parked FORCE INDEX (parked_key) WHERE consumer_group = ? "        \
    "AND ordering_key = ? AND %s ORDER BY id LIMIT 1"

/* One that somebody holds is left to due_free_keys: what frees a key waits for nobody. */
static enum obx_code make_due(struct db *db, uint64_t id, bool *is_due, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    bool is_ours = false;
    enum obx_code rc = db_query(db,
                                "SELECT 1 FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id = ? "
                                "AND state = 'blocked' FOR UPDATE SKIP LOCKED",
                                DB_ARGS(DB_U64(id)), &rows, err);

    is_ours = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    if (is_due != NULL)
        *is_due = is_ours;
    if (!is_ours)
        return rc;
    return db_exec(db,
                   "UPDATE inbox_parked SET state = 'waiting', next_at = UTC_TIMESTAMP(6) "
                   "WHERE id = ?",
                   DB_ARGS(DB_U64(id)), NULL, err);
}

enum obx_code parked_promote(struct db *db, const struct settings *settings, struct obx_bytes key,
                             bool *is_due, struct obx_err *err)
{
    struct parked_key stored;
    struct db_rows *rows = NULL;
    char sql[sizeof(FIRST_OF_KEY) + HOLDS_MAX];
    uint64_t id = 0;
    enum obx_code rc = OBX_OK;

    parked_key_of(key, &stored);
    (void)snprintf(sql, sizeof(sql), FIRST_OF_KEY, parked_holds(settings));
    rc = db_query(db, sql, DB_ARGS(DB_TEXT(settings->group), DB_BYTES(stored.bytes)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows) && bytes_is(db_rows_bytes(rows, 1), "blocked"))
        id = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return id == 0 ? rc : make_due(db, id, is_due, err);
}

/* NOWAIT is the only wait shorter than a second that both servers have. */
enum obx_code parked_probe(struct db *db, const struct settings *settings,
                           struct obx_bytes message_id, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db,
                 "SELECT 1 FROM inbox_applied FORCE INDEX (PRIMARY) WHERE "
                 "consumer_group = ? AND message_id = ? FOR UPDATE NOWAIT",
                 DB_ARGS(DB_TEXT(settings->group), DB_BYTES(message_id)), &rows, err);

    db_rows_free(rows);
    return rc;
}

enum dedup_outcome parked_read_outcome(struct item *item, struct obx_bytes outcome,
                                       struct obx_bytes reason)
{
    /* Reported to nobody: it is not ours to say. */
    const bool was_discarded =
        bytes_is(outcome, DEDUP_DISCARDED) || bytes_is(outcome, EMBED_STORED);

    if (!was_discarded && !bytes_is(outcome, DEDUP_REJECTED))
        return OUTCOME_APPLIED;
    /* What an operator has discarded is reported to nobody: it may be what could have been applied.
     */
    item->why.code = was_discarded ? OBX_E_CONFLICT : OBX_E_REJECTED;
    (void)bytes_to_text(reason, item->why.text, sizeof(item->why.text));
    return OUTCOME_REJECTED;
}
