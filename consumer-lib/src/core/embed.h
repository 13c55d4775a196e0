/*
 * What inbox-relay needs of the library beyond its public header: its handler stores messages for
 * others to apply, so it has to hear of commits, and `applied` is not the library's to report.
 *
 * A message that is stored has a dedup row with the outcome EMBED_STORED and the stored row's id as
 * its reason, if it asks for a receipt. A copy of it is acknowledged and nothing is reported.
 */
#ifndef CONSUMER_EMBED_H
#define CONSUMER_EMBED_H

#include "obx/consumer.h"

#define EMBED_STORED "stored"

struct consumer_embed {
    /* A batch of this worker has ended; on its thread. is_committed false: undone, its messages come
     * again. */
    void (*after_batch)(void *ctx, unsigned worker, bool is_committed);
    /* There is another copy of a stored message, which asks for a receipt; on a worker's thread.
     * Both are borrowed. */
    void (*stored_before)(void *ctx, struct obx_bytes message_id, struct obx_bytes stored_id);
    void *ctx;
};

/** Before the start; embed is borrowed until the close. */
void consumer_embed(struct obx_consumer *consumer, const struct consumer_embed *embed);
/** Which worker calls the handler, from 0; of a partitioned consumer below partitions times workers. */
unsigned consumer_tx_worker(const struct obx_tx *tx);
/** What stands in the way is not the message's fault: undo, no attempt was made. */
void consumer_tx_stall(struct obx_tx *tx, const struct obx_err *why);
/** No statement of its session is larger. */
size_t consumer_tx_max_packet(const struct obx_tx *tx);
/** Whether the message asks this group for a receipt, in a way that can be answered. */
bool consumer_asks_receipt(const struct obx_message *msg, const char *group);

#endif
