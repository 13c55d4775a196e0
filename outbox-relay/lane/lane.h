/*
 * A lane drains one outbox table: read, publish, confirm, settle. It owns one thread, one database
 * connection and one broker connection; nothing else touches them. The daemon talks to it by the
 * calls below, all of which may be made from any thread, and reads its numbers through
 * lane_get_stats.
 *
 * A lane works only while it holds the lease of its outbox; otherwise it stands by. See
 * docs/adr/0002-lane.md for the states, the invariants and what each crash point leaves.
 */
#ifndef RELAY_LANE_H
#define RELAY_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "bridge/publisher.h"
#include "sql/db.h"

/** What happens to the followers of an ordering key whose message was parked. */
enum park_policy {
    PARK_FREEZE, /* they are parked after it, in order, until an operator resumes or discards
                    (default) */
    PARK_SKIP    /* they go on */
};

/** How a topic is published. The first rule whose pattern matches wins; without a match the
 * defaults of lane_opts count. */
struct topic_rule {
    const char *pattern;     /* exact, or a prefix ending in '*' */
    const char *exchange;    /* NULL: lane_opts.exchange */
    const char *routing_key; /* NULL: the topic itself */
    unsigned partitions;     /* of exchange; 0: it has none */
    enum park_policy on_park;
    uint32_t max_attempts; /* 0: lane_opts.max_attempts */
    uint32_t pack;         /* rows that may share a message of the broker; 0 and 1: none do */
    uint32_t pack_bytes;   /* of such a message at most; 0: LANE_PACK_BYTES */
};

enum { LANE_PACK_BYTES = 256 * 1024 };

/** X(field, number): the default of each of these options; the table of keys has them from here. */
#define LANE_DEFAULTS(X)                                                                           \
    X(window, 2000)                                                                                \
    X(key_window, 1)                                                                               \
    X(batch_rows, 1000)                                                                            \
    X(inline_bytes, 16 * 1024)                                                                     \
    X(max_body_bytes, 16 * 1024 * 1024)                                                            \
    X(settle_max_rows, 1000)                                                                       \
    X(settle_max_age_ms, 100)                                                                      \
    X(poll_min_ms, 2)                                                                              \
    X(poll_max_ms, 50)                                                                             \
    X(sweep_ms, 1000)                                                                              \
    X(lease_ms, 10000)                                                                             \
    X(max_attempts, 10)                                                                            \
    X(retry_min_ms, 200)                                                                           \
    X(retry_cap_ms, 30000)                                                                         \
    X(confirm_timeout_ms, 30000)                                                                   \
    X(drain_ms, 5000)                                                                              \
    X(receipt_timeout_ms, 60 * 1000)                                                               \
    X(receipt_cap_ms, 3600 * 1000)                                                                 \
    X(max_sends, 20)                                                                               \
    X(delayed_poll_ms, 500)                                                                        \
    X(journal_retention_ms, 7 * 24 * 3600 * 1000)

#define LANE_DEFAULT_(field, number) LANE_DEFAULT_##field = (number),
/** LANE_DEFAULT_window and so on. */
enum { LANE_DEFAULTS(LANE_DEFAULT_) };
#undef LANE_DEFAULT_

/** Borrowed for lane_create except db and bridge strings and rules, which must outlive the lane.
 * Zero means the default, see LANE_DEFAULTS. */
