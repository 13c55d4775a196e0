/*
 * The receipts role of a relay: one reader for each source that names a receipt_queue, made from
 * the configuration, changed by a reload, ended by a stop. Belongs to the main thread; nothing here
 * waits, but for destroy.
 */
#ifndef DAEMON_RECEIPTS_ROLE_H
#define DAEMON_RECEIPTS_ROLE_H

#include "config/relay_config.h"
#include "receipts/receipts.h"

struct receipts_role;

/** No readers yet. On failure *out is NULL. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code receipts_role_create(struct receipts_role **out, struct obx_err *err);
/** Waits for readers that have not ended. NULL is fine. */
void receipts_role_destroy(struct receipts_role *role);
/** From now on the readers are to be those of config, of which a reference is taken. It happens in
 * receipts_role_turn. */
void receipts_role_apply(struct receipts_role *role, struct relay_config *config);
/** Start, stop and put away what is due; call it from time to time. */
void receipts_role_turn(struct receipts_role *role);
/** Stop all and start none any more. NULL is fine. */
void receipts_role_stop(struct receipts_role *role);
/** Whether no reader is left. NULL is idle. */
bool receipts_role_is_idle(const struct receipts_role *role);

struct receipts_view {
    const char *source; /* borrowed, until the next turn */
    struct receipts_stats stats;
};
/** The readers as they are now; good until the next call here. */
const struct receipts_view *receipts_role_views(struct receipts_role *role, size_t *count);

#endif
