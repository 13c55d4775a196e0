/*
 * The keeper: a thread that owns the database connection and, while it has the lease, the due rows.
 * It hands them to the caller, writes what became of them, obeys pauses, removes what has ended.
 */
#ifndef NOTIFY_KEEPER_H
#define NOTIFY_KEEPER_H

#include "caller.h"
#include "notify_config.h"

struct keeper;

enum keeper_state {
    KEEPER_AWAY, /* no database.                       next: STANDBY, OWNER (lease kept), ENDED */
    KEEPER_STANDBY,  /* another process has the lease.     next: OWNER, AWAY, ENDED */
    KEEPER_OWNER,    /* calls are made by this process.    next: STANDBY (lost), AWAY, DRAINING */
    KEEPER_DRAINING, /* no new calls, results are written. next: ENDED */
    KEEPER_ENDED     /* the thread is over */
};
const char *keeper_state_name(enum keeper_state state);

struct keeper_opts {
    struct config_box *box; /* borrowed like the rest: outlives the keeper */
    struct outlets *outlets;
    struct handover *handover;
    struct caller *caller;
};

struct keeper_view {
    enum keeper_state state;
    uint64_t epoch;
    uint64_t recorded;              /* results written */
    uint64_t commits;               /* in so many transactions */
    char trouble[OBX_ERR_TEXT_MAX]; /* "" when all is well */
};

OBX_NODISCARD enum obx_code keeper_create(const struct keeper_opts *opts, struct keeper **out,
                                          struct obx_err *err);
OBX_NODISCARD enum obx_code keeper_start(struct keeper *keeper, struct obx_err *err);
/** Begin to drain; a second time: end at once. Does not wait: see keeper_state ENDED. Main thread.
 */
void keeper_stop(struct keeper *keeper, uint32_t drain_ms);
/** Stop at once if it runs, wait for the thread, free. NULL is fine. */
void keeper_destroy(struct keeper *keeper);
/** Any thread. */
void keeper_get_view(struct keeper *keeper, struct keeper_view *out);

#endif
