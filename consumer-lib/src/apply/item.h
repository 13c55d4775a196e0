/*
 * A message on its way through the library, and lists of them.
 *
 * An item is made of a delivery by the I/O thread, or of a due row of inbox_parked by the worker that
 * has claimed it. It belongs to one worker, comes back to the I/O thread with an outcome that is
 * committed, and is freed there. Whoever holds it may touch it; nobody else does, except that the
 * ack fields belong to the I/O thread always.
 */
#ifndef CONSUMER_ITEM_H
#define CONSUMER_ITEM_H

#include "obx/consumer.h"

#include "api/counters.h"
#include "bridge/consumer.h"

enum item_outcome {
    ITEM_PENDING, /* not decided.                           next: any of the others */

    /* Decided in a batch that is not committed yet.        next: PARKED or DEAD, or PENDING again
     */
    ITEM_FAILED,   /* this attempt failed, undone */
    ITEM_REJECTED, /* will not succeed, undone */
    ITEM_BEHIND,   /* not tried: its key waits */
    ITEM_CAREFUL, /* not tried: it may have killed a process; to be tried out of the table, alone */
    ITEM_STALLED, /* tried alone, and something that is not its fault was in the way: no attempt */

    /* Committed: what the I/O thread gets back. */
    ITEM_APPLIED,   /* effect and dedup row.                next: acknowledged, freed */
    ITEM_DUPLICATE, /* the dedup row was there already; was_rejected tells with which outcome.
                       next: acknowledged, freed */
    ITEM_PARKED,    /* it has a row that waits.             next: acknowledged, freed */
    ITEM_DEAD,      /* it has a row that is dead, for why.  next: acknowledged, freed */
    ITEM_LETTER,  /* a dead row, to be published in the dead-letter queue. next: SETTLED, DROPPED */
    ITEM_SETTLED, /* that is confirmed; by way of its worker, who removes the row. next: DROPPED */
    ITEM_DROPPED  /* given up unacknowledged (the broker delivers it again, or the row is there),
                     or done with.                        next: freed */
};

/* A singly linked list with its end, by value. Zero-initialise. */
struct item_list {
    struct item *head;
    struct item *tail;
    size_t count;
};

/* Where the I/O thread's ack tracker keeps a delivery. Linked while it is neither acked nor
 * forgotten. */
struct item_ack {
    struct item *prev;
    struct item *next;
    bool linked;
    bool done;
};

enum { ITEM_TIME_MAX = 32 };

/* What a batch has found out about an item before it begins; see parked_survey. */
struct item_survey {
    bool is_parked;   /* a delivery of which there is a row */
    bool is_blocked;  /* an earlier row of its key waits */
    bool was_decided; /* a blocked delivery that has a dedup row */
    bool is_lost;     /* a row that is not ours any more */
};

struct item {
    struct item *next; /* in the one list that holds it */
    struct bridge_delivery *delivery;
    struct obx_message msg; /* borrows from delivery */
    uint32_t
        lane; /* a hash of the ordering key, or of the id without one; the same in every process */
    uint64_t arrived_us;
    uint64_t event_us; /* CloudEvents time; 0 without one */
    uint64_t due_ms;   /* of a dead letter: the next try */
    unsigned worker;
    enum item_outcome outcome;

    /* Of a row of inbox_parked; parked_id is 0 for a delivery. */
    uint64_t parked_id;
    uint32_t pieces;                     /* rows of inbox_parked_piece that have its body */
    uint64_t claim;                      /* under which this process has counted the attempt */
    bool is_forced;                      /* replayed although its producer knows it as rejected */
    char first_failed_at[ITEM_TIME_MAX]; /* UTC, by the database's clock; for a dead letter */
    char last_failed_at[ITEM_TIME_MAX];

    uint32_t attempts;    /* those counted, the present one of a row included */
    uint32_t stalls;      /* tries at a dead letter */
    bool inserted;        /* this run of its batch has written its dedup row */
    bool maybe_committed; /* an earlier run's commit may have happened: an existing dedup row may be
                             that one */
    bool broken;   /* its handler ended the transaction; not called again before this attempt is
                      settled */
    bool alone;    /* a transient error struck here: next time in a transaction of its own */
    bool gives_up; /* it struck again: park it, without calling the handler, for why */
    bool is_stall; /* and that was no attempt */
    bool is_held;  /* STALLED: another transaction has written its dedup row and has not ended */
    uint64_t hold_until_ms; /* it can be neither applied nor parked for now; 0: it can */
    bool is_dead;           /* FAILED or REJECTED: there will be no further attempt by itself */
    bool wants_receipt;     /* its producer waits to hear of the outcome */
    bool was_rejected; /* DUPLICATE: of a message that this group has rejected for good, for why */
    struct item_survey survey;
    struct obx_err why; /* the reason of FAILED, REJECTED, STALLED, DEAD */
    struct item_ack ack;
    size_t memory_bytes;
};

/**
 * Make an item of a delivery, which it owns from then on. On OBX_E_NOMEM the delivery stays the
 * caller's. counters gets the level of messages and bytes in flight. Any thread.
 */
OBX_NODISCARD enum obx_code item_create(struct bridge_delivery *delivery, struct counters *counters,
                                        struct item **out);
void item_free(struct item *item, struct counters *counters);
bool item_has_key(const struct item *item);
bool item_same_key(const struct item *a, const struct item *b);
/** Whether it has an id that a dedup row can be written for. */
bool item_has_id(const struct item *item);
/** Decide an item: outcome and reason; the text is cut to fit. */
void item_decide(struct item *item, enum item_outcome outcome, enum obx_code code,
                 const char *text);

void item_list_push(struct item_list *list, struct item *item);
void item_list_push_front(struct item_list *list, struct item *item);
/** The first one, taken out; NULL when empty. */
struct item *item_list_pop(struct item_list *list);
/** Move all of from behind, or before, what to has. from is empty afterwards. */
void item_list_append(struct item_list *to, struct item_list *from);
void item_list_prepend(struct item_list *to, struct item_list *from);

#endif
