/*
 * The I/O thread: the one that owns the consuming connection and what is published, hands
 * deliveries to the workers, acknowledges what they have committed, and carries the consumer
 * through its phases.
 */
#ifndef CONSUMER_IO_H
#define CONSUMER_IO_H

#include "base/backoff.h"
#include "base/thread.h"
#include "bridge/consumer.h"
#include "core/shared.h"
#include "deliveries.h"
#include "outgoing/dead_letters.h"
#include "outgoing/outgoing.h"
#include "outgoing/receipts.h"

struct io {
    struct shared *shared; /* borrowed */
    struct thread thread;

    /* The I/O thread's own from here on. */
    struct bridge_consumer *consumer;
    struct outgoing outgoing;
    struct dead_letters dead;
    struct receipts receipts;
    struct dispatch dispatch;
    struct acks acks;
    uint64_t acks_due_ms; /* when finished deliveries behind an unfinished one are acknowledged;
                             UINT64_MAX: none */
    struct bridge_delivery *
        *unmade; /* a ring of deliveries for which there was no memory to make items of, in order */
    size_t unmade_head;
    size_t unmade_count;
    struct backoff prepare_wait;
    uint64_t prepare_due_ms; /* when the topology is prepared (again); UINT64_MAX: it is */
    bool was_prepared;       /* once: only then the consumer is serviced */
    bool is_paused;          /* reading, for lack of memory allowance */
    uint64_t stops;
    uint64_t drain_due_ms;
};

OBX_NODISCARD enum obx_code io_init(struct io *io, struct shared *shared, struct obx_err *err);
/** Where the deliveries of a worker go; before the start, for each of settings.workers. box is
 * borrowed. */
void io_set_worker(struct io *io, unsigned index, struct mailbox *box);
/** The thread has ended or was never started. */
void io_fini(struct io *io);
/** Start the thread; it ends with the phase STOPPED, when all workers have ended. */
OBX_NODISCARD enum obx_code io_start(struct io *io, struct obx_err *err);
void io_join(struct io *io);

#endif
