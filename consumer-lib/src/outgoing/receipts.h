/*
 * Receipts: what a consumer reports back to the producer of a message that asks for it, after its
 * commit and before its acknowledgement. Owned by the I/O thread, which services it as the dead
 * letters; the connection is made when the first receipt is due.
 *
 * A receipt that cannot be delivered holds its message back for PATIENCE only, one whose queue is
 * not there not at all, and all of them together hold half of the prefetch window at most: a
 * producer that has gone, or that names queues which never were, must not stop a consumer. Nothing
 * is lost by it, since a producer that waits sends the message again, and the duplicate is reported
 * out of the tables.
 */
#ifndef CONSUMER_RECEIPTS_H
#define CONSUMER_RECEIPTS_H

#include "api/counters.h"
#include "api/settings.h"
#include "apply/item.h"
#include "bridge/publisher.h"

/** The item is the receiver's again; is_reported: its receipt is confirmed, or was given up in
 * favour of the ones behind it. False only while ending: leave it to the broker. */
typedef void receipts_done_fn(struct item *item, bool is_reported, void *ctx);

struct receipt_batch;

struct receipts {
    const struct settings *settings; /* borrowed */
    struct counters *counters;       /* borrowed */
    struct bridge_publisher *publisher;
    struct receipt_batch *open;    /* being filled in this turn, one for each queue */
    struct receipt_batch *pending; /* to be published, the next due first or not: a short list */
    struct receipt_batch *sent;    /* with the publisher */
    uint64_t last_number;          /* of a batch */
    uint64_t next_due_ms;          /* UINT64_MAX: nothing is pending */
    size_t held;                   /* items in all batches */
    size_t unsaid;                 /* given up since the last line of the log about that */
    uint64_t say_due_ms;
    bool is_ending;
    receipts_done_fn *on_done;
    void *ctx;
};

/** Whether the item's message asks this group for a receipt, in a way that can be answered. */
bool receipts_are_asked(const struct item *item, const char *group);
/** Whether a dead item may be reported as rejected: not when it is only too old to tell whether it
 * was applied, for its producer would make up for what may have happened. */
bool receipts_may_reject(const struct item *item);

/** On failure there is nothing to free. OBX_E_NOMEM, OBX_E_INVALID, OBX_E_CONFIG. */
OBX_NODISCARD enum obx_code receipts_init(struct receipts *receipts,
                                          const struct settings *settings,
                                          struct counters *counters, receipts_done_fn *on_done,
                                          void *ctx, struct obx_err *err);
/** Gives everything back unreported. */
void receipts_fini(struct receipts *receipts);
/**
 * Take a decided item whose effect is committed, if its message asks this group for a receipt; it
 * comes back by on_done, inside receipts_service or receipts_fini. False: it does not ask, or there
 * is no memory for it: the item stays the caller's.
 */
bool receipts_take(struct receipts *receipts, struct item *item);
/** Publish what was taken, read confirms, try again what is due. */
void receipts_service(struct receipts *receipts);
/** For poll(2); -1 when not connected. */
int receipts_fd(const struct receipts *receipts);
uint64_t receipts_next_due_ms(const struct receipts *receipts);

#endif
