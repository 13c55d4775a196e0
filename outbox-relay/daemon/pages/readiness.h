/* Whether lanes and relay do their work, and if not, why; the one place that decides it, for
 * /readyz, /status and metrics. */
#ifndef DAEMON_READINESS_H
#define DAEMON_READINESS_H

#include "daemon/relay_view.h"

/**
 * Ready is: owner with the broker up and nothing wrong, or a sound standby. Otherwise reason (size
 * bytes) gets one sentence; it is empty when ready.
 */
bool lane_view_is_ready(const struct lane_view *lane, char *reason, size_t size);
/** Whether all lanes are ready, the topology is there and the relay is not stopping. */
bool relay_view_is_ready(const struct relay_view *view);
/** The same, with one line for people: "3 lanes ready", or the first thing that is not. */
bool relay_view_summary(const struct relay_view *view, char *text, size_t size);

#endif
