/*
 * One run of a batch from inside: what apply.c, which goes through the messages, end.c, which ends
 * the transaction in one of the ways there are, and park.c, which writes the rows of those that were
 * not applied, have in common. apply.c calls the others, end.c calls park.c and dedup.c.
 */
#ifndef CONSUMER_APPLY_RUN_H
#define CONSUMER_APPLY_RUN_H

#include "apply/apply.h"

struct run {
    const struct apply *apply;
    struct item **items;
    size_t count;
    size_t at;
    size_t reached; /* the highest at so far: below it messages may be running again */
    size_t chunk_start;
    size_t chunk_end;
    size_t undone;     /* times a chunk was undone for one of its messages */
    size_t failures;   /* messages so far that were not applied, or hold up others of their key */
    bool is_wary;      /* a dedup row was found locked: no insert waits unasked any more */
    bool is_grouped;   /* dedup rows are written together, where they can be; see dedup.c */
    bool wants_single; /* undone: somebody else has one of them, so run it again one by one */
    struct item *mark; /* whose dedup row was written first in this chunk; NULL: none was */
    size_t pending;    /* messages in apply->room, whose handler is to be called for all of them */
    size_t limit;      /* at most so many; halved by a call that failed for nobody in particular */
    size_t ended_at;   /* a handler that was called for the last of the first so many messages has
                             ended the transaction; 0: not known when */
    struct item *culprit; /* whose handler ended the transaction; NULL: not known */
    struct item
        *unapplied;    /* in a call that ended the transaction or in a later one, and not applied
                               by it, with a row that may be committed; NULL: none */
    uint64_t until_us; /* 0: no limit */
    struct apply_report *report;
};

/* ---- dedup.c */

/** Choose what is grouped, and ask which of that has been applied. */
OBX_NODISCARD enum obx_code run_find_applied(struct run *run);
/** Whether its handler runs before its dedup row is written. */
bool run_is_grouped(const struct run *run, const struct item *item);
/** Settle, before rows in inbox_parked are written, what is to wait there and has been applied: its
 * dedup row may be gone when its key goes on. */
OBX_NODISCARD enum obx_code run_find_copies(struct run *run);
/** Write the rows of those whose handlers have run. As store_ops.insert_many. */
OBX_NODISCARD enum obx_code run_write_rows(struct run *run);
/** The same one by one, of the first count items, for what is committed already: a row that is there
 * is as good. */
OBX_NODISCARD enum obx_code run_write_each(struct run *run, size_t count);

/* ---- park.c */

/** Whether a message that was not applied, or not yet, holds up those of its key after it. */
bool run_holds_key(const struct run *run, const struct item *item);
/** Whether the producer of a dead message hears of it, and acts on that: then it has ended, and
 * holds up nobody. */
bool run_is_reported(const struct run *run, const struct item *item);
/** Write, change or remove the rows in inbox_parked that the decisions ask for. Anything but OBX_OK:
 * the transaction has to be undone. */
OBX_NODISCARD enum obx_code run_park(struct run *run);

/* ---- end.c */

/** All went well so far: release the savepoint, which shows whether it is still the same
 * transaction, and commit. */
void run_commit(struct run *run);
/** Undo everything; report->err says why. Where the undoing is not certain, the connection is given
 * up. */
void run_abort(struct run *run);
/** A handler has ended the transaction (run->culprit, when it is known): undo the rest, let a new
 * session tell what was committed. */
void run_break(struct run *run);

#endif
