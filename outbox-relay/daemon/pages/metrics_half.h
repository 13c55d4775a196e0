/* Metrics of the half-message role, in the format of metrics.h. */
#ifndef DAEMON_METRICS_HALF_H
#define DAEMON_METRICS_HALF_H

#include "base/bytes.h"
#include "daemon/half_role.h"

/** Append them. A failure sticks to out. */
void metrics_half_write(const struct half_view *half, struct obx_buf *out);

#endif
