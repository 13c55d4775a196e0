/*
 * Dead rows of inbox_parked on their way into the dead-letter queue, where one is named: published
 * with confirms, again and again until the broker has one safely. Until then the row stays. Owned by
 * the I/O thread.
 */
#ifndef CONSUMER_DEAD_LETTERS_H
#define CONSUMER_DEAD_LETTERS_H

#include "core/counters.h"
#include "core/item.h"
#include "outgoing/outgoing.h"

/** A dead letter is CONFIRMED, or given up, its row being there for another time: DROPPED. */
typedef void dead_letter_done_fn(struct item *item, void *ctx);

struct dead_letters {
    const struct settings *settings; /* borrowed */
    struct counters *counters;       /* borrowed */
    struct outgoing *outgoing;       /* borrowed; ended before the items' owner is */
    bool is_ending;                  /* what fails now is given up */
    dead_letter_done_fn *on_done;
    void *ctx;
};

/** Take an item in the state LETTER; on_done gives it back, inside this call when it is ending, or
 * when there is no memory for it. */
void dead_letters_add(struct dead_letters *dead, struct item *item);
/** Wait for what is in flight, give up everything else. May call on_done. */
void dead_letters_drain(struct dead_letters *dead);

#endif
