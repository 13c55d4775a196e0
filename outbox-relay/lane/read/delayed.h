/*
 * outbox_delayed: messages for later. What is due, by the database's clock, is moved into the
 * outbox by the owner of its lease, in batches and in the order in which it became due; from there
 * on it is a row like any other. What waits is never looked at: the look is one step into an index.
 *
 * Invariant: a row leaves the table only in the transaction that has put it into the outbox, or by
 * the application's DELETE; the row's lock makes these two exclude each other. Used by the lane
 * thread. Proved by tests/system/lane_delayed_test.c.
 */
#ifndef RELAY_DELAYED_H
#define RELAY_DELAYED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "lane/park/held_rows.h"
#include "sql/db.h"
#include "tables/id_list.h"
#include "tables/lease.h"
#include "tables/row_delete.h"

enum { DELAYED_ROWS = 500 };

struct delayed {
    const char *outbox;         /* borrowed */
    struct lease *lease;        /* borrowed */
    struct obx_buf move;        /* the beginning of a statement */
    struct row_delete del;      /* from outbox_delayed */
    struct id_list list;        /* scratch: what is due */
    struct obx_buf text;        /* scratch */
    uint64_t ids[DELAYED_ROWS]; /* scratch: as list */
    size_t portion;             /* rows in one transaction: halved by a row that is refused */
    size_t offset;              /* past rows of which none could be locked, or that were refused */
    bool is_past_refused;       /* the offset stays until the end is reached */
    struct held_rows held;      /* refused alone */
    uint64_t moved;
    uint64_t backdated; /* were due a minute and more before they were written */
    uint64_t stray;     /* rows for an outbox that nobody drains, at the last look */
    uint64_t warned_ms; /* of them, last; 0: never */
};

/** outbox and lease are borrowed; table is the quoted name. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code delayed_init(struct delayed *delayed, const char *outbox,
                                         const char *table, struct lease *lease,
                                         struct obx_err *err);
void delayed_fini(struct delayed *delayed);
/**
 * Move what is due, one batch and one transaction at most. *may_have_more: come again
 * at once. On failure nothing has changed. OBX_E_LEASE_LOST, any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code delayed_move(struct delayed *delayed, struct db *db,
                                         bool *may_have_more, struct obx_err *err);
/** OBX_E_CONFIG when there are messages for an outbox that no relay has ever drained: they would
 * wait for ever. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code delayed_find_stray(struct delayed *delayed, struct db *db,
                                               struct obx_err *err);

#endif
