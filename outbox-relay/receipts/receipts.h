/*
 * The receipts role for one source: takes what consumers report off the source's queue, checks it,
 * and settles the messages that were waiting for it.
 *
 * One thread with its own database and broker connection; the calls below may be made from any
 * thread. Reports are acknowledged when their transaction is committed; whatever comes twice
 * changes nothing. Several relays may read one queue. Forged reports (no or a wrong token),
 * malformed ones and those of groups that were not asked are counted and dropped. Proved by
 * tests/system/receipts_test.c.
 */
#ifndef RELAY_RECEIPTS_H
#define RELAY_RECEIPTS_H

#include "bridge/bridge.h"
#include "sql/db.h"

/** Texts are borrowed and must outlive the object, but for queue and source, which are copied. */
struct receipts_opts {
    const char *source; /* for logs */
    const char *queue;
    struct db_opts db;
    struct bridge_opts bridge;
    uint64_t retention_ms; /* how long reports are kept */
    uint32_t max_age_ms;   /* a report waits at most so long for others; 0: 100 */
};

/** X(member, metric, type, help): the numbers of a reader; docs/operations.md explains them. A name
 * of /status is the member. */
#define RECEIPTS_NUMBERS(X)                                                                        \
    X(messages, "rowpost_receipts_messages_total", "counter", "Messages with receipts that came.") \
    X(noted, "rowpost_receipts_noted_total", "counter",                                            \
      "Receipts written down, repetitions included.")                                              \
    X(forged, "rowpost_receipts_forged_total", "counter",                                          \
      "Receipts dropped because their token is not ours. Any is worth a look.")                    \
    X(malformed, "rowpost_receipts_malformed_total", "counter",                                    \
      "Receipts and messages dropped because they cannot be read.")                                \
    X(unasked, "rowpost_receipts_unasked_total", "counter",                                        \
      "Receipts dropped because their group was not asked.")                                       \
    X(deferred, "rowpost_receipts_deferred_total", "counter",                                      \
      "Receipts left because their rows were held or refused; the message is sent again.")         \
    X(early, "rowpost_receipts_unmatched_total", "counter",                                        \
      "Receipts that no message awaited then: early, late or repeated.")                           \
    X(settled, "rowpost_receipts_settled_total", "counter", "Messages settled by their receipts.") \
    X(rejected, "rowpost_receipts_rejected_total", "counter", "Of these, rejected ones.")          \
    X(compensations, "rowpost_receipts_compensations_total", "counter",                            \
      "Compensation messages sent.")                                                               \
    X(batches, "rowpost_receipts_batches_total", "counter", "Transactions committed.")             \
    X(failures, "rowpost_receipts_failures_total", "counter",                                      \
      "Transactions undone, to be tried again.")                                                   \
    X(db_up, "rowpost_receipts_db_up", "gauge", "1: connected to the database of the source.")     \
    X(broker_up, "rowpost_receipts_broker_up", "gauge", "1: subscribed to the receipt queue.")

#define RECEIPTS_MEMBER(member, ...) uint64_t member;

struct receipts_stats {
    RECEIPTS_NUMBERS(RECEIPTS_MEMBER)
    bool has_ended;
    char trouble[OBX_ERR_TEXT_MAX]; /* why it does not work; "" */
};

struct receipts;

/** Make it and start its thread. On failure *out is NULL. OBX_E_NOMEM, OBX_E_SYSTEM, OBX_E_CONFIG.
 */
OBX_NODISCARD enum obx_code receipts_create(const struct receipts_opts *opts, struct receipts **out,
                                            struct obx_err *err);
/** Take no more, finish what was taken, end. Returns at once; has_ended tells. NULL is fine. */
void receipts_stop(struct receipts *receipts);
/** Wait for the thread's end, which may take as long as a statement. NULL is fine. */
void receipts_destroy(struct receipts *receipts);
void receipts_get_stats(struct receipts *receipts, struct receipts_stats *out);

#endif
