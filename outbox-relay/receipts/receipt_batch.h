/*
 * What receipts do to the database of a source: each is written down once, and messages that have
 * all of theirs are settled, in one transaction for many.
 *
 * Invariants: a row of outbox_awaiting is deleted only under its lock, with the receipts of all
 * groups it names, or one rejection, written in the same or an earlier transaction; the
 * compensation of a rejected one is written in the same. A row that somebody else has locked is not
 * waited for: its reports are written, and a later check settles it. The first report of a group
 * counts. Used by the receipts thread, on its connection. Proved by tests/system/receipts_test.c.
 */
#ifndef RELAY_RECEIPT_BATCH_H
#define RELAY_RECEIPT_BATCH_H

#include "base/bytes.h"
#include "outbox/compensate.h"
#include "receipt_json.h"
#include "sql/db.h"

enum {
    RECEIPT_BATCH_MAX = 400, /* longer lists of literals are no longer looked up one by one */
    RECEIPT_OUTBOX_NAME = 65 /* of a table, with its NUL */
};

/** What became of the receipts of a batch. */
struct receipt_counts {
    uint64_t noted;   /* written, or there already */
    uint64_t unasked; /* of groups that the message does not name: dropped */
    uint64_t settled; /* messages, rejected ones included */
    uint64_t rejected;
    uint64_t compensations; /* messages sent for those */
    uint64_t early; /* no row that we could lock awaits them: early, late, or in somebody's hands */
};

/** One outbox of the source that had something rejected. */
struct receipt_outbox {
    char name[RECEIPT_OUTBOX_NAME];
    struct compensate comp;
};

/** Zero-initialise; free with receipt_batch_fini. */
struct receipt_batch {
    struct obx_buf text, ids, done;   /* scratch */
    struct receipt_outbox **outboxes; /* those that had a rejection */
    size_t outbox_count;
    struct obx_bytes early[RECEIPT_BATCH_MAX]; /* message ids of the last run that count as early;
                                                  borrowed from its receipts */
    size_t early_count;
};

void receipt_batch_fini(struct receipt_batch *batch);
/**
 * Apply up to RECEIPT_BATCH_MAX receipts whose tokens were checked, in one transaction. On
 * failure nothing has changed. Any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code receipt_batch_run(struct receipt_batch *batch, struct db *db,
                                              const struct receipt *receipts, size_t count,
                                              struct receipt_counts *counts, struct obx_err *err);
/**
 * Another check of messages whose receipts are written and that counted as early: those that await
 * them now are settled. batch->early gets those that await them and are locked. Errors as above.
 */
OBX_NODISCARD enum obx_code receipt_batch_again(struct receipt_batch *batch, struct db *db,
                                                const struct obx_bytes *ids, size_t count,
                                                struct receipt_counts *counts, struct obx_err *err);
/**
 * Remove receipts of settled messages that are older than retention_ms, one page after *cursor
 * (RECEIPT_ID_MAX + 1 bytes, "" at first); *removed gets their number. *is_end: the table is
 * through, and the cursor at its beginning.
 */
OBX_NODISCARD enum obx_code receipt_batch_clean(struct receipt_batch *batch, struct db *db,
                                                char *cursor, uint64_t retention_ms,
                                                uint64_t *removed, bool *is_end,
                                                struct obx_err *err);

#endif
