/*
 * The relay's pages: /healthz, /readyz, /metrics and /status. Belongs to the main thread.
 */
#ifndef DAEMON_ADMIN_H
#define DAEMON_ADMIN_H

#include "daemon/relay_view.h"
#include "service/http.h"

struct admin_opts {
    struct http_opts http; /* ops and ctx are the pages' own */
    const char *token;     /* for /metrics and /status; NULL or "": none is needed */
    /** Fills the view as it is now; what it points to is good until the handler returns. */
    void (*get_view)(struct relay_view *view, void *ctx);
    void *ctx;
};

struct admin;

/** Listen. Errors as http_server_create. On failure *out is NULL. */
OBX_NODISCARD enum obx_code admin_create(const struct admin_opts *opts, struct admin **out,
                                         struct obx_err *err);
/** NULL is fine. */
void admin_destroy(struct admin *admin);
void admin_get_stats(const struct admin *admin, struct http_stats *out);

#endif
