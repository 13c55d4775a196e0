/*
 * The running relay: one event loop with signals, HTTP, doorbell and the set of lanes around it.
 * This is the main thread's whole work; it touches neither MySQL nor AMQP and waits for nobody.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "config/relay_config.h"

struct daemon_opts {
    struct relay_config *config; /* the daemon takes a reference of its own */
    const char
        *config_path; /* for reloads; NULL: the environment alone. Borrowed: outlives the call */
    char *const *env; /* for reloads */
};

/**
 * Run until a signal ends it.
 *
 * Success means that every lane was drained or had nothing to drain. A second signal ends the
 * process within the call (exit status 1), as does a lane that does not end in time.
 * @return OBX_OK; OBX_E_CONFIG - a socket or address cannot be used as configured; OBX_E_SYSTEM,
 * OBX_E_NOMEM - it could not be started
 */
OBX_NODISCARD enum obx_code daemon_run(const struct daemon_opts *opts, struct obx_err *err);

#endif
