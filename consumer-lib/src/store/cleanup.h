/*
 * Removal of dedup rows past their retention: a thread with a connection of its own, which is open
 * only while it works.
 */
#ifndef CONSUMER_CLEANUP_H
#define CONSUMER_CLEANUP_H

#include "base/bytes.h"
#include "base/thread.h"
#include "base/wake.h"
#include "core/shared.h"

struct cleanup {
    struct shared *shared; /* borrowed */
    struct wake wake;
    struct thread thread;
    _Atomic bool is_ending;

    /* The thread's own. */
    struct db *db;           /* NULL between rounds */
    struct obx_buf position; /* the walk goes on behind this message id */
    struct obx_buf sql;
    uint64_t applied_before; /* the count of applied messages at the last round */
};

OBX_NODISCARD enum obx_code cleanup_init(struct cleanup *cleanup, struct shared *shared,
                                         struct obx_err *err);
/** The thread has ended or was never started. */
void cleanup_fini(struct cleanup *cleanup);
/** What one page showed. */
struct cleanup_page {
    size_t rows;
    size_t old;
    uint64_t removed;
};
/** Look at the page behind the position, remove what is old in it, move the position behind it; on
 * cleanup->db. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code cleanup_page(struct cleanup *cleanup, struct cleanup_page *page,
                                         struct obx_err *err);
OBX_NODISCARD enum obx_code cleanup_start(struct cleanup *cleanup, struct obx_err *err);
/** Ask the thread to end and wait for it. Nothing when it was not started. */
void cleanup_stop(struct cleanup *cleanup);

#endif
