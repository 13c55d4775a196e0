/*
 * The half-message role of a relay: store, API and check-back, made from the configuration and
 * ended in the right order. Belongs to the main thread; the threads within are the role's own.
 */
#ifndef DAEMON_HALF_ROLE_H
#define DAEMON_HALF_ROLE_H

#include "config/relay_config.h"
#include "half/api/half_http.h"
#include "half/checkback/checkback.h"
#include "half/half.h"

struct half_role;

struct half_role_opts {
    struct relay_config *config; /* a reference is taken */
    const char *owner;           /* borrowed: outlives the role */
};

/** OBX_OK with *out NULL when the configuration has no half-messages. OBX_E_SYSTEM (address),
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_role_create(const struct half_role_opts *opts,
                                             struct half_role **out, struct obx_err *err);
/** No new requests from now on; those in flight are answered. NULL is fine. */
void half_role_stop(struct half_role *role);
/** Ends all of it; waits for statements that run. NULL is fine. */
void half_role_destroy(struct half_role *role);

/** For an event loop: readable after rows went into the outbox; half_role_take_ring reads it empty.
 */
int half_role_fd(const struct half_role *role);
void half_role_take_ring(struct half_role *role);
const char *half_role_source(const struct half_role *role);
const char *half_role_outbox(const struct half_role *role);

/** A copy of all numbers. */
struct half_view {
    struct half_store_stats store;
    bool has_api;
    struct half_http_stats http;
    bool has_check;
    struct checkback_stats check;
    size_t producer_count;
    const struct check_producer *producers; /* borrowed from the role */
    struct checkback_producer_stats
        *producer_stats; /* borrowed from the role, until the next call */
};
void half_role_view(struct half_role *role, struct half_view *out);

#endif
