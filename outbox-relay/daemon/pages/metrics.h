/*
 * The relay's numbers in the text format of Prometheus. Names and labels are part of the HTTP
 * contract (docs/operations.md). No label has a value that comes from a message.
 */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "base/bytes.h"
#include "daemon/relay_view.h"

/** Append all metrics. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code metrics_write(const struct relay_view *view, struct obx_buf *out);

#endif
