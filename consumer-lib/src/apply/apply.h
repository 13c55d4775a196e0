/*
 * Applying a batch of messages in one transaction: the heart of the exactly-once promise. No thread
 * and no socket in here: the database is behind struct store, the handler behind a function
 * pointer.
 */
#ifndef CONSUMER_APPLY_H
#define CONSUMER_APPLY_H

#include "obx/consumer.h"

#include "core/counters.h"
#include "core/item.h"
#include "store/store.h"

#define APPLY_NEVER UINT64_MAX

/* What comes of a call of the handler. */
struct apply_answer {
    enum obx_verdict verdict;
    bool is_for_each;      /* of several messages, those that are not applied have item->answer; the
                         verdict is for none of them */
    struct obx_err failed; /* not OBX_OK: the transaction has to be undone */
    bool is_uncertain;     /* whether there is one is to be asked */
    bool has_ended_tx;     /* one of its statements was seen to end the transaction */
    char reason[OBX_ERR_TEXT_MAX];
};

/** Call the handler for one message. The seam lets the worker make the obx_tx, and a test script
 * the handler. answer is all zero before. */
struct apply_handler {
    void (*call)(void *ctx, struct item *item, struct apply_answer *answer);
    /* Not NULL: for several at once, in place of call. */
    void (*call_many)(void *ctx, struct item **items, size_t count, struct apply_answer *answer);
    void *ctx;
};

/* What becomes of a message that fails. */
struct apply_policy {
    uint32_t max_attempts;
    uint32_t retry_min_ms;
    uint32_t retry_cap_ms;
    bool skips_dead;     /* a dead message does not hold up its key */
    bool sends_letters;  /* a dead message goes on into the dead-letter queue */
    bool keeps_attempts; /* in an outage: what asks for a retry waits without an attempt */
};

struct apply {
    struct store store;
    struct apply_handler handler;
    struct item **room; /* for call_many: as many as a batch has */
    struct counters *counters;
    uint32_t
        chunk; /* messages between two savepoints at most: what a failing one makes run again */
    uint32_t max_ms;    /* commit what there is after this long; 0: no limit */
    uint64_t refuse_us; /* event times before this wall clock time are refused; 0: none */
    bool is_single;     /* a handler has ended a transaction: each row before its handler */
    bool is_wary;       /* a dedup row was found locked not long ago: no insert waits unasked */
    const char *group;  /* for the log */
    struct apply_policy policy;
};

enum apply_end {
    APPLY_COMMITTED, /* decisions are final; items not reached are READY */
    APPLY_AGAIN,     /* all undone, all READY; the connection is sound: again after a short wait */
    APPLY_RECONNECT, /* all READY, undone or of unknown fate: again over a new connection, which
                        will tell */
    APPLY_RENEW      /* as COMMITTED, but the session is not to be trusted: open a new connection */
};

struct apply_report {
    enum apply_end end;
    struct obx_err err;   /* why not COMMITTED */
    struct item *suspect; /* the last one whose handler ran before it went wrong, or what waited for
                             a lock without one, or was alone when the end of the batch failed; NULL: none */
    uint64_t due_in_ms;   /* the earliest of the rows written is due then; UINT64_MAX: none */
    bool has_rows;        /* the group has, or had, rows in inbox_parked */
    bool met_lock;        /* another transaction holds a dedup row of a message of this batch */
    bool is_broken;       /* a handler has ended its transaction */
    bool at_end;          /* it went wrong when all handlers had run: no attempt of theirs failed */
    bool is_unparkable; /* inbox_parked does not take the row of the suspect, for now or for ever */
};

/**
 * Run a batch: begin, for each message the dedup insert and the handler, the rows of those that
 * were not applied, commit.
 *
 * On COMMITTED and RENEW each item is decided, or READY since it was not reached for lack of time. A
 * failing message costs the others of its chunk a second run and nothing else. What is FAILED,
 * EXHAUSTED, REJECTED, BLOCKED, SUSPECT, STALLED or HELD has its row in inbox_parked. Nothing is
 * acknowledged or freed here. Items are READY before, and stay the caller's.
 */
void apply_batch(const struct apply *apply, struct item **items, size_t count,
                 struct apply_report *report);

#endif
