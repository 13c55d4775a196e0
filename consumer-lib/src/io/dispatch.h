/*
 * Which worker gets a delivery: those of one ordering key always the same one, those without a key
 * the one with least to do. Owned by the I/O thread.
 */
#ifndef CONSUMER_DISPATCH_H
#define CONSUMER_DISPATCH_H

#include "core/mailbox.h"

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

#endif
