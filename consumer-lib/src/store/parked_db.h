/*
 * The statements on inbox_parked that belong to a batch: what is there for its messages, and the rows
 * of those that were not applied. All run inside the caller's transaction, on the worker's thread.
 *
 * An ordering key that is longer than the column stands there cut, with a hash of the whole at its
 * end: two keys that then look the same would only share their order.
 */
#ifndef CONSUMER_PARKED_DB_H
#define CONSUMER_PARKED_DB_H

#include "core/item.h"
#include "core/settings.h"
#include "sql/db.h"
#include "store/store.h"

/* Why there is a dedup row, beside "applied". */
#define DEDUP_REJECTED  "rejected"
#define DEDUP_DISCARDED "discarded"

/**
 * The condition that a row holds up those of its key after it. A dead one does not where the policy
 * says so, nor when its producer is notified and acts on it: then it has ended.
 */
const char *parked_holds(const struct settings *settings);

/** As store_ops.lookup. */
OBX_NODISCARD enum obx_code parked_lookup(struct db *db, const struct settings *settings,
                                          struct item **items, size_t count, struct obx_err *err);
/** As store_ops.find_applied. */
OBX_NODISCARD enum obx_code parked_find_applied(struct db *db, const struct settings *settings,
                                                struct item **items, size_t count,
                                                struct obx_err *err);
/** As store_ops.insert_many. */
OBX_NODISCARD enum obx_code parked_insert_applied(struct db *db, const struct settings *settings,
                                                  struct item **items, size_t count,
                                                  struct obx_err *err);
/** As store_ops.park. */
OBX_NODISCARD enum obx_code parked_write(struct db *db, const struct settings *settings,
                                         const struct item *item, const struct park *park,
                                         struct obx_err *err);
OBX_NODISCARD enum obx_code parked_remove(struct db *db, uint64_t id, uint32_t pieces,
                                          struct obx_err *err);
/** Append the body of a row that is in pieces. */
OBX_NODISCARD enum obx_code parked_read_pieces(struct db *db, uint64_t id, uint32_t pieces,
                                               struct obx_buf *body, struct obx_err *err);
/** As store_ops.promote, for a key as it came with the message or as it stands in the table.
 * is_due may be NULL: whether a row was made due. */
OBX_NODISCARD enum obx_code parked_promote(struct db *db, const struct settings *settings,
                                           struct obx_bytes key, bool *is_due, struct obx_err *err);
/** As store_ops.probe. */
OBX_NODISCARD enum obx_code parked_probe(struct db *db, const struct settings *settings,
                                         struct obx_bytes message_id, struct obx_err *err);
/** What the columns outcome and reason of a dedup row say; unless that is "applied", item->why. */
enum dedup_outcome parked_read_outcome(struct item *item, struct obx_bytes outcome,
                                       struct obx_bytes reason);

/* An ordering key as it stands in inbox_parked: whole, or cut with a hash of the whole at its end. */
enum { PARKED_KEY_MAX = 255 };

struct parked_key {
    struct obx_bytes bytes; /* absent without a key */
    char room[PARKED_KEY_MAX + 1];
};

/** Idempotent: a key as it stands in the table stays as it is. key is borrowed until out is done
 * with. */
void parked_key_of(struct obx_bytes key, struct parked_key *out);

/** Append a binary literal, as X'...'. A failure sticks to the buffer. */
enum obx_code parked_add_hex(struct obx_buf *sql, struct obx_bytes bytes);

#endif
