/*
 * The barrier for TCC participants: Try, Confirm and Cancel arrive as messages, in any order, more
 * than once, or not at all.
 *
 * Called first in a handler, on the handler's transaction, so that the barrier row and the
 * handler's writes commit together. The table half_barrier (sql/schema/barrier_0001_barrier.sql)
 * must be in the consumer's database. The rules: a Cancel without its Try does nothing and keeps
 * the Try out for ever (null compensation, no hanging); a second Try, Confirm or Cancel does
 * nothing. Proved by tests/system/tcc_test.c.
 *
 * A producer whose half-message is checked through the barrier needs no call: the first statement
 * of its local transaction is `INSERT INTO half_barrier (gid) VALUES (?)`; error 1062 means that the
 * check was first, so it must roll back.
 */
#ifndef OBX_BARRIER_H
#define OBX_BARRIER_H

#include "obx/consumer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a participant's handler does after asking the barrier. */
enum obx_barrier {
    OBX_BARRIER_GO,     /**< do the work of this step in this transaction */
    OBX_BARRIER_REPEAT, /**< done before: answer OBX_APPLIED and do nothing */
    OBX_BARRIER_NONE,   /**< a Cancel whose Try never ran: answer OBX_APPLIED and do nothing */
    OBX_BARRIER_REFUSED /**< a Try after its Cancel, a Confirm without a Try, or a Confirm and a
                           Cancel of one branch: do nothing, answer OBX_REJECT */
};

/**
 * Ask the barrier before reserving (Try), using (Confirm) or giving back (Cancel) for one branch of
 * a global transaction.
 *
 * On success *answer says what to do; the barrier row is part of the handler's transaction. gid: 1
 * to 128, branch: 0 to 64 bytes of ASCII, borrowed. After an error the handler answers OBX_RETRY;
 * errors as obx_tx_exec.
 * @thread  the handler's, during its call
 */
OBX_NODISCARD OBX_API enum obx_code obx_barrier_try(struct obx_tx *tx, struct obx_bytes gid,
                                                    const char *branch, enum obx_barrier *answer,
                                                    struct obx_err *err);
/** See obx_barrier_try. @thread the handler's */
OBX_NODISCARD OBX_API enum obx_code obx_barrier_confirm(struct obx_tx *tx, struct obx_bytes gid,
                                                        const char *branch,
                                                        enum obx_barrier *answer,
                                                        struct obx_err *err);
/** See obx_barrier_try. @thread the handler's */
OBX_NODISCARD OBX_API enum obx_code obx_barrier_cancel(struct obx_tx *tx, struct obx_bytes gid,
                                                       const char *branch, enum obx_barrier *answer,
                                                       struct obx_err *err);

#ifdef __cplusplus
}
#endif

#endif
