/*
 * A small HTTP server for the main loop: a table of paths that answer GET (and HEAD). It knows
 * nothing of the relay. Everything is bounded: the head of a request has at most 8 KiB, a body is
 * not read, a connection serves one request and lives five seconds, whatever the peer does, and
 * there are 64 at once: one more, and the oldest has to go. Belongs to the thread that runs the
 * event base. Proved by tests/unit/http_test.c, tests/system/relay_pages_test.c.
 */
#ifndef SERVICE_HTTP_H
#define SERVICE_HTTP_H

#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"

struct event_base;
struct http_server;

/** What a handler fills in. status is 200 and content_type text/plain before it runs. */
struct http_reply {
    int status;
    const char *content_type; /* static text */
    struct obx_buf body;      /* the server frees it */
};

/** Answer one request. An error code is answered with 500 and the code's name. Runs inside the
 * event loop; must not block. */
typedef enum obx_code http_handler_fn(struct http_reply *reply, void *ctx);

struct http_route {
    const char *path; /* exact, "/metrics" */
    http_handler_fn *handle;
};

struct http_opts {
    struct event_base *base; /* borrowed: outlives the server */
    const char *address;
    uint16_t port;
    const struct http_route *routes; /* borrowed: outlives the server */
    size_t route_count;
    void *ctx; /* for the handlers */
};

/** Listen. On failure *out is NULL. OBX_E_SYSTEM (address in use, not ours, no permission),
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code http_server_create(const struct http_opts *opts,
                                               struct http_server **out, struct obx_err *err);
/** Stop listening and close all connections. NULL is fine. */
void http_server_destroy(struct http_server *server);

struct http_stats {
    uint64_t requests; /* that reached us whole, errors included */
    uint64_t refused;  /* answered with 4xx or 505 */
    uint64_t cut_off;  /* connections whose time was over, or that had to make room */
};
void http_server_get_stats(const struct http_server *server, struct http_stats *out);

#endif
