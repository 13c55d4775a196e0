/*
 * Asks a producer's own database through the barrier, with no code in the producer: the first to
 * insert the key decides. A few threads per producer, each with its own connection, so that a dead
 * or slow database holds up only its own producer.
 */
#ifndef RELAY_HALF_ASK_BARRIER_H
#define RELAY_HALF_ASK_BARRIER_H

#include <stdbool.h>

#include "check_answer.h"
#include "sql/db.h"

struct ask_barrier;

/** Runs on one of the client's threads. why: for logs and history, borrowed. */
typedef void ask_barrier_done_fn(void *ctx, enum check_answer answer, const char *why);

struct ask_barrier_opts {
    struct db_opts db; /* borrowed texts outlive the client */
    uint32_t threads;  /* asks at once; 0: 4 */
    ask_barrier_done_fn *done;
};

OBX_NODISCARD enum obx_code ask_barrier_create(const struct ask_barrier_opts *opts,
                                               struct ask_barrier **out, struct obx_err *err);
/** What waits is dropped without a call of done; what is in progress ends first. NULL is fine. */
void ask_barrier_destroy(struct ask_barrier *client);
/** Queue one ask; the caller bounds their number. may_decide: see barrier_ask. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code ask_barrier_start(struct ask_barrier *client, const char *gid,
                                              bool may_decide, void *ctx, struct obx_err *err);

/**
 * The ask itself, on a connection: look, else insert (gid, '', 'msg') with reason `rollback`, else
 * look again. A lock wait is CHECK_IN_PROGRESS. may_decide false: the half-message is older than
 * barrier rows are kept, so that a missing row means nothing: look only, and CHECK_UNKNOWN then.
 * Returns other than OBX_OK only with CHECK_NO_ANSWER; then the connection may be of no more use.
 */
enum obx_code barrier_ask(struct db *db, const char *gid, bool may_decide,
                          enum check_answer *answer, struct obx_err *err);

#endif
