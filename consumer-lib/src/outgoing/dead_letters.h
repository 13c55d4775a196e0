/*
 * Dead rows of inbox_parked on their way into the dead-letter queue, where one is named: published
 * with confirms over a connection of their own, again and again until the broker has one safely.
 * Until then the row stays. Owned by the I/O thread.
 */
#ifndef CONSUMER_DEAD_LETTERS_H
#define CONSUMER_DEAD_LETTERS_H

#include "api/settings.h"
#include "apply/item.h"
#include "bridge/publisher.h"

/** A dead letter is confirmed (item->outcome SETTLED) or given up, its row being there for another
 * time (DROPPED). */
typedef void dead_letter_done_fn(struct item *item, void *ctx);

struct dead_letters {
    const struct settings *settings; /* borrowed */
    struct counters *counters;       /* borrowed */
    struct bridge_publisher *publisher;
    struct item_list pending; /* to be published when due */
    struct item_list sent;    /* with the publisher, which knows them by their row's id */
    uint64_t next_due_ms;     /* of pending; UINT64_MAX when there are none */
    bool is_ending;           /* what fails now is given up */
    dead_letter_done_fn *on_done;
    void *ctx;
};

OBX_NODISCARD enum obx_code dead_letters_init(struct dead_letters *dead,
                                              const struct settings *settings,
                                              struct counters *counters,
                                              dead_letter_done_fn *on_done, void *ctx,
                                              struct obx_err *err);
/** Give all up: on_done is called for each, DROPPED. */
void dead_letters_fini(struct dead_letters *dead);
/** Take an item with outcome LETTER; on_done gives it back, inside this call only while draining.
 */
void dead_letters_add(struct dead_letters *dead, struct item *item);
/** Wait for what is on its way, give up everything else. May call on_done. */
void dead_letters_drain(struct dead_letters *dead);
/** Do what is due; connects only once there has been something to publish. May call on_done. */
void dead_letters_service(struct dead_letters *dead);
int dead_letters_fd(const struct dead_letters *dead);
uint64_t dead_letters_next_due_ms(const struct dead_letters *dead);

#endif
