/*
 * A reload: the new configuration is loaded and checked whole; then it is put in the place of the
 * old one, or the old one stays and the log says precisely why. Main thread.
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include "relay.h"
#include "topology_task.h"

struct reload_counts {
    uint64_t taken;
    uint64_t refused;
    bool restart_needed; /* some change of a taken one waits for a restart */
};

struct reload {
    struct relay_config **config; /* in force; replaced on success, the reference goes with it */
    const char *path;             /* NULL: the environment alone */
    char *const *env;
    struct relay *relay;
    struct topology_task *topology;
    struct reload_counts *counts;
};

void reload_run(const struct reload *reload);

#endif