struct lane_opts {
    const char *source;  /* name of the source in the configuration */
    const char *outbox;  /* table name */
    const char *owner;   /* unique name of this relay process: host, pid and a random part */
    const char *address; /* "host:port" on which this relay hears doorbells of others; NULL: none
                            advertised */
    struct db_opts db;
    struct bridge_opts bridge;
    const char *exchange; /* NULL: "" is wrong for topics; default "rowpost" */
    unsigned partitions;  /* of exchange; 0: it has none */
    const struct topic_rule *rules;
    size_t rule_count;
    uint32_t window; /* unconfirmed messages at most */
    uint32_t
        key_window; /* the same of one ordering key; 1 keeps order whatever the broker refuses */
    uint32_t batch_rows;     /* rows a read */
    uint32_t inline_bytes;   /* payloads up to this come with the batch, larger ones one by one */
    uint32_t max_body_bytes; /* larger ones are parked */
    uint32_t settle_max_rows;
    uint32_t settle_max_age_ms; /* a confirmed row waits at most this long for its delete */
    uint32_t poll_min_ms;       /* pause between looks when busy */
    uint32_t poll_max_ms;       /* when idle */
    uint32_t sweep_ms;          /* look for late commits behind the cursor at least this often */
    uint32_t lease_ms;
    uint32_t max_attempts; /* tries of one message (returned, nacked) before it is parked */
    uint32_t retry_min_ms;
    uint32_t retry_cap_ms;
    uint32_t confirm_timeout_ms;
    uint32_t drain_ms;         /* how long lane_drain waits for confirms */
    const char *receipt_queue; /* where receipts for this source are to be sent; NULL: rows that ask
                                  for receipts are parked */
    uint32_t receipt_timeout_ms;   /* a message is sent again when its receipts do not come for so
                                    long, doubling */
    uint32_t receipt_cap_ms;       /* longest such wait */
    uint32_t max_sends;            /* sends without receipts before it is parked */
    uint32_t delayed_poll_ms;      /* how often delayed messages that are due are looked for */
    bool journal;                  /* keep what was published in outbox_journal, for reconcile */
    uint32_t journal_retention_ms; /* for so long */
    bool gated; /* publish nothing before lane_open_gate: the topology is not there yet. All else
                   goes on (connect, lease, counts) */
    bool is_elsewhere; /* see lane_set_elsewhere */
};

enum lane_state {
    LANE_STARTING, /* not yet connected to the database.    next: STANDBY, STOPPED        */
    LANE_STANDBY,  /* another relay holds the lease.        next: OWNER, DB_DOWN, STOPPED */
    LANE_OWNER,    /* holds the lease and works.            next: STANDBY, DB_DOWN, DRAINING */
    LANE_DB_DOWN,  /* database lost or unfit; trying again. next: STANDBY, STOPPED        */
    LANE_DRAINING, /* reads nothing new, waits for confirms. next: STOPPED                */
    LANE_STOPPED   /* the thread has ended                                                */
};
const char *lane_state_name(enum lane_state state);

/** X(member, help): what a lane counts since its start. Each is the metric rowpost_<member>_total and
 * a number of /status under its own name; docs/operations.md explains them. */
#define LANE_COUNTERS(X)                                                                           \
    X(read, "Rows read from the outbox.")                                                          \
    X(published, "Messages sent to the broker, repetitions included.")                             \
    X(packs, "Packs sent to the broker: messages of it that have several of ours in them.")        \
    X(confirmed, "Messages that the broker confirmed as stored.")                                  \
    X(returned, "Messages returned because no queue is bound.")                                    \
    X(nacked, "Messages that the broker refused.")                                                 \
    X(unknown, "Messages whose fate a lost connection left open; they are published again.")       \
    X(exchange_faults, "Messages that came back because their exchange is missing or forbidden.")  \
    X(settled, "Rows deleted after their confirm.")                                                \
    X(parked, "Rows moved to outbox_parked.")                                                      \
    X(resumed, "Parked messages moved back by an operator's request.")                             \
    X(discarded, "Parked messages deleted by an operator's request.")                              \
    X(late, "Rows that became visible after the cursor had passed them.")                          \
    X(awaited, "Confirmed rows moved to outbox_awaiting, repetitions included.")                   \
    X(receipts_early, "Rows settled by the lane because their receipts were there.")               \
    X(resent, "Messages put back into the outbox for want of receipts.")                           \
    X(receipts_missing, "Messages parked for want of receipts after the last send.")               \
    X(rejected, "Messages that a consumer has rejected, settled by the lane.")                     \
    X(delayed_moved, "Delayed messages that became due.")                                          \
    X(delayed_backdated, "Of these, due a minute and more before they were written.")              \
    X(lease_acquired, "Times the lease was taken.")                                                \
    X(lease_lost, "Times the lease was lost.")                                                     \
    X(db_connects, "Connections made to the database.")                                            \
    X(broker_connects, "Connections made to the broker.")                                          \
    X(broker_blocked, "Times the broker blocked publishers.")                                      \
    X(polls, "Polls of the outbox table.")                                                         \
    X(queries, "Statements sent to the database.")

