/*
 * The operators' alert: a POST to alert_url when messages or half-messages were parked since the
 * last one. Best effort: it is sent at most once per interval, by a thread of its own with a
 * timeout, what fails is counted and tried again with the next interval, and nobody waits for it.
 * Metrics and the log stay the source of truth.
 *
 * All calls come from the main thread. Proved by tests/unit/alert_test.c.
 */
#ifndef DAEMON_ALERT_H
#define DAEMON_ALERT_H

#include "relay_view.h"

struct alert;

struct alert_opts {
    const char *url;   /* copied */
    const char *owner; /* borrowed: outlives the alert */
    uint32_t interval_ms;
    uint32_t timeout_ms;
};

/** Start the thread. On failure *out is NULL. OBX_E_NOMEM, OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code alert_create(const struct alert_opts *opts, struct alert **out,
                                         struct obx_err *err);
/** Waits for a call in flight, at most its timeout. NULL is fine. */
void alert_destroy(struct alert *alert);
/** Look at the numbers as they are now; sends when something was parked. Never blocks. NULL is
 * fine.
 */
void alert_look(struct alert *alert, const struct relay_view *view);

struct alert_stats {
    uint64_t sent;   /* answered with 2xx */
    uint64_t failed; /* not answered, or with something else; sent again later */
};
void alert_get_stats(struct alert *alert, struct alert_stats *out);

#endif
