/*
 * Signals as events of the main loop: TERM and INT ask for the end, HUP for a reload, PIPE is
 * ignored. The handlers run as ordinary callbacks on the main thread.
 */
#ifndef SERVICE_SIGNALS_H
#define SERVICE_SIGNALS_H

#include "obx/err.h"

struct event_base;
struct signals;

struct signals_opts {
    struct event_base *base; /* borrowed: outlives the signals */
    void (*on_terminate)(int signal_number, void *ctx);
    void (*on_reload)(void *ctx);
    void *ctx;
};

/** From now on the signals are ours. On failure *out is NULL. OBX_E_SYSTEM, OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code signals_create(const struct signals_opts *opts, struct signals **out,
                                           struct obx_err *err);
/** Back to the defaults. NULL is fine. */
void signals_destroy(struct signals *signals);

#endif
