/* The few doors of core/embed.h. */
#include "core/embed.h"

#include "api/consumer_object.h"
#include "worker/tx.h"

void consumer_embed(struct obx_consumer *consumer, const struct consumer_embed *embed)
{
    consumer->shared.settings.embed = embed;
}

unsigned consumer_tx_worker(const struct obx_tx *tx)
{
    return tx->worker;
}

void consumer_tx_stall(struct obx_tx *tx, const struct obx_err *why)
{
    tx->failed = *why;
}

size_t consumer_tx_max_packet(const struct obx_tx *tx)
{
    return db_max_packet(tx->db);
}

bool consumer_asks_receipt(const struct obx_message *msg, const char *group)
{
    const struct item item = {.msg = *msg}; /* all that is looked at */

    return item_asks_receipt(&item, group);
}
