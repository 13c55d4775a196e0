/*
 * One row for one message. Its place in the chain of its key is decided by what a plain read sees
 * (READ COMMITTED, the level of our sessions); what that read could not see is looked at after the
 * commit, by the filer.
 */
#include "store.h"

#include <string.h>

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "core/embed.h"
#include "json.h"
#include "keys.h"
#include "tables/outbox_columns.h"

/* What a row has besides headers and payload, as in the statement take. */
enum { ROOM = 65536, KEPT_MAX = 1 << 16 };

/* Since its last commit. A COMMIT without an answer counts as undone though it may stand; what it has
 * stored is then found in the dedup rows and not stored again, so the keys are kept until the worker
 * commits next: by then it is decided. */
struct store_notes {
    struct obx_buf keys; /* hashes */
    uint64_t stored;
};

static const char sql_tail[] =
    "SELECT id, state = 'done' FROM inbox FORCE INDEX (inbox_key)"
    " WHERE queue = ? AND key_hash = ? ORDER BY after_id DESC, id DESC LIMIT 1";

static const char sql_insert[] =
    "INSERT INTO inbox (queue, state, due_at, key_hash, after_id, max_attempts, retry_min_ms,"
    " retry_max_ms, holds_key, created_at, " MESSAGE_NAME_COLUMNS ", content_type, source,"
    " traceparent, receipt_to, receipt_token, headers, size, payload)"
    " VALUES (?, ?, IF(?, UTC_TIMESTAMP(6), NULL), ?, ?, ?, ?, ?, ?,"
    " TIMESTAMPADD(MICROSECOND, ?, '1970-01-01'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/* The dedup row is this transaction's own: the id is the row's that was inserted right before. */
static const char sql_stored[] =
    "UPDATE inbox_applied SET outcome = '" EMBED_STORED "', reason = LAST_INSERT_ID()"
    " WHERE consumer_group = ? AND message_id = ?";

enum obx_code store_init(struct store *store, struct obx_err *err)
{
    store->workers = store->opts->consumer.workers == 0 ? 1 : store->opts->consumer.workers;
    if (store->opts->consumer.partitions > 0)
        store->workers *= store->opts->consumer.partitions;
    store->notes = obx_calloc(store->workers, sizeof(*store->notes));
    return store->notes == NULL ? obx_fail(err, OBX_E_NOMEM, "inbox") : OBX_OK;
}

void store_fini(struct store *store)
{
    for (unsigned i = 0; i < store->workers && store->notes != NULL; i++)
        buf_fini(&store->notes[i].keys);
    obx_free(store->notes);
}

struct place {
    unsigned char hash[KEY_HASH];
    bool has_key, is_ready;
    uint64_t after_id;
};

static enum obx_code find_place(const struct store *store, const struct obx_message *msg,
                                struct obx_tx *tx, struct place *place, struct obx_err *err)
{
    const struct obx_bytes hash = {.p = place->hash, .len = KEY_HASH};
    struct obx_rows *rows = NULL;
    unsigned char digest[EVP_MAX_MD_SIZE];
    enum obx_code rc;

    *place = (struct place){.has_key = msg->ordering_key.p != NULL, .is_ready = true};
    if (!place->has_key)
        return OBX_OK;
    /* A hash and not the key: the index stays small however long keys are, and 128 bits are enough
     * that two keys which share a chain by accident do not happen; if it did, they would only wait
     * for each other. */
    if (EVP_Digest(msg->ordering_key.p, msg->ordering_key.len, digest, NULL, EVP_sha256(), NULL) !=
        1)
        return obx_fail(err, OBX_E_NOMEM, "hash");
    memcpy(place->hash, digest, KEY_HASH);
    rc = obx_tx_query(tx, sql_tail, OBX_ARGS(obx_text(store->opts->queue), obx_data(hash)), &rows,
                      err);
    if (rc == OBX_OK && obx_rows_next(rows)) {
        place->after_id = obx_rows_u64(rows, 0);
        place->is_ready = obx_rows_u64(rows, 1) != 0;
    }
    obx_rows_free(rows);
    return rc;
}

static struct obx_value header_value(const struct obx_message *msg, const char *name, bool is_asked)
{
    return is_asked ? obx_data(obx_message_header(msg, name)->v.text) : obx_null();
}

