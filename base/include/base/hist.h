/*
 * A latency histogram of fixed size: bounds 1, 2, 3 ... 9, 10, 20 ... microseconds up to 100
 * seconds, so a quantile is off by half of its value at the very most. Any thread may record while
 * any other takes a snapshot; neither waits. Proved by tests/unit/hist_test.c.
 */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    HIST_BOUNDS = 73,              /* 8 decades of 9 bounds, and 100 s */
    HIST_BUCKETS = HIST_BOUNDS + 1 /* the last one has what is longer */
};

/** Zero-initialise. Counts only grow. */
struct hist {
    _Atomic uint64_t counts[HIST_BUCKETS];
    _Atomic uint64_t sum_us;
};

/** The state at one moment. counts[i] is of what is above bound i-1 and not above bound i. */
struct hist_view {
    uint64_t counts[HIST_BUCKETS];
    uint64_t total;  /**< of the counts, always */
    uint64_t sum_us; /**< may be more or less than the counts say, by what was recorded meanwhile */
};

/** Count one duration. A few nanoseconds. Any thread. */
void hist_record(struct hist *hist, uint64_t us);
/** Any thread, also while others record. */
void hist_snapshot(const struct hist *hist, struct hist_view *view);

/**
 * An estimate of the duration that the given part of all durations (0 to 1) does not exceed; 0
 * without any durations, 100 s when it lies beyond.
 */
uint64_t hist_quantile_us(const struct hist_view *view, double part);

/** A step of a walk over cumulative counts. Zero-initialise. */
struct hist_step {
    unsigned next;  /**< private */
    uint64_t le_us; /**< upper bound, inclusive; UINT64_MAX for all */
    uint64_t count; /**< how many were not longer */
};
/**
 * Go to the next bound of 1, 2, 5, 10, 20, 50 ... 100 s and then "all", which are the lines of a
 * Prometheus histogram; false after the last.
 */
bool hist_walk(const struct hist_view *view, struct hist_step *step);

#endif
