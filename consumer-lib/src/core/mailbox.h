/*
 * Hand-over of items from one thread to another: a list under a lock and a wake for the receiver.
 * Items posted by one thread arrive in the order in which they were posted.
 */
#ifndef CONSUMER_MAILBOX_H
#define CONSUMER_MAILBOX_H

#include <pthread.h>

#include "base/wake.h"
#include "core/item.h"

struct mailbox {
    pthread_mutex_t lock;
    struct item_list items;
    struct wake wake;
};

OBX_NODISCARD enum obx_code mailbox_init(struct mailbox *box, struct obx_err *err);
/** The code that ends the consumer takes the items out first. */
void mailbox_fini(struct mailbox *box);
/** Hand over all of items, which is empty afterwards. Any thread. Nothing happens for an empty
 * list. */
void mailbox_post(struct mailbox *box, struct item_list *items);
void mailbox_post_one(struct mailbox *box, struct item *item);
/** Append everything there is to out and quiet the wake. The receiver only. */
void mailbox_take(struct mailbox *box, struct item_list *out);

#endif
