/*
 * outbox_parked: moving rows there with their reason, and knowing which ordering keys are frozen.
 *
 * Invariants: a row is deleted from the outbox only in the transaction that has copied it; every
 * write is made under the lease. Frozen keys are kept as a set that may say yes too often (fixed
 * memory); the table decides. Used by the lane thread. Proved by tests/system/lane_park_test.c.
 */
#ifndef RELAY_PARKING_H
#define RELAY_PARKING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "lane/read/keyset.h"
#include "outbox/outbox_row.h"
#include "sql/db.h"
#include "tables/id_list.h"
#include "tables/lease.h"
#include "tables/row_delete.h"

struct parking {
    const char *outbox;  /* borrowed */
    struct lease *lease; /* borrowed */
    struct keyset frozen;
    bool has_more; /* than were looked at when the lease was taken: every key may be frozen */
    struct row_delete del;             /* from the outbox */
    struct obx_buf park_one;           /* a row with a reason of its own */
    struct obx_buf park_followers_sql; /* rows after a frozen head */
    struct obx_buf known;              /* the beginning of a statement */
    struct id_list list;               /* scratch */
    struct obx_buf text;               /* scratch */
    struct obx_buf held_key;           /* the key that is being resumed */
    bool is_holding;
};

/** A row to park. */
struct park_item {
    uint64_t id;
    uint64_t blocked_by; /* the head it waits for; 0: it is parked for its own sake */
    const char *reason_code;
    const char *reason;
    struct obx_bytes key;
    uint32_t attempts;
    bool holds_key; /* freeze the key */
};

/** outbox and lease are borrowed; table is the quoted name. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code parking_init(struct parking *parking, const char *outbox,
                                         const char *table, struct lease *lease,
                                         struct obx_err *err);
void parking_fini(struct parking *parking);
/** Learn which keys are frozen; after every taking of the lease. Reads so many at most that
 * a take-over does not wait for them; beyond, each batch asks for its keys. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code parking_load(struct parking *parking, struct db *db,
                                         struct obx_err *err);
/** Set row->blocked_by for rows of frozen keys, and READER_HOLD for rows of the key that is being
 * resumed. */
OBX_NODISCARD enum obx_code parking_mark(struct parking *parking, struct db *db,
                                         struct row_batch *batch, struct obx_err *err);
/** What rows of the outbox are, for the log: id, message_id, topic, and whether they are copies of
 * messages that await receipts. *rows is the caller's. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code parking_known(struct parking *parking, struct db *db,
                                          const uint64_t *ids, size_t count, struct db_rows **rows,
                                          struct obx_err *err);
/**
 * Park the rows, items ascending by id, in one transaction. Rows that are not there any more are
 * nobody's loss. On failure nothing is parked. OBX_E_LEASE_LOST; OBX_E_DB_DUPLICATE: one of the ids
 * stands in outbox_parked already; OBX_E_CONFLICT: somebody else has changed the rows meanwhile,
 * try again; any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code parking_park(struct parking *parking, struct db *db,
                                         const struct park_item *items, size_t count,
                                         struct obx_err *err);

#endif
