/*
 * One worker: a thread with a database connection that applies the deliveries posted to it and
 * posts them back decided. Between start and join only its mailbox and its trouble are touched by
 * others.
 */
#ifndef CONSUMER_WORKER_H
#define CONSUMER_WORKER_H

#include "api/shared.h"
#include "api/tx.h"
#include "apply/apply.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/thread.h"
#include "io/mailbox.h"
#include "store/store_db.h"

struct worker {
    struct shared *shared; /* borrowed: outlives the worker */
    unsigned index;
    struct mailbox box;
    struct trouble trouble; /* of its database */
    struct thread thread;

    /* The worker thread's own from here on. */
    struct store_db *db;         /* NULL: not connected */
    struct backoff connect_wait; /* between failed connects */
    struct backoff undone_wait;  /* after batches that were undone; reset by a commit */
    uint64_t not_before_ms;      /* neither connect nor apply before this */
    uint64_t used_ms;            /* when the connection was used last */
    uint64_t wary_until_ms;      /* a dedup row was found locked: until then others may be, too */
    uint64_t held_until_ms;      /* an item in ready can be neither applied nor parked before */
    bool is_troubled;            /* what its trouble says */
    uint32_t batch_limit;        /* halved by each undone batch, doubled by each commit */
    uint32_t epoch;              /* of the items it holds */
    struct item_list ready;      /* to be applied, in order */
    struct item **batch;
    struct item_list back; /* decided in this turn, to be posted to the I/O thread */

    /* Its share of the rows of inbox_parked; see worker_parked.c. */
    uint64_t parked_due_ms;      /* when it looks at them */
    uint64_t parked_looked_ms;   /* when it has last */
    bool has_parked;             /* it knows of rows of its own lanes */
    uint64_t orphans_due_ms;     /* when rows that wait behind nothing are looked for */
    struct obx_buf orphans_from; /* after this key */
    uint64_t counted_ms;         /* when all of the group's were counted last */
    size_t rows_held;            /* rows in ready, under our claim */
    size_t letters_out;          /* dead letters that the I/O thread has */
    struct item_list confirmed;  /* dead letters whose rows can go */
};

/** Make the parts of a worker that can fail; no thread, no connection yet. */
OBX_NODISCARD enum obx_code worker_init(struct worker *worker, struct shared *shared,
                                        unsigned index, struct obx_err *err);
/** The thread has ended or was never started. */
void worker_fini(struct worker *worker);
OBX_NODISCARD enum obx_code worker_start(struct worker *worker, struct obx_err *err);
/** Wait for the thread's end. Nothing when it was not started. */
void worker_join(struct worker *worker);

/* ---- worker_settle.c: what becomes of the items of a batch */

/** Whether an item has to stay where it is: for a lock on its own row, or behind one of its key
 * that has been passed over for that. */
bool worker_holds(const struct worker *worker, const struct item_list *passed_over,
                  const struct item *item);
/** File the items of a finished batch: back to the I/O thread, or ready again. */
void worker_settle(struct worker *worker, size_t count, const struct apply_report *report);
/** Take in what the I/O thread has posted, and drop what belongs to a lost broker connection. */
void worker_take_in(struct worker *worker);
/** Give everything back undecided: the end. */
void worker_give_back(struct worker *worker);
/** Post what is decided. */
void worker_post_back(struct worker *worker);

/* ---- worker_parked.c: the rows of inbox_parked */

/** Whether there is something to do about them now. The worker is connected. */
bool worker_parked_is_due(const struct worker *worker);
/** Do it: on failure the worker's connection is closed or the next look put off. */
void worker_parked_turn(struct worker *worker);
/** After a batch: rows were written, or are there. */
void worker_parked_note(struct worker *worker, const struct apply_report *report);
/** When there will be something to do, at the latest. */
uint64_t worker_parked_due_ms(const struct worker *worker);
/** Forget claims on rows that have not been tried; the end. */
void worker_parked_give_back(struct worker *worker, const struct item_list *items);

/* ---- worker.c, for the other two */

void worker_disconnect(struct worker *worker);
/** err NULL: its database works again. */
void worker_set_trouble(struct worker *worker, const struct obx_err *err);

#endif
