/* Metrics of the receipts role. Called by metrics.c, on the main thread. */
#ifndef DAEMON_METRICS_RECEIPTS_H
#define DAEMON_METRICS_RECEIPTS_H

#include "base/bytes.h"
#include "daemon/receipts_role.h"

/** Append the numbers of all readers. OBX_E_NOMEM: some of it may be there. */
OBX_NODISCARD enum obx_code metrics_receipts_write(const struct receipts_view *views, size_t count,
                                                   struct obx_buf *buf);

#endif
