/*
 * After a batch: every item of it goes to its final state, or is ready again, and the one that the
 * batch was undone for gets a plan of its own. Lists and counters only: no thread, no database.
 */
#ifndef CONSUMER_SETTLE_H
#define CONSUMER_SETTLE_H

#include "apply/apply.h"
#include "core/shared.h"

struct settled {
    struct item_list back;  /* final, for the I/O thread */
    struct item_list again; /* READY, in their order */
    size_t rows;            /* of back, so many are rows of inbox_parked */
    uint64_t held_until_ms; /* an item of again can be neither applied nor parked before; 0: none */
};

/** count items of a batch that apply_batch has reported about. */
void settle_batch(struct shared *shared, struct item **batch, size_t count,
                  const struct apply_report *report, struct settled *settled);
/** Leave an item to the broker, or to its row: DROPPED. */
void settle_drop(struct shared *shared, struct item *item);

#endif
