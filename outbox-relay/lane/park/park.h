/*
 * Parking rows that were given up, and what is parked after them because their key is frozen.
 *
 * Invariant: a head goes before its followers, or in the same transaction: a follower that is
 * parked while its head is not would wait for a row that nobody resumes. Used by the lane thread.
 * Proved by tests/unit/lane_sim_test.c and tests/system/lane_park_test.c, lane_refused_test.c,
 * lane_lock_test.c.
 */
#ifndef LANE_PARK_H
#define LANE_PARK_H

#include "lane/conditions.h"
#include "lane/flight/flight.h"
#include "lane/lane.h"
#include "parking.h"
#include "tables/row_locks.h"

/** What it stands on; all borrowed, and outlive it. */
struct park_parts {
    const struct lane_opts *opts;
    struct flight *flight;
    struct parking *parking;
    struct row_locks *locks;
    struct lane_conditions *conditions;
};

struct park {
    const struct lane_opts *opts; /* this and the next ones: as in park_parts */
    struct flight *flight;
    struct parking *parking;
    struct row_locks *locks;
    struct lane_conditions *conditions;
    struct db *db;     /* of the call that runs */
    uint64_t after_ms; /* not before, after a failure */
    uint64_t
        shown_until_ms; /* of CONDITION_PARK, while nothing is to be parked; UINT64_MAX: none */
    uint32_t failures;  /* one after the other, for which no row was to blame */
    size_t portion;     /* rows in one transaction: halved by a failure */
    uint64_t parked;    /* rows */
};

void park_init(struct park *park, const struct park_parts *parts);
/** Nothing is in memory any more. */
void park_reset(struct park *park);
/** UINT64_MAX: there is nothing to do. */
uint64_t park_due_ms(const struct park *park);
/** Park rows that were given up, one batch. What the tables refuse is dealt with and no failure;
 * OBX_E_LEASE_LOST, or the connection is of no more use. */
OBX_NODISCARD enum obx_code park_run(struct park *park, struct db *db, struct obx_err *err);

#endif
