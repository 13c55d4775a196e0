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

struct receipts_stats {
    uint64_t messages;  /* deliveries, each with one or many reports */
    uint64_t noted;     /* reports written, or there already */
    uint64_t forged;    /* dropped: no or a wrong token */
    uint64_t malformed; /* dropped: reports or whole messages that cannot be read */
    uint64_t unasked;   /* dropped: of a group that the message does not name */
    uint64_t deferred; /* left because their rows were held or refused; the message is sent again */
    uint64_t early;    /* messages that no row awaited then */
    uint64_t settled;  /* messages, rejected ones included */
    uint64_t rejected; /* messages */
    uint64_t compensations; /* messages sent for those */
    uint64_t batches;       /* transactions committed */
    uint64_t failures;      /* transactions undone; they are tried again */
    uint64_t db_up;         /* 1: connected */
    uint64_t broker_up;     /* 1: subscribed */
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
