/* Numbers of this process from the system: memory, CPU, file descriptors. A figure that cannot be
 * had is 0. Any thread. */
#ifndef DAEMON_PROCESS_STATS_H
#define DAEMON_PROCESS_STATS_H

#include "relay_view.h"

/** Fills all but started_wall_us. */
void process_stats_read(struct process_stats *out);

#endif
