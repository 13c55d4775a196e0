/*
 * Nothing is published that a crash of the database would take back.
 *
 * Without a binary log InnoDB shows a transaction to others before it is in the log file, so that
 * the row of one whose COMMIT never came back could be published and then be gone: a ghost (P2).
 * The log is written in order, so a commit of ours, begun after the read, that came back says that
 * what was read is there. A renewal of the lease is such a commit: it changes its row each time.
 * docs/adr/0025-published-when-durable.md. Used by the lane thread. Proved by
 * tests/crash/undurable_test.c.
 */
#ifndef LANE_DURABLE_H
#define LANE_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/db.h"
#include "tables/lease.h"

struct durable {
    struct lease *lease; /* borrowed */
    bool shows_early;    /* the server has no binary log */
    bool is_unsure;      /* rows were read since the last commit of ours */
    uint64_t due_ms;     /* the next try to make them sure, after one that failed */
};

void durable_init(struct durable *durable, struct lease *lease);
/** After connecting: what kind of server it is. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code durable_ask(struct durable *durable, struct db *db,
                                        struct obx_err *err);
/** Rows were read that may be published. */
void durable_note_read(struct durable *durable);
/** Renew the lease; what was read before is sure then. Errors as lease_renew. */
OBX_NODISCARD enum obx_code durable_renew(struct durable *durable, struct db *db,
                                          struct obx_err *err);
/** See to it that what was read can be published. *is_sure false: not now, but at due_ms.
 * OBX_E_LEASE_LOST; what closes the connection. */
OBX_NODISCARD enum obx_code durable_ensure(struct durable *durable, struct db *db, bool *is_sure,
                                           struct obx_err *err);
/** Not before that is anything published; 0: at once. */
uint64_t durable_due_ms(const struct durable *durable);

#endif
