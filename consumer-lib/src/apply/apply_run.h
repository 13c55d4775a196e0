/*
 * One run of a batch from inside: shared by apply.c, which goes through the messages, apply_park.c,
 * which writes the rows of those that were not applied, and apply_end.c, which ends the transaction
 * in one of the ways there are.
 */
#ifndef CONSUMER_APPLY_RUN_H
#define CONSUMER_APPLY_RUN_H

#include "apply.h"

struct run {
    const struct apply *apply;
    struct item **items;
    size_t count;
    size_t at;
    size_t reached; /* the highest at so far: below it messages may be running again */
    size_t chunk_start;
    size_t chunk_end;
    size_t undone;        /* times a chunk was undone for one of its messages */
    size_t failures;      /* messages so far that hold up others of their key */
    bool is_wary;         /* a dedup row was found locked: no insert waits unasked any more */
    struct item *culprit; /* whose handler ended the transaction; NULL: not known */
    uint64_t until_us;    /* 0: no limit */
    struct apply_report *report;
};

/** Write, change or remove the rows in inbox_parked that the outcomes ask for. Anything but OBX_OK:
 * the transaction has to be undone. */
OBX_NODISCARD enum obx_code run_park(struct run *run);
/** Whether a message that waits or is dead holds up those of its key behind it. */
bool run_holds_key(const struct run *run, const struct item *item);
/** Whether the producer of a dead message hears of it, and acts on that: then it has ended, and
 * holds up nobody. */
bool run_is_reported(const struct run *run, const struct item *item);
/** The attempt that this is, or would be, of an item: 1 for the first. */
uint32_t run_attempt(const struct item *item);
/** All went well so far: release the savepoint, which shows whether it is still the same
 * transaction, and commit. */
void run_commit(struct run *run);
/** Undo everything; report->err says why. Where the undoing is not certain, the connection is given
 * up. */
void run_abort(struct run *run);
/** A handler has ended the transaction (run->culprit, when it is known): undo the rest, let a new
 * session tell what was committed. */
void run_break(struct run *run);
/** Back to PENDING, all of them. */
void run_forget_outcomes(struct run *run);

#endif
