/*
 * A consumer's options after they have been checked, with every default filled in and every text
 * copied. Made once in obx_consumer_open, never changed afterwards, so that all threads may read it
 * without a lock.
 */
#ifndef CONSUMER_SETTINGS_H
#define CONSUMER_SETTINGS_H

#include "obx/consumer.h"

#include "bridge/bridge.h"
#include "bridge/topology.h"
#include "sql/db.h"

struct settings {
    char *text; /* one block that holds all strings below */
    const char *group;
    const char *queue;
    unsigned partitions;  /* 0: one queue; else so many, queue.0 and on */
    unsigned worker_base; /* of the first worker, among those of all partitions of the process */
    struct bridge_opts bridge;
    struct db_opts db;
    uint16_t prefetch;
    size_t max_memory_bytes;
    uint32_t workers;
    uint32_t batch_max;
    uint32_t batch_wait_us;
    uint32_t batch_max_ms;
    uint32_t max_attempts;
    uint32_t retry_min_ms;
    uint32_t retry_cap_ms;
    const char *dead_letter_exchange; /* "" is the default exchange */
    const char *dead_letter_queue;    /* NULL: none, the dead stay in inbox_parked */
    bool skips_dead;                  /* a dead message does not hold up its key */
    bool declare_topology;
    bool single_active_consumer;
    bool classic_queue;
    struct obx_binding *bindings;
    size_t binding_count;
    int64_t delivery_limit; /* negative: not set */
    uint32_t dedup_retention_s;
    uint32_t cleanup_interval_ms;
    bool no_cleanup;
    bool accept_older_than_retention;
    uint32_t drain_timeout_ms;
    uint32_t outage_messages;
    uint32_t outage_pause_max_ms;
    bool fail_fast;
    const struct consumer_embed *embed; /* NULL: an ordinary consumer */
};

/** The longest consumer group and message id that fit the dedup table. */
enum { SETTINGS_GROUP_MAX = 64, SETTINGS_MESSAGE_ID_MAX = 255 };

/**
 * Check opts and copy them. On success free with settings_fini; on failure there is nothing to
 * free.
 * @return OBX_OK; OBX_E_INVALID (the text names the option); OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code
settings_init(struct settings *settings, const struct obx_consumer_opts *opts, struct obx_err *err);
/**
 * The settings of a consumer of one partition. Most of it is borrowed from whole, which has to live
 * longer; free with settings_fini all the same. OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code settings_partition(const struct settings *whole, unsigned partition,
                                               struct settings *out, struct obx_err *err);
void settings_fini(struct settings *settings);

#endif
