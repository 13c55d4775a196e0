/*
 * A message on its way through the library, and lists of them.
 *
 * An item is made of a delivery by the I/O thread, or of a due row of inbox_parked by the worker that
 * has claimed it. It belongs to one worker, comes back to the I/O thread in one of the final states,
 * and is freed there. The thread that holds it may touch it; nobody else does, except that the ack
 * fields belong to the I/O thread always.
 *
 * What has become of it is its state, and nothing else says so; item_set is the only way from one
 * state to another, and aborts on an edge that the table in item.c does not have. How it is to be
 * tried next is its plan, which outlives a batch that is undone. Proved by tests/unit/consumer_item_test.c.
 */
#ifndef CONSUMER_ITEM_H
#define CONSUMER_ITEM_H

#include "obx/consumer.h"

#include "bridge/consumer.h"
#include "core/counters.h"

enum item_state {
    ITEM_READY, /* to be tried as its plan says.            next: any decision, DROPPED, LETTER */

    /* Decisions: made in a batch that has not committed.   next: the final state that is named, or
     * READY when the batch is undone. */
    ITEM_APPLIED,      /* its effect and its dedup row are written.              next: DONE */
    ITEM_DUPLICATE,    /* there was a dedup row.                                 next: DONE */
    ITEM_WAS_REJECTED, /* there was one, of a message rejected or discarded for good; for why.
                                                                                 next: DEAD */
    ITEM_FAILED,       /* the attempt is undone, another will follow.            next: PARKED */
    ITEM_EXHAUSTED,    /* the last attempt is undone.                            next: DEAD */
    ITEM_REJECTED,     /* will never succeed.                                    next: DEAD */
    ITEM_BLOCKED,      /* not tried: its key waits.                              next: PARKED */
    ITEM_SUSPECT,      /* not tried: it may have killed a process; its attempts are to be counted
                          one by one, out of the table.                          next: PARKED */
    ITEM_STALLED,      /* something that is not its fault is in the way (a lock, an outage): no
                          attempt is charged.                                    next: PARKED */
    ITEM_HELD,         /* so is another transaction that has written its dedup row and has not
                          ended.                                                 next: PARKED */
    ITEM_HAS_ROW,      /* a delivery of which there is a row.                    next: PARKED */
    ITEM_LEFT,         /* not ours to settle: its row is another process's, or no row takes it.
                                                                                 next: DROPPED */

    /* Final: what the I/O thread gets back. */
    ITEM_DONE,    /* its effect is committed.               acknowledged, "applied" is reported */
    ITEM_DEAD,    /* will not be applied, for why.          acknowledged, "rejected" is reported */
    ITEM_PARKED,  /* its row waits.                         acknowledged */
    ITEM_DROPPED, /* forgotten: the broker, or its row, has it */

    /* A dead row on its way into the dead-letter queue. */
    ITEM_LETTER,   /* to be published.                      next: CONFIRMED, DROPPED */
    ITEM_CONFIRMED /* by way of its worker, who removes the row. next: DROPPED */
};
enum { ITEM_STATES = ITEM_CONFIRMED + 1 };

enum item_plan {
    PLAN_TOGETHER, /* in a batch with others */
    PLAN_ALONE,    /* in a transaction of its own: something went wrong where it was */
    PLAN_LEARN,    /* alone; its handler has ended the transaction and is not called again for this
                      attempt: the dedup row tells what became of it */
    PLAN_RETRACT,  /* the same, but it has not applied it: a dedup row of its own is removed */
    PLAN_GIVE_UP,  /* alone; its handler is not called: the attempt has failed, for why */
    PLAN_STALL     /* the same, and was none */
};

/* The dedup row of an item, as far as this process has written it. */
enum item_dedup {
    DEDUP_NONE,
    DEDUP_LATER,   /* its handler has run; written with the others' before the COMMIT */
    DEDUP_WRITTEN, /* in the transaction that is open */
    DEDUP_IN_DOUBT /* in one of unknown fate: a row that is found may be that one */
};

/* What the lookup before a batch has found out about an item; see parked_lookup. */
enum item_found {
    FOUND_NOTHING,
    FOUND_GROUPED,   /* no dedup row, as far as others have committed; see apply/dedup.c */
    FOUND_DUPLICATE, /* a dedup row */
    FOUND_BLOCKED,   /* an earlier row of its key waits */
    FOUND_APPLIED,   /* that, and a dedup row */
    FOUND_REJECTED,  /* its producer has been answered "rejected", for why */
    FOUND_ROW,       /* a delivery of which there is a row */
    FOUND_LOST       /* a row that is not ours any more */
};

