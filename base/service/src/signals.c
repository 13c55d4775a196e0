/* Signal events on libevent's evsignal, for the main loops of the two daemons. */
#include "service/signals.h"

#include <signal.h>
#include <string.h>

#include <event2/event.h>

#include "base/alloc.h"

enum { SIGNAL_COUNT = 3 };

static const int signal_numbers[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};

struct signals {
    struct signals_opts opts;
    struct event *events[SIGNAL_COUNT];
};

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct signals *signals = ctx;

    (void)what;
    if (number == SIGHUP)
        signals->opts.on_reload(signals->opts.ctx);
    else
        signals->opts.on_terminate((int)number, signals->opts.ctx);
}

enum obx_code signals_create(const struct signals_opts *opts, struct signals **out,
                             struct obx_err *err)
{
    struct signals *signals = obx_calloc(1, sizeof(*signals));
    struct sigaction ignore;

    *out = NULL;
    if (signals == NULL)
        return obx_fail(err, OBX_E_NOMEM, "signals");
    signals->opts = *opts;
    /* A peer that hangs up while we write is an error of that write, not the end of the process.
     * The libraries, TLS among them, write without MSG_NOSIGNAL. */
    memset(&ignore, 0, sizeof(ignore));
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, NULL);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        signals->events[i] = evsignal_new(opts->base, signal_numbers[i], on_signal, signals);
        if (signals->events[i] == NULL || event_add(signals->events[i], NULL) != 0) {
            signals_destroy(signals);
            return obx_fail(err, OBX_E_SYSTEM, "cannot handle signal %d", signal_numbers[i]);
        }
    }
    *out = signals;
    return OBX_OK;
}

void signals_destroy(struct signals *signals)
{
    if (signals == NULL)
        return;
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (signals->events[i] != NULL)
            event_free(signals->events[i]);
    }
    obx_free(signals);
}
