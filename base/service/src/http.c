/*
 * The HTTP server on libevent's evhttp: routing, methods, limits. Called by admin.c, which owns the
 * paths.
 */
#include "service/http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "base/alloc.h"

enum {
    HEADER_MAX = 8192,
    BODY_MAX = 4096,
    TIMEOUT_S = 5,
    ALL_METHODS = EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                  EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT |
                  EVHTTP_REQ_PATCH,
};

struct http_server {
    struct evhttp *http;
    const struct http_route *routes; /* borrowed */
    size_t route_count;
    void *ctx;
    struct http_stats stats;
};

static const char *reason_of(int status)
{
    switch (status) {
    case HTTP_OK:
        return "OK";
    case HTTP_NOTFOUND:
        return "Not Found";
    case HTTP_BADMETHOD:
        return "Method Not Allowed";
    case HTTP_SERVUNAVAIL:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

static const struct http_route *find_route(const struct http_server *server, const char *path)
{
    for (size_t i = 0; path != NULL && i < server->route_count; i++) {
        if (strcmp(server->routes[i].path, path) == 0)
            return &server->routes[i];
    }
    return NULL;
}

/* HEAD gets the length and not the body; evhttp by itself would send it. */
static int add_body(struct evhttp_request *req, const struct obx_buf *body)
{
    char length[32];

    if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
        return evbuffer_add(evhttp_request_get_output_buffer(req), body->data, body->len);
    snprintf(length, sizeof(length), "%zu", body->len);
    return evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Length", length);
}

static void send_reply(struct evhttp_request *req, const struct http_reply *reply)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    int status = reply->status;

    evhttp_add_header(headers, "Content-Type", reply->content_type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "Connection", "close");
    if (reply->body.len > 0 && add_body(req, &reply->body) != 0)
        status = HTTP_INTERNAL;
    evhttp_send_reply(req, status, reason_of(status), NULL);
}

static void send_text(struct evhttp_request *req, int status, const char *text)
{
    struct http_reply reply = {.status = status, .content_type = "text/plain; charset=utf-8"};

    /* Without memory for the sentence the status line has to do. */
    if (buf_add_text(&reply.body, text) != OBX_OK)
        buf_reset(&reply.body);
    send_reply(req, &reply);
    buf_fini(&reply.body);
}

static void run_handler(const struct http_server *server, const struct http_route *route,
                        struct evhttp_request *req)
{
    struct http_reply reply = {.status = HTTP_OK, .content_type = "text/plain; charset=utf-8"};
    enum obx_code rc = route->handle(&reply, server->ctx);

    if (rc == OBX_OK)
        send_reply(req, &reply);
    else
        send_text(req, HTTP_INTERNAL, obx_code_name(rc));
    buf_fini(&reply.body);
}

static void on_request(struct evhttp_request *req, void *ctx)
{
    struct http_server *server = ctx;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const struct http_route *route =
        find_route(server, uri == NULL ? NULL : evhttp_uri_get_path(uri));
    enum evhttp_cmd_type method = evhttp_request_get_command(req);

    server->stats.requests++;
    if (route == NULL) {
        server->stats.refused++;
        send_text(req, HTTP_NOTFOUND, "no such page\n");
    } else if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        server->stats.refused++;
        evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
        send_text(req, HTTP_BADMETHOD, "only GET and HEAD are allowed here\n");
    } else {
        run_handler(server, route, req);
    }
}

static void set_limits(struct evhttp *http)
{
    evhttp_set_max_headers_size(http, HEADER_MAX);
    evhttp_set_max_body_size(http, BODY_MAX);
    evhttp_set_timeout(http, TIMEOUT_S);
    evhttp_set_allowed_methods(http, ALL_METHODS);
}

enum obx_code http_server_create(const struct http_opts *opts, struct http_server **out,
                                 struct obx_err *err)
{
    struct http_server *server = obx_calloc(1, sizeof(*server));

    *out = NULL;
    if (server == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    server->routes = opts->routes;
    server->route_count = opts->route_count;
    server->ctx = opts->ctx;
    server->http = evhttp_new(opts->base);
    if (server->http == NULL) {
        http_server_destroy(server);
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    }
    set_limits(server->http);
    evhttp_set_gencb(server->http, on_request, server);
    errno = 0;
    if (evhttp_bind_socket(server->http, opts->address, opts->port) != 0) {
        int sys = errno;

        http_server_destroy(server);
        return obx_fail_sys(err, OBX_E_SYSTEM, sys, "cannot listen on http://%s:%u: %s",
                            opts->address, (unsigned)opts->port,
                            sys == 0 ? "not an address of this machine" : strerror(sys));
    }
    *out = server;
    return OBX_OK;
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    if (server->http != NULL)
        evhttp_free(server->http);
    obx_free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_stats *out)
{
    *out = server->stats;
}