/* Where the I/O thread's ack tracker has a delivery. */
enum item_ack_state { ACK_UNLINKED, ACK_OPEN, ACK_DONE };
struct item_ack {
    struct item *prev;
    struct item *next;
    enum item_ack_state state;
};

/* A singly linked list with its end, by value. Zero-initialise. */
struct item_list {
    struct item *head;
    struct item *tail;
    size_t count;
};

enum { ITEM_TIME_MAX = 32 };

struct item {
    struct item *next; /* in the one list that holds it */
    struct bridge_delivery *delivery;
    struct obx_message msg; /* borrows from delivery */
    enum item_state state;
    enum item_plan plan;
    enum item_dedup dedup;
    enum item_found found;
    enum obx_verdict answer; /* of the present call of a batch handler, when it is about this one */
    struct obx_err why;      /* the reason of a state or a plan that has one, or of the answer */

    uint32_t lane; /* a hash of the ordering key, or of the id without one; the same everywhere */
    unsigned worker;
    uint64_t arrived_us;
    uint64_t event_us;      /* CloudEvents time; 0 without one */
    uint64_t hold_until_ms; /* it can be neither applied nor parked before */
    bool wants_receipt;     /* its producer waits to hear of the outcome */
    bool is_stored;         /* for others to apply, who report it; see core/embed.h */

    /* Of a row of inbox_parked; parked_id is 0 for a delivery. */
    uint64_t parked_id;
    uint64_t claim;                      /* under which this process has counted the attempt */
    uint32_t attempts;                   /* those counted, the present one included */
    uint32_t pieces;                     /* rows of inbox_parked_piece that have its body */
    bool is_forced;                      /* replayed although its producer knows it as rejected */
    char first_failed_at[ITEM_TIME_MAX]; /* UTC, by the database's clock; for a dead letter */
    char last_failed_at[ITEM_TIME_MAX];

    struct item_ack ack;
    /* Packs, which are the I/O thread's affair as well; see io/packs.h. */
    struct item *pack;      /* the one that it came in; NULL: it came alone */
    uint32_t messages;      /* of an item that stands for a pack: how many it had; 0: it is none */
    uint32_t messages_left; /* of these, not dealt with */
    bool is_incomplete;     /* some of these were dropped */
    bool has_receipt_place; /* of a pack: one of its receipts waits in a place of the window */
    bool is_receipt_place;  /* it is this one that takes the place */
    bool is_bad_pack;       /* a pack that cannot be taken apart: no message for a handler, ever */

    size_t memory_bytes;
};

/**
 * Make an item of a delivery, which it owns from then on. On OBX_E_NOMEM the delivery stays the
 * caller's. counters gets the level of messages and bytes in flight. Any thread.
 */
OBX_NODISCARD enum obx_code item_create(struct bridge_delivery *delivery, struct counters *counters,
                                        struct item **out);
void item_free(struct item *item, struct counters *counters);

/** Go to another state; aborts where no edge leads there. */
void item_set(struct item *item, enum item_state state);
bool item_may_become(enum item_state from, enum item_state to);
const char *item_state_name(enum item_state state);
/** The final state that a decision comes to when its batch has committed. */
enum item_state item_final(enum item_state decision);
/** Say why, for a state or a plan; the text is cut to fit. */
void item_reason(struct item *item, enum obx_code code, const char *text);

bool item_has_key(const struct item *item);
bool item_same_key(const struct item *a, const struct item *b);
/** Whether it has an id that a dedup row can be written for. */
bool item_has_id(const struct item *item);
/** The attempt that this is, or would be: 1 for the first. */
uint32_t item_attempt(const struct item *item);
/** Whether its message asks this group for a receipt, in a way that can be answered. */
bool item_asks_receipt(const struct item *item, const char *group);
/** The queue that it names for that. */
struct obx_bytes item_receipt_queue(const struct item *item);
struct obx_bytes item_receipt_token(const struct item *item);
/** Whether a dead item may be reported as rejected: not when it is only too old to tell whether it
 * was applied, for its producer would make up for what may have happened. */
bool item_may_report_rejected(const struct item *item);

void item_list_push(struct item_list *list, struct item *item);
/** The first one, taken out; NULL when empty. */
struct item *item_list_pop(struct item_list *list);
/** Move all of from to the end, or the beginning, of to. from is empty afterwards. */
void item_list_append(struct item_list *to, struct item_list *from);
void item_list_prepend(struct item_list *to, struct item_list *from);

#endif
