/*
 * The running process: main thread with signals, pages and a reload; consumer, keeper and caller
 * with threads of their own.
 */
#ifndef NOTIFY_NOTIFIER_H
#define NOTIFY_NOTIFIER_H

#include "notify_config.h"

struct notifier_opts {
    struct notify_config *config; /* one reference, taken */
    const char *path;             /* to load again on SIGHUP; NULL: the environment alone */
    char *const *env;
};

/** Run until SIGTERM or SIGINT. OBX_OK: everything was finished in time, or nothing is lost. */
OBX_NODISCARD enum obx_code notifier_run(const struct notifier_opts *opts, struct obx_err *err);

#endif
