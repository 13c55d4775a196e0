/*
 * What the files of the lane share: lane.c (thread and calls from outside), lane_turn.c (states and
 * timers), lane_publish.c (bursts and outcomes), lane_settle.c, lane_park.c. Nobody else
 * includes it. Everything below `thread` in struct lane belongs to the lane's own thread.
 */
#ifndef RELAY_LANE_PRIVATE_H
#define RELAY_LANE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/backoff.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"
#include "lane.h"
#include "lane/flight/flight.h"
#include "lane/park/parking.h"
#include "lane/park/requests.h"
#include "lane/publish/faults.h"
#include "lane/publish/route.h"
#include "lane/read/delayed.h"
#include "lane/read/outbox_store.h"
#include "lane/read/reader.h"
#include "lane/settle/overdue.h"
#include "outbox/awaiting.h"
#include "outbox/envelope.h"
#include "outbox/journal.h"
#include "outbox/receipt_key.h"
#include "tables/lease.h"
#include "tables/row_delete.h"
#include "tables/row_locks.h"

/** What may keep a lane from working at full, each with its own text; the first that is set is
 * shown. */
enum lane_trouble {
    TROUBLE_DB,
    TROUBLE_LEASE,
    TROUBLE_SETTLE,
    TROUBLE_PARK,
    TROUBLE_ROW,
    TROUBLE_ROUTE,    /* a topic that no queue takes; goes with its next confirm, or with time */
    TROUBLE_REQUESTS, /* from here on in the order of enum lane_side */
    TROUBLE_OVERDUE,
    TROUBLE_DELAYED,
    TROUBLE_JOURNAL,
    TROUBLE_COUNT,
    TROUBLE_STRAY,
    TROUBLES
};

/** What an owner does beside publishing and settling. A failure of one is its own: it is tried
 * again after a pause, and the rest goes on. */
enum lane_side {
    SIDE_REQUESTS,
    SIDE_OVERDUE,
    SIDE_DELAYED,
    SIDE_JOURNAL,
    SIDE_COUNT,
    SIDE_STRAY,
    SIDES
};

/** Confirmed rows are settled by kind: deleted, or moved to outbox_awaiting. */
enum settle_kind { SETTLE_PLAIN, SETTLE_ASKING, SETTLE_KINDS };

/** A kind's confirmed rows, and how its transactions went. See lane_settle.c. */
struct settling {
    size_t waiting;         /* rows to be settled together */
    size_t held;            /* rows that were refused or locked: tried alone, each at its time */
    size_t portion;         /* rows in one transaction: halved by a failure, doubled by a success */
    uint64_t first_ms;      /* since when the oldest of `waiting` waits; UINT64_MAX: none */
    uint64_t held_due_ms;   /* not later than the first of `held` is due; UINT64_MAX: none */
    uint64_t after_ms;      /* not before, after a failure */
    uint64_t successes;     /* transactions that committed */
    uint32_t failures;      /* since the last of them, for which no row was to blame */
    unsigned alone_refused; /* rows refused one by one since then */
};

struct lane {
    /* Set before the thread starts, never changed. */
    struct lane_opts opts; /* defaults filled in */
    char *names[6];        /* copies that opts points to */
    /* Any thread. */
    struct wake wake;
    _Atomic bool rung, drain_wanted, stop_wanted, gate_open;
    struct hist commit_to_confirm, publish_to_confirm;
    pthread_mutex_t stats_lock;
    struct lane_stats shared; /* under stats_lock */
    struct thread thread;

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
    struct row_locks locks;
    struct settling settling[SETTLE_KINDS];
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
    bool shows_early;      /* the server: see lane_make_sure */
    bool is_unsure;        /* rows were read since the last commit of ours */
    uint64_t sure_due_ms;  /* the next try to make them sure */
    uint64_t db_due_ms;    /* next try to connect */
    uint64_t lease_due_ms; /* standby: next look */
    uint64_t poll_due_us;
    uint64_t last_row_us;         /* when a poll brought something last */
    uint64_t route_trouble_topic; /* hash of the topic that TROUBLE_ROUTE is about */
    uint64_t route_trouble_until_ms;
    uint64_t park_after_ms;
    uint64_t side_due_ms[SIDES];   /* UINT64_MAX: never */
    unsigned side_failures[SIDES]; /* one after the other */
    uint64_t drain_until_ms;
    uint64_t owner_since_ms;
    uint64_t broker_connects_seen;
    uint64_t past_broker_connects, past_broker_blocked; /* of publishers that were dropped */
    uint64_t past_statements;                           /* of connections that were closed */
};

