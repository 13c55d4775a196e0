/*
 * One worker: a thread with a database connection that applies the deliveries posted to it and
 * posts them back decided. Between start and join only its mailbox and the last error of its link
 * are touched by others.
 */
#ifndef CONSUMER_WORKER_H
#define CONSUMER_WORKER_H

#include "base/backoff.h"
#include "base/thread.h"
#include "core/shared.h"
#include "worker/circuit.h"
#include "worker/parked.h"
#include "worker/worker_link.h"

struct worker {
    struct shared *shared; /* borrowed: outlives the worker */
    unsigned index;
    struct mailbox box;
    struct thread thread;

    /* The worker thread's own from here on. */
    struct worker_link link;
    struct parked parked;   /* its share of inbox_parked */
    struct item_list ready; /* to be applied, in order */
    struct item_list back;  /* final in this turn, to be posted to the I/O thread */
    struct item **batch;    /* room for settings.batch_max; and for those that one call of a batch
                                   handler gets */
    struct item **called;
    const struct obx_message **messages;
    uint32_t batch_limit;       /* halved by each undone batch, doubled by each commit */
    uint32_t epoch;             /* of the broker connection, of the deliveries it holds */
    struct circuit circuit;     /* whether it pauses, since all fails */
    struct obx_err outage;      /* why */
    struct backoff undone_wait; /* after batches that were undone; reset by a commit */
    uint64_t not_before_ms;     /* neither connect nor apply before this */
    bool is_single;             /* a handler has ended a transaction, and will again: dedup rows are
                                   written before each handler from then on */
    uint64_t wary_until_ms;     /* a dedup row was found locked: until then others may be, too */
    uint64_t held_until_ms;     /* an item in ready can be neither applied nor parked before */
};

/** Make the parts of a worker that can fail; no thread, no connection yet. */
OBX_NODISCARD enum obx_code worker_init(struct worker *worker, struct shared *shared,
                                        unsigned index, store_open_fn *open, struct obx_err *err);
/** The thread has ended or was never started. */
void worker_fini(struct worker *worker);
OBX_NODISCARD enum obx_code worker_start(struct worker *worker, struct obx_err *err);
/** Wait for the thread's end. Nothing when it was not started. */
void worker_join(struct worker *worker);

/* ---- what the thread runs, for it and for tests without one */

/** Do at most one thing that takes time, or sleep until there is something; false: the end has come,
 * worker_end is next. */
bool worker_turn(struct worker *worker);
/** Give everything back undecided, close the connection. */
void worker_end(struct worker *worker);

#endif
