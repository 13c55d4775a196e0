/*
 * outbox_awaiting: messages that the broker has confirmed and that their consumers have to report
 * on. A confirmed row that asks for receipts is moved there in place of being deleted.
 *
 * Invariants: a row leaves the outbox only in the transaction that has put it into outbox_awaiting
 * or has found its receipts complete; it leaves outbox_awaiting only with its receipts complete
 * (overdue.c, the receipts role) or into outbox_parked. Every write is made under the lease. Used
 * by the lane thread. Proved by tests/system/lane_receipt_test.c.
 */
#ifndef RELAY_AWAITING_H
#define RELAY_AWAITING_H

#include <stdint.h>

#include "base/bytes.h"
#include "compensate.h"
#include "journal.h"
#include "sql/db.h"
#include "tables/id_list.h"
#include "tables/lease.h"
#include "tables/outbox_columns.h"
#include "tables/row_delete.h"

struct awaiting_opts {
    const char *outbox;      /* borrowed */
    const char *table;       /* its quoted name; borrowed */
    struct lease *lease;     /* borrowed */
    struct journal *journal; /* borrowed; NULL: none is kept */
    uint32_t timeout_ms;     /* first wait for receipts; doubles with each send */
    uint32_t cap_ms;         /* longest wait */
    uint32_t max_sends;      /* then it is parked */
};

struct awaiting {
    struct awaiting_opts opts;
    struct compensate comp;
    struct row_delete del;      /* from the outbox */
    struct obx_buf early, move; /* statements */
    struct obx_buf next_send;   /* an expression: when the next send is due */
    struct id_list list;        /* scratch */
    uint64_t moved, settled_at_once, rejected;
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code awaiting_init(struct awaiting *awaiting,
                                          const struct awaiting_opts *opts, struct obx_err *err);
void awaiting_fini(struct awaiting *awaiting);

/**
 * Settle confirmed rows of the outbox that ask for receipts, ids ascending: out of the outbox, and
 * into outbox_awaiting unless their receipts are there already. One transaction; on failure nothing
 * has changed. OBX_E_LEASE_LOST, any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code awaiting_move(struct awaiting *awaiting, struct db *db,
                                          const uint64_t *ids, size_t count, struct obx_err *err);

#endif
