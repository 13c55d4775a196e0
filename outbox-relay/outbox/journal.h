/*
 * outbox_journal: what has been published, kept for a while so that `outboxctl reconcile` can
 * compare it with what a consumer has applied. Opt-in: without it none of this runs.
 *
 * Invariant: a row of the journal is written in the transaction that removes the message from the
 * outbox, under the lease. Used by the lane thread. Proved by tests/system/lane_journal_test.c.
 */
#ifndef RELAY_JOURNAL_H
#define RELAY_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "sql/db.h"
#include "tables/id_list.h"
#include "tables/lease.h"

struct journal_opts {
    const char *outbox;    /* borrowed */
    const char *table;     /* its quoted name; borrowed */
    struct lease *lease;   /* borrowed */
    uint32_t retention_ms; /* since the message's creation, for custom ids since it was settled */
};

struct journal {
    struct journal_opts opts;
    struct obx_buf write; /* a statement */
    struct id_list list;  /* scratch */
    char cursor[256];     /* cleaning of custom ids walks on from here */
    uint64_t written, removed;
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code journal_init(struct journal *journal, const struct journal_opts *opts,
                                         struct obx_err *err);
void journal_fini(struct journal *journal);

/** Copy what the journal keeps of these rows of the outbox; inside the caller's transaction. A
 * message that was published before has its row renewed. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code journal_write(struct journal *journal, struct db *db,
                                          const uint64_t *ids, size_t count, struct obx_err *err);
/**
 * Remove what is over, one batch and one transaction. *may_have_more: come again at once.
 * OBX_E_LEASE_LOST, any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code journal_clean(struct journal *journal, struct db *db,
                                          bool *may_have_more, struct obx_err *err);

#endif
