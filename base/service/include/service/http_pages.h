/*
 * Pages: a table of paths that answer GET and HEAD, on the HTTP server. For /metrics and the like.
 * Belongs to the thread that runs the event base. Proved by tests/unit/http_test.c.
 */
#ifndef SERVICE_HTTP_PAGES_H
#define SERVICE_HTTP_PAGES_H

#include "service/http.h"

/** What a handler fills in. status is 200 and content_type text/plain before it runs. */
struct http_reply {
    int status;
    const char *content_type; /* static text */
    struct obx_buf body;      /* the pages free it */
};

/** Answer one request. An error code is answered with 500 and the code's name. Runs inside the
 * event loop; must not block. */
typedef enum obx_code http_page_fn(struct http_reply *reply, void *ctx);

struct http_route {
    const char *path; /* exact, "/metrics" */
    http_page_fn *handle;
};

struct http_pages_opts {
    struct http_opts http;           /* ops and ctx are the pages' own */
    const struct http_route *routes; /* borrowed: outlives the pages */
    size_t route_count;
    const char *token; /* needed as Authorization: Bearer; NULL or "": none. Copied */
    size_t open_count; /* the first so many routes are answered without it, too */
    void *ctx;         /* for the handlers */
};

struct http_pages;

/** As http_server_create. */
OBX_NODISCARD enum obx_code http_pages_create(const struct http_pages_opts *opts,
                                              struct http_pages **out, struct obx_err *err);
/** NULL is fine. */
void http_pages_destroy(struct http_pages *pages);
void http_pages_get_stats(const struct http_pages *pages, struct http_stats *out);

#endif
