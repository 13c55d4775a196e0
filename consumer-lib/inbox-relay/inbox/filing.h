/*
 * The statements of the filer, each a transaction of its own. On the caller's connection and
 * thread; on failure nothing of a call is committed, unless the connection was lost in COMMIT.
 */
#ifndef INBOX_FILING_H
#define INBOX_FILING_H

#include "inbox.h"
#include "keys.h"
#include "tables/id_list.h"
#include "tables/row_delete.h"

enum { FILING_MAX = 500, FILING_CLAIM_S = 10 };

/* A receipt that is owed: of a row that is claimed. Texts are in the same block. */
struct report {
    struct report *next;
    uint64_t id;
    bool is_rejected, is_discarded;
    struct obx_bytes message_id, to, token, reason;
};

/* FIFO. Zero-initialise. */
struct report_list {
    struct report *head, *tail;
    size_t count;
};
void report_list_push(struct report_list *list, struct report *report);
struct report *report_list_pop(struct report_list *list);
void report_list_free(struct report_list *list);

struct filing {
    const struct inbox_opts *opts; /* borrowed */
    struct row_delete row_delete;
    struct id_list ids; /* scratch */
    struct obx_buf sql; /* scratch */
};

/* What came of one round. */
struct filed {
    size_t rows;
    bool is_more; /* there may be */
    size_t done, dead, discarded;
    struct obx_buf keys;        /* whose chains have lost a row: the caller's to look at */
    struct report_list reports; /* the caller's */
};
void filed_fini(struct filed *filed);

OBX_NODISCARD enum obx_code filing_init(struct filing *filing, const struct inbox_opts *opts,
                                        struct obx_err *err);
void filing_fini(struct filing *filing);

/** Whether something has ended: one look-up, without a lock. */
OBX_NODISCARD enum obx_code filing_is_due(struct filing *filing, struct db *db, bool *is_due,
                                          struct obx_err *err);
/**
 * Take what has ended, at most FILING_MAX rows; remove or keep what needs no receipt, claim the rest
 * for FILING_CLAIM_S. defer_ms not 0: there is no room for reports, the rest waits for so long.
 */
OBX_NODISCARD enum obx_code filing_run(struct filing *filing, struct db *db, uint64_t defer_ms,
                                       struct filed *filed, struct obx_err *err);
/** The receipts of these are out: dedup rows say so, rows go. */
OBX_NODISCARD enum obx_code filing_settle(struct filing *filing, struct db *db,
                                          const struct report_list *reports, struct obx_err *err);
/** Make the first row of each of these chains ready if it is blocked; *released of them were. */
OBX_NODISCARD enum obx_code filing_look(struct filing *filing, struct db *db,
                                        const struct obx_buf *keys, uint64_t *released,
                                        struct obx_err *err);
/**
 * The same for the next keys after *from, at most max of them; *from moves on, *is_through is true
 * after the last one.
 */
OBX_NODISCARD enum obx_code filing_rescan(struct filing *filing, struct db *db,
                                          unsigned char from[KEY_HASH], unsigned max,
                                          bool *is_through, uint64_t *released,
                                          struct obx_err *err);
/** Whether the row is there. */
OBX_NODISCARD enum obx_code filing_find(struct filing *filing, struct db *db,
                                        struct obx_bytes message_id, uint64_t id, bool *is_there,
                                        struct obx_err *err);

enum { FILING_COUNT_MAX = 10000 };
struct filing_counts {
    uint64_t ready, blocked, dead, oldest_ready_us;
};
/** Levels, each counted up to FILING_COUNT_MAX. */
OBX_NODISCARD enum obx_code filing_count(struct filing *filing, struct db *db,
                                         struct filing_counts *counts, struct obx_err *err);

#endif
