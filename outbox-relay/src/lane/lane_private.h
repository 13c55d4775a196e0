/*
 * What the files of the lane share: lane.c (thread and calls from outside), lane_turn.c (states and
 * timers), lane_publish.c (bursts and outcomes), lane_settle.c (settling and parking). Nobody else
 * includes it. Everything below `thread` in struct lane belongs to the lane's own thread.
 */
#ifndef RELAY_LANE_PRIVATE_H
#define RELAY_LANE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "awaiting.h"
#include "base/backoff.h"
#include "base/log.h"
#include "delayed.h"
#include "envelope.h"
#include "faults.h"
#include "flight.h"
#include "journal.h"
#include "lane.h"
#include "lease.h"
#include "outbox_store.h"
#include "overdue.h"
#include "parking.h"
#include "reader.h"
#include "receipt_key.h"
#include "requests.h"
#include "route.h"
#include "row_delete.h"

/** What may keep a lane from working at full, each with its own text; the first that is set is
 * shown. */
enum lane_trouble {
    TROUBLE_DB,
    TROUBLE_LEASE,
    TROUBLE_SETTLE,
    TROUBLE_PARK,
    TROUBLE_ROW,
    TROUBLES
};

struct lane {
    /* Set before the thread starts, never changed. */
    struct lane_opts opts; /* defaults filled in */
    char *names[6];        /* copies that opts points to */
    /* Any thread. */
    int wake_fd;
    _Atomic bool rung, drain_wanted, stop_wanted, gate_open;
    struct hist commit_to_confirm, publish_to_confirm;
    pthread_mutex_t stats_lock;
    struct lane_stats shared; /* under stats_lock */
    pthread_t thread;
    bool is_started;

    /* The thread's own. */
    enum lane_state state;
    struct db *db;
    struct bridge_publisher *publisher;
    bool is_dropping; /* outcomes that come now are of no interest */
    struct lease lease;
    struct outbox_store store;
    struct flight *flight;
    struct reader *reader;
    struct parking parking;
    struct requests requests;
    struct row_delete settle_del;
    struct awaiting awaiting;
    struct overdue overdue;
    struct delayed delayed;
    struct journal journal; /* used when opts.journal says so */
    struct receipt_keys receipt_keys;
    struct envelope *envelope;
    struct faults faults;
    struct row_batch fetched; /* scratch */
    struct backoff db_backoff;
    char trouble[TROUBLES][OBX_ERR_TEXT_MAX];
    struct lane_stats stats;
    uint64_t db_due_ms;    /* next try to connect */
    uint64_t lease_due_ms; /* standby: next look */
    uint64_t poll_due_us;
    uint64_t last_row_us;        /* when a poll brought something last */
    uint64_t first_confirmed_ms; /* the oldest confirmed row that is not settled; UINT64_MAX none */
    uint64_t settle_after_ms;    /* not before, after a failure */
    uint64_t await_after_ms; /* rows that ask for receipts not before, after a failure of theirs */
    uint64_t park_after_ms;
    uint64_t requests_due_ms;
    uint64_t overdue_due_ms;
    uint64_t delayed_due_ms;
    uint64_t journal_due_ms; /* UINT64_MAX: none is kept */
    uint64_t count_due_ms;
    uint64_t drain_until_ms;
    uint64_t owner_since_ms;
    uint64_t broker_connects_seen;
    uint64_t own_queries;
    uint64_t past_broker_connects, past_broker_blocked; /* of publishers that were dropped */
};

/* lane_turn.c */

/** One turn: everything that is due, without waiting. */
void lane_turn(struct lane *lane);
/** Milliseconds until something is due; 0: at once. */
int lane_wait_ms(const struct lane *lane);
/** Drop everything in memory and let the connections go; the thread ends. */
void lane_end(struct lane *lane);
void lane_set_trouble(struct lane *lane, enum lane_trouble kind, const char *text);

/* lane_publish.c */

/** Publish what may go, a burst at most. Any OBX_E_DB_* from reading rows again. */
OBX_NODISCARD enum obx_code lane_publish(struct lane *lane, struct obx_err *err);
/** For the bridge. */
bridge_result_fn lane_on_result;
/** Whether a burst would find something to do. */
bool lane_can_publish(const struct lane *lane);
/** Confirmed rows that wait for their delete are too many: nothing is published until some are
 * gone. */
bool lane_is_choked(const struct lane *lane);

/* lane_settle.c */

/** Delete confirmed rows, one batch. OBX_E_LEASE_LOST, any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code lane_settle(struct lane *lane, struct obx_err *err);
bool lane_settle_due(const struct lane *lane, uint64_t now_ms);
/** When it will be, as things stand; UINT64_MAX when nothing is confirmed. */
uint64_t lane_settle_due_ms(const struct lane *lane);
/** Park doomed rows, one batch. OBX_E_LEASE_LOST, any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code lane_park(struct lane *lane, struct obx_err *err);
bool lane_park_due(const struct lane *lane, uint64_t now_ms);
/** Failures that leave the connection and the lease as they are: the same again, later. */
bool lane_is_passing(enum obx_code rc);

#endif