/** X(member, metric, help): what a lane has now. Rows are counted from time to time, up to a limit
 * that waiting_capped is about. */
#define LANE_GAUGES(X)                                                                             \
    X(inflight, "rowpost_inflight", "Messages published and not yet confirmed.")                   \
    X(held, "rowpost_held", "Rows in memory that wait for an earlier one of their key.")           \
    X(retrying, "rowpost_retrying", "Rows that wait for their next try.")                          \
    X(unsettled, "rowpost_unsettled", "Confirmed rows that are not deleted yet.")                  \
    X(frozen_keys, "rowpost_frozen_keys", "Ordering keys frozen by a parked message.")             \
    X(waiting, "rowpost_rows_waiting",                                                             \
      "Rows in the outbox at the last count; see rowpost_rows_waiting_capped.")                    \
    X(awaiting_now, "rowpost_awaiting_rows",                                                       \
      "Messages that wait for receipts at the last count, up to the same limit.")                  \
    X(delayed_now, "rowpost_delayed_rows",                                                         \
      "Delayed messages at the last count, up to the same limit.")                                 \
    X(delayed_stray, "rowpost_delayed_stray_rows",                                                 \
      "Delayed messages for an outbox that no relay drains, up to 1000.")                          \
    X(parked_now, "rowpost_parked_rows",                                                           \
      "Parked messages of this outbox at the last count, up to the same limit.")

#define LANE_MEMBER(member, ...) uint64_t member;

/** A copy of a lane's numbers, consistent enough for metrics. Counters only grow. */
struct lane_stats {
    enum lane_state state;
    enum bridge_state broker_state;
    uint64_t lease_epoch;           /* 0 when not owner */
    char lease_owner[129];          /* who holds it as last seen */
    bool is_served;                 /* by this lane, or by another owner whose lease runs */
    char lease_address[256];        /* where the owner hears doorbells; "" none */
    char trouble[OBX_ERR_TEXT_MAX]; /* why the lane is not working at full; "" when all is well */
    LANE_COUNTERS(LANE_MEMBER)
    LANE_GAUGES(LANE_MEMBER)
    bool waiting_capped;    /* there are at least that many rows */
    uint64_t oldest_age_us; /* age of the oldest row by the database's clock; 0 none */
};

struct lane;

/** On failure *out is NULL. OBX_E_NOMEM, OBX_E_INVALID, OBX_E_CONFIG. Starts nothing. */
OBX_NODISCARD enum obx_code lane_create(const struct lane_opts *opts, struct lane **out,
                                        struct obx_err *err);
/** Start the thread. OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code lane_start(struct lane *lane, struct obx_err *err);
/** Look at once: a doorbell rang for this outbox. Async-signal-safe, never blocks. */
void lane_ring(struct lane *lane);
/** Let a gated lane publish: exchanges and queues are there now. Once is enough, more do nothing.
 * Never blocks. */
void lane_open_gate(struct lane *lane);
/** Whether another relay is to have the lane: then a lease that nobody holds is left to it for as long
 * as a lease is. An owner goes on. */
void lane_set_elsewhere(struct lane *lane, bool is_elsewhere);
/** Stop reading, wait for confirms up to drain_ms, settle, give the lease back, end. Returns at
 * once. */
void lane_drain(struct lane *lane);
/** End as soon as possible; what is unconfirmed is published again by the next owner. Returns at
 * once. */
void lane_stop(struct lane *lane);
/** Wait for the thread's end. */
void lane_join(struct lane *lane);
/** After lane_join, or if never started. NULL is fine. */
void lane_destroy(struct lane *lane);
const char *lane_source(const struct lane *lane);
const char *lane_outbox(const struct lane *lane);
void lane_get_stats(struct lane *lane, struct lane_stats *out);
/** Latencies in microseconds, readable while the lane runs: commit (created_at) to confirm; publish
 * to confirm. Owned by lane. */
const struct hist *lane_hist_commit_to_confirm(const struct lane *lane);
const struct hist *lane_hist_publish_to_confirm(const struct lane *lane);

#endif