static enum obx_code insert(const struct store *store, const struct obx_message *msg,
                            struct obx_tx *tx, const struct place *place, struct obx_err *err)
{
    const struct inbox_opts *opts = store->opts;
    const bool is_asked = consumer_asks_receipt(msg, opts->consumer.group);
    /* A message whose producer is told of a rejection does not hold its key: the producer makes up
     * for it, and the later messages of the key are part of that. */
    const struct obx_bytes hash = {.p = place->hash, .len = KEY_HASH};
    struct obx_bytes body = msg->body.p == NULL ? bytes_of("") : msg->body;
    struct obx_buf headers = {0};
    enum obx_code rc;

    json_add_headers(&headers, msg);
    rc = headers.rc == OBX_OK ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "headers");
    /* Refused here and not by the server, which ends the connection at a packet that is too large: the
     * whole batch would be undone, time and again. */
    if (rc == OBX_OK && headers.len + body.len + ROOM > consumer_tx_max_packet(tx))
        rc = obx_fail(err, OBX_E_TOO_LARGE, "%zu bytes; max_allowed_packet of the server is %zu",
                      headers.len + body.len, consumer_tx_max_packet(tx));
    if (rc == OBX_OK)
        rc = obx_tx_exec(
            tx, sql_insert,
            OBX_ARGS(
                obx_text(opts->queue), obx_text(place->is_ready ? "ready" : "blocked"),
                obx_u64(place->is_ready), place->has_key ? obx_data(hash) : obx_null(),
                obx_u64(place->after_id), obx_u64(opts->max_attempts), obx_u64(opts->retry_min_ms),
                obx_u64(opts->retry_max_ms), obx_u64(opts->freezes && !is_asked),
                msg->created_us == 0 ? obx_null() : obx_u64(msg->created_us),
                obx_data(msg->message_id),
                obx_data(msg->topic.p == NULL ? bytes_of("") : msg->topic),
                obx_data(msg->ordering_key), obx_data(msg->content_type), obx_data(msg->source),
                obx_data(msg->traceparent), header_value(msg, "x-obx-receipt-to", is_asked),
                header_value(msg, "x-obx-receipt-token", is_asked), obx_data(buf_bytes(&headers)),
                obx_u64(headers.len + body.len), obx_data(body)),
            NULL, err);
    buf_fini(&headers);
    if (rc == OBX_OK && is_asked)
        rc = obx_tx_exec(tx, sql_stored,
                         OBX_ARGS(obx_text(opts->consumer.group), obx_data(msg->message_id)), NULL,
                         err);
    return rc;
}

enum obx_verdict store_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct store *store = ctx;
    struct store_notes *notes = &store->notes[consumer_tx_worker(tx)];
    struct obx_err err = {0};
    struct place place;
    enum obx_code rc = find_place(store, msg, tx, &place, &err);

    if (rc == OBX_OK)
        rc = insert(store, msg, tx, &place, &err);
    /* Without memory for the note the rescan finds what it would have found. */
    if (rc == OBX_OK && place.has_key && !place.is_ready)
        (void)buf_add(&notes->keys, place.hash, KEY_HASH);
    if (rc == OBX_OK) {
        notes->stored++;
        atomic_fetch_add(&store->counts->stored, 1);
        return OBX_APPLIED;
    }
    obx_tx_reason(tx, "%s", err.text);
    if (obx_code_action(rc) == OBX_DO_STOP) /* no table, no right: for a person to put right */
        consumer_tx_stall(tx, &err);
    return obx_code_action(rc) == OBX_DO_PARK ? OBX_REJECT : OBX_RETRY;
}

void store_batch_ended(void *ctx, unsigned worker, bool is_committed)
{
    struct store *store = ctx;
    struct store_notes *notes = &store->notes[worker];

    if (!is_committed) {
        atomic_fetch_add(&store->counts->unstored, notes->stored);
        notes->stored = 0;
        if (notes->keys.len > KEPT_MAX) /* the rescan finds them */
            buf_reset(&notes->keys);
        return;
    }
    if (notes->stored > 0 || notes->keys.len > 0) {
        OBX_CRASH_POINT("inbox-stored");
        atomic_fetch_add(&store->counts->wakes, waker_ring(store->waker, store->opts->queue));
        filer_look_at(store->filer, &notes->keys);
    }
    buf_reset(&notes->keys);
    notes->stored = 0;
}
