/*
 * The console: pages for operators, served by the relay on a port of their own. Decided in
 * docs/adr/0033-console.md; for people: docs/console.md.
 *
 * Belongs to the main thread, as the event base does. What needs a database runs on threads of the
 * console's own, each request with a connection of its own and a time limit: neither the loop nor a
 * lane ever waits for a page. Proved by tests/system/console_test.c.
 */
#ifndef CONSOLE_CONSOLE_H
#define CONSOLE_CONSOLE_H

#include "config/relay_config.h"
#include "service/http.h"

/** A lane of this relay, as it is now. Texts are borrowed. */
struct console_lane {
    const char *source, *outbox, *state;
    const char *reason; /* why it is not ready; "" */
    const char *owner;  /* who holds its lease, as last seen */
    uint64_t epoch, confirmed, inflight, retrying, parked, frozen_keys, awaiting;
    uint64_t waiting, oldest_us;
    bool waiting_capped;
};

/** This relay, as it is now. */
struct console_view {
    const char *owner, *version;
    uint64_t uptime_us;
    bool is_ready;
    char summary[512]; /* in words */
    struct console_lane *lanes;
    size_t lane_count;
};

struct console_opts {
    struct event_base *base; /* borrowed: outlives the console */
    /** Fill in the view; its lanes are good until the next call. */
    void (*get_view)(struct console_view *view, void *ctx);
    /** The configuration in force; borrowed. */
    struct relay_config *(*get_config)(void *ctx);
    void *ctx;
};

struct console;

/** Listen and start the threads. OBX_E_SYSTEM (address, threads), OBX_E_CONFIG (certificate),
 * OBX_E_NOMEM. On failure *out is NULL. */
OBX_NODISCARD enum obx_code console_create(const struct console_opts *opts, struct console **out,
                                           struct obx_err *err);
/** Waits for what the threads are at, no longer than the limit of a page. NULL is fine. */
void console_destroy(struct console *console);

#endif
