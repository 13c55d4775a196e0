/*
 * The console in this process: shows it the relay as it is. Belongs to the main thread.
 */
#ifndef DAEMON_CONSOLE_ROLE_H
#define DAEMON_CONSOLE_ROLE_H

#include "daemon/relay_view.h"

struct event_base;
struct relay_config;
struct console_role;

struct console_role_opts {
    struct event_base *base;
    struct relay_config *const *config; /* the one in force; borrowed: outlives the role */
    /** Fills the view as it is now; what it points to is good until the next call. */
    void (*get_view)(struct relay_view *view, void *ctx);
    void *ctx;
};

/** *out is NULL where the configuration has no console. Errors as console_create. */
OBX_NODISCARD enum obx_code console_role_create(const struct console_role_opts *opts,
                                                struct console_role **out, struct obx_err *err);
/** NULL is fine. */
void console_role_destroy(struct console_role *role);

#endif
