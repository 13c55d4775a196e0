/*
 * Rows of outbox_awaiting whose receipts are overdue: settled when the receipts are there after
 * all, parked when the sends are used up, else sent again.
 *
 * Sending again is copying the row back into the outbox under its own id and message id: what
 * follows is the ordinary path, and the confirm moves it to outbox_awaiting once more. Used by the
 * lane thread, under the lease. Proved by tests/system/lane_receipt_test.c.
 */
#ifndef RELAY_OVERDUE_H
#define RELAY_OVERDUE_H

#include <stdbool.h>

#include "lane/park/held_rows.h"
#include "lane/read/reader.h"
#include "outbox/awaiting.h"

struct overdue {
    struct awaiting *awaiting;              /* borrowed */
    struct reader *reader;                  /* borrowed: learns what is back in the outbox */
    struct obx_buf resend, on_way, put_off; /* the beginnings of statements */
    struct obx_buf send_renewed;            /* under a new id */
    size_t portion;        /* rows in one transaction: halved by a row that is refused */
    size_t offset;         /* past rows of which none could be locked, or that were refused */
    bool is_past_refused;  /* the offset stays until the end is reached */
    struct held_rows held; /* refused alone */
    struct obx_buf text, ids, due;             /* scratch */
    struct obx_buf resent, late, over;         /* scratch: lists of message ids */
    uint64_t resends, found, parked, rejected; /* found: settled by the scan */
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code overdue_init(struct overdue *overdue, struct awaiting *awaiting,
                                         struct reader *reader, struct obx_err *err);
void overdue_fini(struct overdue *overdue);
/**
 * Look for what is overdue and deal with some of it, in one transaction at most. The reader learns
 * of what is back in the outbox. *may_have_more: come again at once. On failure nothing has
 * changed. OBX_E_LEASE_LOST, any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code overdue_scan(struct overdue *overdue, struct db *db,
                                         bool *may_have_more, struct obx_err *err);

#endif
