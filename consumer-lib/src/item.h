/*
 * A delivery on its way through the library, and lists of them.
 *
 * An item is made by the I/O thread, handed to one worker through its mailbox, comes back with an
 * outcome and is freed by the I/O thread, the only one that makes and frees items. Whoever holds it
 * may touch it; nobody else does, except that the ack fields belong to the I/O thread always.
 */
#ifndef CONSUMER_ITEM_H
#define CONSUMER_ITEM_H

#include "obx/consumer.h"

#include "bridge/consumer.h"
#include "counters.h"

enum item_outcome {
    ITEM_PENDING,   /* not decided.                          next: any of the others   */
    ITEM_APPLIED,   /* effect and dedup row are committed.   next: acknowledged, freed   */
    ITEM_DUPLICATE, /* dedup row was there already.          next: acknowledged, freed */
    ITEM_FAILED, /* this attempt failed, undone.          next: PENDING after a backoff, or DEAD */
    ITEM_REJECTED, /* will not succeed, undone.             next: DEAD */
    ITEM_BEHIND,   /* skipped: its key waits.               next: PENDING when the key is free   */
    ITEM_DEAD,     /* to be published as a dead letter.     next: SETTLED when confirmed     */
    ITEM_SETTLED,  /* dead letter confirmed; by way of its worker, whose key it frees. next:
                      acknowledged, freed */
    ITEM_DROPPED   /* given up unacknowledged (the broker delivers it again), or done with.  next:
                      freed  */
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

struct item {
    struct item *next; /* in the one list that holds it */
    struct bridge_delivery *delivery;
    struct obx_message msg; /* borrows from delivery and headers */
    uint64_t key_hash;      /* of msg.ordering_key; 0 without one */
    uint64_t arrived_us;
    uint64_t event_us; /* CloudEvents time; 0 without one */
    uint64_t
        due_ms; /* while it waits for the next attempt, or for the next try at its dead letter */
    uint32_t attempts; /* failed ones so far */
    uint32_t stalls;   /* times it had to wait, alone in its transaction, for a lock or the like; no
                          attempts */
    unsigned worker;
    enum item_outcome outcome;
    bool inserted;        /* this run of its batch has written its dedup row */
    bool maybe_committed; /* an earlier run's commit may have happened: an existing dedup row may be
                             that one */
    bool broken;    /* its handler ended the transaction; not called again before this attempt is
                       settled */
    bool alone;     /* a transient error struck here: next time in a transaction of its own */
    bool holds_key; /* followers of its key wait for it: */
    struct item_list followers;
    struct item *key_chain;
    struct obx_err why; /* the reason of FAILED, REJECTED, DEAD */
    struct item_ack ack;
    size_t memory_bytes;
    struct obx_header headers[];
};

/**
 * Make an item of a delivery, which it owns from then on. On OBX_E_NOMEM the delivery stays the
 * caller's. counters gets the level of deliveries and bytes in flight.
 */
OBX_NODISCARD enum obx_code item_create(struct bridge_delivery *delivery, struct counters *counters,
                                        struct item **out);
void item_free(struct item *item, struct counters *counters);
bool item_has_key(const struct item *item);
bool item_same_key(const struct item *a, const struct item *b);
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
