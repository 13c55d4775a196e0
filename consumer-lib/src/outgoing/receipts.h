/*
 * Receipts: what a consumer reports back to the producer of a message that asks for it, after its
 * commit and before its acknowledgement. Owned by the I/O thread.
 *
 * A receipt that cannot be delivered holds its message back for PATIENCE only, one whose queue is
 * not there not at all, and all of them together hold half of the prefetch window at most: a
 * producer that has gone, or that names queues which never were, must not stop a consumer. Nothing
 * is lost by it, since a producer that waits sends the message again, and the duplicate is reported
 * out of the tables.
 */
#ifndef CONSUMER_RECEIPTS_H
#define CONSUMER_RECEIPTS_H

#include "core/counters.h"
#include "core/item.h"
#include "outgoing/outgoing.h"

/** The item is the receiver's again; is_reported: its receipt is confirmed, or was given up in
 * favour of those after it. False only while ending: leave it to the broker. */
typedef void receipts_done_fn(struct item *item, bool is_reported, void *ctx);

struct receipt_batch;

struct receipts {
    const struct settings *settings; /* borrowed */
    struct counters *counters;       /* borrowed */
    struct outgoing *outgoing;       /* borrowed; ended before the items' owner is */
    struct receipt_batch *open;      /* being filled in this turn, one for each queue */
    size_t held;                     /* items in all batches */
    size_t unlogged;                 /* given up since the last line of the log about that */
    uint64_t log_due_ms;
    bool is_ending; /* nothing is reported any more */
    receipts_done_fn *on_done;
    void *ctx;
};

/**
 * Take a DONE or DEAD item, if its message asks this group for a receipt; it comes back by on_done,
 * inside receipts_flush, outgoing_service or outgoing_fini. False: it does not ask, or there is no
 * memory for it: the item stays the caller's.
 */
bool receipts_take(struct receipts *receipts, struct item *item);
/** Hand over what was taken in this turn, to be published; when ending, give it back unreported. */
void receipts_flush(struct receipts *receipts);

#endif