/* lane_turn.c */

/** One turn: everything that is due, without waiting. */
void lane_turn(struct lane *lane);
/** Milliseconds until something is due; 0: at once. */
int lane_wait_ms(const struct lane *lane);
/** Drop everything in memory and let the connections go; the thread ends. */
void lane_end(struct lane *lane);
void lane_set_trouble(struct lane *lane, enum lane_trouble kind, const char *text);
/**
 * Before anything is published: see to it that what was read cannot be gone after a crash of the
 * database. Without a binary log InnoDB shows a transaction to others before it is in the log
 * file, so that the row of one whose COMMIT never came back could be published and then be gone: a
 * ghost. The log is written in order, so a commit of ours, begun after the read, that came back
 * says that it is there. *is_sure false: not now, the lane is awake when it is time.
 */
OBX_NODISCARD enum obx_code lane_make_sure(struct lane *lane, bool *is_sure, struct obx_err *err);
/** Nothing of that topic has come back for longer than a retry takes: it is parked, or gone. */
void lane_expire_route_trouble(struct lane *lane, uint64_t now_ms);

/* lane_publish.c */

/** Publish what may go, a burst at most. Any OBX_E_DB_* from reading rows again. */
OBX_NODISCARD enum obx_code lane_publish(struct lane *lane, struct obx_err *err);
/** For the bridge. */
bridge_result_fn lane_on_result;
/** Whether a burst would find something to do. */
bool lane_can_publish(const struct lane *lane);
/* lane_settle.c */

/** Settle confirmed rows, one portion of each kind. What the tables refuse is dealt with and no
 * failure; OBX_E_LEASE_LOST, or the connection is of no more use. */
OBX_NODISCARD enum obx_code lane_settle(struct lane *lane, struct obx_err *err);
/** When there is something to settle, as things stand; UINT64_MAX when nothing is confirmed. */
uint64_t lane_settle_due_ms(const struct lane *lane);
/** Nothing is confirmed but what waits by itself. */
bool lane_is_settled(const struct lane *lane);
/** Too many rows of the kind are confirmed and not settled: none is published until some are gone.
 */
bool lane_is_choked(const struct lane *lane, enum settle_kind kind);
/** The row was confirmed. */
void lane_settling_add(struct lane *lane, const struct flight_row *row, uint64_t now_ms);
/** Nothing is in memory any more. */
void lane_settling_reset(struct lane *lane);

/* lane_park.c */

/** Park doomed rows, one batch. Failures as lane_settle. */
OBX_NODISCARD enum obx_code lane_park(struct lane *lane, struct obx_err *err);
bool lane_park_due(const struct lane *lane, uint64_t now_ms);
/** Whether the row's topic holds up its key when it is parked. */
bool lane_freezes(const struct lane *lane, const struct flight_row *row);
/** Failures that leave the connection and the lease as they are: the same again, later. */
bool lane_is_passing(enum obx_code rc);
/** Failures after which the connection and what is in memory still hold. */
bool lane_keeps_db(const struct lane *lane, enum obx_code rc);

/* lane_rights.c */

/**
 * Run what settles and parks, over no row. Without the right to do so a new owner publishes
 * nothing: it would publish it again and again. OBX_E_DB_DENIED, any other OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code lane_check_rights(struct lane *lane, struct obx_err *err);
/** Have the server look at the rights on the database again: it does so only at USE. */
OBX_NODISCARD enum obx_code lane_renew_rights(struct lane *lane, struct obx_err *err);

#endif
