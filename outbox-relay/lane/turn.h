/*
 * A lane's turns: the state machine of ownership, and for an owner a table of jobs, each with the
 * time at which it is due.
 *
 * Belongs to the lane's thread; struct turn_signals is the only thing that others touch. Used by
 * lane.c, which gives it a thread, and by the simulator, which gives it a world.
 */
#ifndef LANE_TURN_H
#define LANE_TURN_H

#include <stdatomic.h>

#include "base/backoff.h"
#include "parts.h"

/** What other threads want; they only ever set these. */
struct turn_signals {
    _Atomic bool rung, drain_wanted, stop_wanted, gate_open;
    _Atomic bool is_elsewhere; /* another relay is to have the lane */
};

struct turn {
    const struct lane_opts *opts; /* borrowed; defaults filled in */
    struct turn_signals *signals; /* borrowed */
    struct lane_parts parts;
    enum lane_state state;
    struct db *db; /* NULL: not connected */
    struct backoff db_backoff;
    uint64_t db_due_ms;      /* next try to connect */
    uint64_t lease_due_ms;   /* standby: next try to take it */
    uint64_t looked_ms;      /* standby: when it tried last */
    uint64_t owner_since_ms; /* when it was taken */
    uint64_t drain_until_ms;
    uint64_t poll_due_us;
    uint64_t last_row_us;     /* when a poll brought something last */
    uint64_t past_statements; /* of connections that were closed */
    uint64_t lease_acquired, lease_lost, db_connects;
};

/** turn is zero. On failure turn_fini is needed all the same. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code turn_init(struct turn *turn, const struct lane_outside *outside,
                                      struct turn_signals *signals, struct obx_err *err);
void turn_fini(struct turn *turn);
/** Everything that is due, without waiting. */
void turn_run(struct turn *turn);
/** Milliseconds until something is due; 0: at once. */
int turn_wait_ms(const struct turn *turn);
/** The broker's socket, whose answers are to wake the thread; -1: none. */
int turn_fd(const struct turn *turn);
/** Drop everything in memory and let the connections go; the thread ends. */
void turn_end(struct turn *turn);
/** The numbers as they are now. Counts of rows are those of the last count. */
void turn_get_stats(struct turn *turn, struct lane_stats *out);

#endif
