/*
 * Publishing: rows that may go are sent in bursts under the window, and what the broker answers
 * says what becomes of them.
 *
 * Every message is sent under a glance at the lease, so that a process that was stopped and
 * continued publishes at most the one message that it was about to send. A row that is not in
 * memory as a whole is read again first; one that can never be a message is given up at once. Owns
 * the connection to the broker. Used by the lane thread. Proved by tests/unit/lane_sim_test.c and
 * tests/system/lane_drain_test.c, lane_order_test.c, lane_fault_test.c.
 */
#ifndef LANE_PUBLISH_H
#define LANE_PUBLISH_H

#include <stdatomic.h>

#include "faults.h"
#include "lane/conditions.h"
#include "lane/flight/flight.h"
#include "lane/lane.h"
#include "lane/read/durable.h"
#include "lane/read/outbox_store.h"
#include "lane/settle/settle.h"
#include "outbox/envelope.h"
#include "outbox/receipt_key.h"
#include "packing.h"
#include "route.h"

/** What it stands on; all borrowed, and outlive it. */
struct publish_parts {
    const struct lane_opts *opts;
    struct flight *flight;
    struct outbox_store *store;
    struct lease *lease;
    struct durable *durable;
    struct settle *settle; /* gets what is confirmed */
    struct lane_conditions *conditions;
    const _Atomic bool *is_open; /* false: the topology is not there yet */
    struct hist *commit_to_confirm, *publish_to_confirm;
};

/** The connection to the broker, those before it included. */
struct publish_broker {
    enum bridge_state state;
    uint64_t connects, blocked;
};

struct publish_stats {
    uint64_t published, packs, confirmed, returned, nacked, unknown, exchange_faults;
};

struct publish {
    const struct lane_opts *opts; /* this and the next ones: as in publish_parts */
    struct flight *flight;
    struct outbox_store *store;
    struct lease *lease;
    struct durable *durable;
    struct settle *settle;
    struct lane_conditions *conditions;
    const _Atomic bool *is_open;
    struct hist *commit_to_confirm, *publish_to_confirm;
    struct bridge_publisher *publisher; /* NULL: to be opened */
    bool is_dropping;                   /* outcomes that come now are of no interest */
    uint64_t connects_seen;
    struct publish_broker past; /* of publishers that were dropped */
    struct envelope *envelope;
    struct receipt_keys receipt_keys; /* loaded by a new owner */
    struct faults faults;
    struct packing packing;
    struct row_batch fetched; /* scratch */
    uint64_t route_topic;     /* hash of the topic that CONDITION_ROUTE is about */
    uint64_t route_until_ms;  /* 0: it is about none */
    struct publish_stats stats;
};

/** OBX_E_NOMEM; publish_fini is needed all the same. */
OBX_NODISCARD enum obx_code publish_init(struct publish *publish, const struct publish_parts *parts,
                                         struct obx_err *err);
void publish_fini(struct publish *publish);

/** Open the connection if there is none; it connects by itself then. */
void publish_open(struct publish *publish);
/** Read the broker's answers, and see whether the connection is another one. */
void publish_service(struct publish *publish);
/** Everything in memory is dropped. The connection goes with what is in flight, so that nothing of
 * it is sent late; without any it stays. */
void publish_reset(struct publish *publish);
/** The lane ends. */
void publish_close(struct publish *publish);

/** Whether a burst would find something to do. */
bool publish_can(const struct publish *publish);
/** Publish what may go, a burst at most. Any OBX_E_DB_* from reading rows again. */
OBX_NODISCARD enum obx_code publish_burst(struct publish *publish, struct obx_err *err);
/** Nothing of the topic that is shown has come back for longer than a retry takes: it is parked, or
 * gone. */
void publish_expire_route(struct publish *publish, uint64_t now_ms);
void publish_get_broker(const struct publish *publish, struct publish_broker *out);

#endif
