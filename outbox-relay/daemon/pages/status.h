/*
 * The relay's state as JSON, for /readyz, /status and so for `outboxctl status`. The members are
 * part of the HTTP contract (docs/operations.md): new ones may come, none changes its meaning.
 */
#ifndef DAEMON_STATUS_H
#define DAEMON_STATUS_H

#include "base/bytes.h"
#include "daemon/relay_view.h"

/** Append {"ready": ..., "reason": ..., "lanes": [{source, outbox, ready, state, reason}]} and a
 * newline. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code status_write_readiness(const struct relay_view *view,
                                                   struct obx_buf *out);
/** Append everything there is to know. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code status_write(const struct relay_view *view, struct obx_buf *out);

#endif
