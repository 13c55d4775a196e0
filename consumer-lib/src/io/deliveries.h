/* The deliveries of the present broker connection: to which worker each goes, and its answer. */
#ifndef CONSUMER_DELIVERIES_H
#define CONSUMER_DELIVERIES_H

#include "core/shared.h"

/*
 * Which worker gets a delivery: those of one ordering key always the same one, those without a key
 * the one with least to do. Owned by the I/O thread.
 */
struct dispatch_lane {
    struct mailbox *box;  /* borrowed: the worker's */
    struct item_list out; /* chosen, not posted yet */
    uint64_t load;        /* deliveries given and not come back */
};

struct dispatch {
    struct dispatch_lane *lanes;
    unsigned count;
};

OBX_NODISCARD enum obx_code dispatch_init(struct dispatch *dispatch, unsigned count,
                                          struct obx_err *err);
void dispatch_fini(struct dispatch *dispatch);
/** Choose a worker; the item is posted by dispatch_post. */
void dispatch_give(struct dispatch *dispatch, struct item *item);
void dispatch_post(struct dispatch *dispatch);
/** An item has come back; counts only if it was given here. */
void dispatch_returned(struct dispatch *dispatch, const struct item *item);

/*
 * The deliveries of the present broker connection that have not been answered, in the order of
 * their tags, so that a run of finished ones at the head is acknowledged by one frame. Owned by the
 * I/O thread. The list is in the items themselves: one message that waits for hours among millions
 * that pass costs nothing.
 */
struct acks {
    struct item *head; /* lowest tag */
    struct item *tail;
    size_t done_count; /* finished, not acknowledged */
    bool has_holes; /* some were forgotten: a frame for a run could acknowledge them, so there are
                       no runs any more */
};

/** A new delivery; its tag is above all before. */
void acks_add(struct acks *acks, struct item *item);
/** Finished: to be acknowledged. The item must be linked. */
void acks_done(struct acks *acks, struct item *item);
/**
 * Forget an item without an answer: the broker will deliver it again. Nothing if it is not linked.
 * From then on, until the reset, finished ones are acknowledged one by one.
 */
void acks_forget(struct acks *acks, struct item *item);
/** Forget all: the connection is gone. Those that were finished are moved to finished; their owner
 * was this list. */
void acks_reset(struct acks *acks, struct item_list *finished);
/** Take the finished run at the head out, into finished; returns the tag that acknowledges all of
 * it, 0 for none. */
uint64_t acks_take_run(struct acks *acks, struct item_list *finished);
/** Take all finished ones out, into finished, to be acknowledged one by one. */
void acks_take_each(struct acks *acks, struct item_list *finished);

#endif
