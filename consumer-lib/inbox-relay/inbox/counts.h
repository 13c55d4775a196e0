/*
 * What one inbox counts: written by its threads, read by the pages. One list makes the members, the
 * view that others get, and the metrics; docs/operations.md explains them.
 */
#ifndef INBOX_COUNTS_H
#define INBOX_COUNTS_H

#include <stdatomic.h>

/** X(member, metric, type, help): since the start, or as of the last count, which stops at 10000. */
#define INBOX_NUMBERS(X)                                                                           \
    X(stored, "stored_total", "counter",                                                           \
      "Messages written into the inbox by this process, undone batches included.")                 \
    X(unstored, "unstored_total", "counter", "Of these, those of batches that were undone.")       \
    X(filed, "done_total", "counter", "Messages done by the service and filed here.")              \
    X(dead, "dead_total", "counter",                                                               \
      "Messages that have become dead: rejected by the service, or out of attempts.")              \
    X(discarded, "discarded_total", "counter", "Messages discarded by an operator.")               \
    X(reported, "reported_total", "counter", "Receipts confirmed.")                                \
    X(reports_given_up, "reports_given_up_total", "counter", "Receipts whose queue is not there.") \
    X(released, "released_total", "counter", "Successors made ready here and not by a worker.")    \
    X(missing, "missing_total", "counter",                                                         \
      "Stored messages whose rows are gone though nobody knows whether they were applied.")        \
    X(wakes, "wakes_total", "counter", "Datagrams sent to workers.")                               \
    X(wakes_refused, "wakes_refused_total", "counter",                                             \
      "Datagrams that a worker's socket did not take, most often for want of rights.")             \
    X(ready, "ready", "gauge",                                                                     \
      "Rows that may be taken, retries to come included, at the last count, at most 10000.")       \
    X(blocked, "blocked", "gauge",                                                                 \
      "Rows that wait for an earlier one of their key, counted up to the same limit.")             \
    X(dead_rows, "dead_rows", "gauge", "Dead rows, counted up to the same limit.")

#define INBOX_COUNT_MEMBER(member, metric, type, help) atomic_uint_fast64_t member;

struct counts {
    INBOX_NUMBERS(INBOX_COUNT_MEMBER)
    atomic_uint_fast64_t oldest_ready_us;
    atomic_bool is_connected;
};

#endif
