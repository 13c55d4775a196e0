/*
 * Settling: confirmed rows are deleted, or moved to outbox_awaiting.
 *
 * Invariant: a row is deleted only after its confirm, or in the transaction that copies it, and
 * under the lease. Used by the lane thread. Proved by tests/unit/lane_sim_test.c and
 * tests/system/lane_refused_test.c, lane_lock_test.c, lane_drain_test.c.
 */
#ifndef LANE_SETTLE_H
#define LANE_SETTLE_H

#include "lane/conditions.h"
#include "lane/flight/flight.h"
#include "lane/lane.h"
#include "lane/park/parking.h"
#include "outbox/awaiting.h"
#include "outbox/journal.h"
#include "tables/lease.h"
#include "tables/row_delete.h"
#include "tables/row_locks.h"

/** Confirmed rows are settled by kind: deleted, or moved to outbox_awaiting. */
enum settle_kind { SETTLE_PLAIN, SETTLE_ASKING, SETTLE_KINDS };

/** A kind's confirmed rows, and how its transactions went. */
struct settle_queue {
    size_t waiting;         /* rows to be settled together */
    size_t held;            /* rows that were refused or locked: tried alone, each at its time */
    size_t portion;         /* rows in one transaction: halved by a failure, doubled by a success */
    uint64_t first_ms;      /* since when the oldest of `waiting` waits; UINT64_MAX: none */
    uint64_t held_due_ms;   /* not later than the first of `held` is due; UINT64_MAX: none */
    uint64_t after_ms;      /* not before, after a failure */
    uint64_t successes;     /* transactions that committed */
    bool was_held;          /* the last one tried was one of `held` */
    uint32_t failures;      /* since the last of them, for which no row was to blame */
    unsigned alone_refused; /* rows refused one by one since then */
    unsigned
        alone_waited; /* rows tried one by one since then, and something locked that is not they */
};

/** What it stands on; all borrowed, and outlive it. */
struct settle_parts {
    const struct lane_opts *opts;
    const char *table; /* the outbox, quoted */
    struct flight *flight;
    struct lease *lease;
    struct parking *parking; /* where a row goes that cannot be settled */
    struct awaiting *awaiting;
    struct journal *journal; /* NULL: none is kept */
    struct row_locks *locks;
    struct lane_conditions *conditions;
};

struct settle {
    const struct lane_opts *opts; /* this and the next ones: as in settle_parts */
    struct flight *flight;
    struct lease *lease;
    struct parking *parking;
    struct awaiting *awaiting;
    struct journal *journal;
    struct row_locks *locks;
    struct lane_conditions *conditions;
    struct db *db; /* of the call that runs */
    struct row_delete del;
    struct settle_queue queues[SETTLE_KINDS];
    bool is_last_call;        /* see settle_last_call */
    uint64_t settled, parked; /* rows */
};

/** OBX_E_NOMEM; settle_fini is needed all the same. */
OBX_NODISCARD enum obx_code settle_init(struct settle *settle, const struct settle_parts *parts,
                                        struct obx_err *err);
void settle_fini(struct settle *settle);
/** Nothing is in memory any more. */
void settle_reset(struct settle *settle);
/** The row was confirmed. */
void settle_add(struct settle *settle, const struct flight_row *row, uint64_t now_ms);
/** The lane drains: nothing waits for more to come, nor long after a failure. What is confirmed and
 * not settled is published again by the next owner. */
void settle_last_call(struct settle *settle);
/** When there is something to settle, as things stand; UINT64_MAX when nothing is confirmed. */
uint64_t settle_due_ms(const struct settle *settle);
/** Nothing is confirmed but what waits by itself. */
bool settle_is_done(const struct settle *settle);
/** Too many rows of the kind are confirmed and not settled: none is published until some are gone.
 */
bool settle_is_full(const struct settle *settle, enum settle_kind kind);
/** Settle one portion of each kind. What the tables refuse is dealt with and no failure;
 * OBX_E_LEASE_LOST, or the connection is of no more use. */
OBX_NODISCARD enum obx_code settle_run(struct settle *settle, struct db *db, struct obx_err *err);

#endif
