/*
 * The numbers behind obx_consumer_stats: each an atomic that any thread of the library adds to and
 * any thread may read. The relaxed order is enough: every counter stands for itself.
 */
#ifndef CONSUMER_COUNTERS_H
#define CONSUMER_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

enum counter {
    CNT_DELIVERED,
    CNT_APPLIED,
    CNT_DUPLICATES,
    CNT_RETRIED,
    CNT_REJECTED,
    CNT_PARKED,
    CNT_TAKEN_UP,
    CNT_DEAD,
    CNT_REPLAYED,
    CNT_DISCARDED,
    CNT_DEAD_LETTERED,
    CNT_DEAD_LETTER_FAILED,
    CNT_TX_BROKEN,
    CNT_RERUNS,
    CNT_COMMITS,
    CNT_COMMIT_UNKNOWN,
    CNT_BATCHES,
    CNT_ACKED,
    CNT_DROPPED,
    CNT_BROKER_CONNECTS,
    CNT_DATABASE_CONNECTS,
    CNT_DEDUP_REMOVED,
    CNT_RECEIPTS,
    CNT_RECEIPTS_GIVEN_UP,
    CNT_OUTAGES,
    CNT_ATTEMPTS_KEPT,
    CNT_IN_FLIGHT, /* from here on levels: they go down too */
    CNT_IN_FLIGHT_BYTES,
    CNT_PARKED_ROWS,
    CNT_DEAD_LETTER_PENDING,
    CNT_DATABASES_UP,
    CNT_WORKERS_PAUSING,
    CNT_COUNT
};

struct counters {
    _Atomic uint64_t value[CNT_COUNT];
};

static inline void counters_add(struct counters *counters, enum counter which, uint64_t n)
{
    atomic_fetch_add_explicit(&counters->value[which], n, memory_order_relaxed);
}

static inline void counters_sub(struct counters *counters, enum counter which, uint64_t n)
{
    atomic_fetch_sub_explicit(&counters->value[which], n, memory_order_relaxed);
}

static inline uint64_t counters_get(const struct counters *counters, enum counter which)
{
    return atomic_load_explicit(&counters->value[which], memory_order_relaxed);
}

#endif
