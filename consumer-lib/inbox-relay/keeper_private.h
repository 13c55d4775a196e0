/* What the files of the keeper share. */
#ifndef NOTIFY_KEEPER_PRIVATE_H
#define NOTIFY_KEEPER_PRIVATE_H

#include "base/backoff.h"
#include "base/thread.h"
#include "keeper.h"
#include "ledger.h"

struct keeper {
    struct keeper_opts opts;
    struct ledger ledger;
    char group[NOTIFY_NAME_MAX + 1];
    char owner[128], address[256]; /* as the lease shows them */
    struct backoff backoff;
    uint64_t connect_due_ms, acquire_due_ms, pauses_due_ms, housekeeping_due_ms;
    uint64_t look_due_ms;     /* the next look for due rows; UINT64_MAX: when a job comes back */
    uint64_t pause_until_ms;  /* after a failure that passes */
    struct job_list finished; /* back from the caller, to be recorded */
    size_t held_count;        /* jobs that exist, wherever they are */
    uint64_t held_bytes;      /* of their bodies */
    bool is_draining, is_cut_off, is_recalled;

    struct thread thread;
    atomic_bool is_stopping;
    atomic_uint_fast64_t drain_until_ms;
    pthread_mutex_t lock; /* of the view, which the keeper writes and others read */
    struct keeper_view view;
};

/** After a failed statement: say it, and do what its code asks for. */
void keeper_failed(struct keeper *keeper, const struct obx_err *err);
/** NULL: all is well. */
void keeper_set_trouble(struct keeper *keeper, const struct obx_err *err);

/* ---- keeper_rows.c ---- */

/** Of the finished jobs, let those go that have nothing to record: not called, or of an epoch that
 * is over. */
void keeper_sort_out(struct keeper *keeper);
/** Write the results of the finished jobs, a batch, and let them go. */
void keeper_record(struct keeper *keeper);
void keeper_read_pauses(struct keeper *keeper, struct notify_config *config);
void keeper_read_due(struct keeper *keeper, struct notify_config *config);
/** Counts for the metrics, removal of what is over, rows of endpoints that cannot be reached. */
void keeper_housekeeping(struct keeper *keeper, struct notify_config *config);
/** How long the keeper may wait for something to come back. */
uint32_t keeper_wait_ms(const struct keeper *keeper, uint32_t max_ms);

#endif
