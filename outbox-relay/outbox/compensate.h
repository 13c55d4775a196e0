/*
 * Compensation: what happens when a consumer group has rejected a message that asked for receipts.
 *
 * It is set off once, by the one that settles the message (the lane that has it in the outbox, the receipts
 * role or the resend scan that has it in outbox_awaiting): the row ('', rejected) of outbox_receipt
 * is inserted first, and only who inserted it sends. All in the caller's transaction, which also
 * settles the message. The compensation's message id is made from that of the message, so that even
 * receipts that were removed meanwhile cannot make a second effect. Proved by
 * tests/system/receipts_test.c.
 */
#ifndef RELAY_COMPENSATE_H
#define RELAY_COMPENSATE_H

#include "base/bytes.h"
#include "sql/db.h"

struct compensate {
    struct obx_buf from_outbox, from_awaiting; /* statements */
    uint64_t sent;                             /* compensation messages */
};

/** table is the quoted name of the outbox. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code compensate_init(struct compensate *comp, const char *table,
                                            struct obx_err *err);
void compensate_fini(struct compensate *comp);

/** A rejected message. */
struct compensate_item {
    struct obx_bytes message_id;
    struct obx_bytes group;  /* who rejected it */
    struct obx_bytes reason; /* absent: none */
    bool in_outbox;          /* under outbox_id; else it is in outbox_awaiting */
    uint64_t outbox_id;
};
/**
 * Within the caller's transaction. *is_first: this is who sets it off (a message that names no
 * topic for it has nothing to send, but is noted all the same). Any OBX_E_DB_*; the transaction is
 * to be rolled back then.
 */
OBX_NODISCARD enum obx_code compensate_run(struct compensate *comp, struct db *db,
                                           const struct compensate_item *item, bool *is_first,
                                           struct obx_err *err);

#endif
