/* What a consumer declares: its queue, bindings, exchanges and dead-letter queue. Blocks; for the
 * I/O thread and fail_fast. */
#ifndef CONSUMER_TOPOLOGY_H
#define CONSUMER_TOPOLOGY_H

#include "core/settings.h"

/** Declare with settings->declare_topology, otherwise verify that queue and dead-letter queue
 * exist. As bridge_topology_apply. */
OBX_NODISCARD enum obx_code topology_prepare(const struct settings *settings, struct obx_err *err);

#endif
