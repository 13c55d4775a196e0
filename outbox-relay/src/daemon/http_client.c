/*
 * The client on libevent's evhttp, with a loop of its own that ends with the answer or with the
 * deadline.
 */
#include "http_client.h"

#include <stdbool.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

enum { BODY_MAX = 16 * 1024 * 1024, HEADER_MAX = 16384, MS_PER_S = 1000, US_PER_MS = 1000 };

struct exchange {
    struct event_base *base;
    struct obx_buf *body; /* the caller's */
    int status;           /* 0 until an answer came */
    enum obx_code rc;
};

static void on_answer(struct evhttp_request *req, void *ctx)
{
    struct exchange *x = ctx;
    struct evbuffer *in = req == NULL ? NULL : evhttp_request_get_input_buffer(req);

    x->status = req == NULL ? 0 : evhttp_request_get_response_code(req);
    if (in != NULL && evbuffer_get_length(in) > 0) {
        size_t len = evbuffer_get_length(in);
        unsigned char *p = evbuffer_pullup(in, -1);

        x->rc = p == NULL ? OBX_E_NOMEM : buf_add(x->body, p, len);
    }
    event_base_loopbreak(x->base);
}

static enum obx_code send_request(struct evhttp_connection *conn, struct exchange *x,
                                  const struct http_get_opts *opts, struct obx_err *err)
{
    struct evhttp_request *req = evhttp_request_new(on_answer, x);

    if (req == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP request");
    evhttp_add_header(evhttp_request_get_output_headers(req), "Host", opts->address);
    evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
    /* The connection owns the request from here, on failure too. */
    if (evhttp_make_request(conn, req, EVHTTP_REQ_GET, opts->path) != 0)
        return obx_fail(err, OBX_E_SYSTEM, "cannot ask http://%s:%u%s", opts->address,
                        (unsigned)opts->port, opts->path);
    return OBX_OK;
}

static enum obx_code run(struct evhttp_connection *conn, struct exchange *x,
                         const struct http_get_opts *opts, struct obx_err *err)
{
    const struct timeval timeout = {.tv_sec = opts->timeout_ms / MS_PER_S,
                                    .tv_usec =
                                        (suseconds_t)(opts->timeout_ms % MS_PER_S) * US_PER_MS};
    enum obx_code rc;

    evhttp_connection_set_max_body_size(conn, BODY_MAX);
    evhttp_connection_set_max_headers_size(conn, HEADER_MAX);
    evhttp_connection_set_timeout_tv(conn, &timeout);
    rc = send_request(conn, x, opts, err);
    if (rc != OBX_OK)
        return rc;
    event_base_loopexit(x->base, &timeout);
    event_base_dispatch(x->base);
    if (event_base_got_exit(x->base) && x->status == 0)
        return obx_fail(err, OBX_E_TIMEOUT, "no answer from http://%s:%u%s within %u ms",
                        opts->address, (unsigned)opts->port, opts->path,
                        (unsigned)opts->timeout_ms);
    if (x->status == 0)
        return obx_fail(err, OBX_E_SYSTEM, "nobody answers on http://%s:%u", opts->address,
                        (unsigned)opts->port);
    return x->rc == OBX_OK ? OBX_OK : obx_fail(err, x->rc, "answer of http://%s", opts->address);
}

enum obx_code http_get(const struct http_get_opts *opts, int *status, struct obx_buf *body,
                       struct obx_err *err)
{
    struct exchange x = {.base = event_base_new(), .body = body};
    struct evhttp_connection *conn = NULL;
    enum obx_code rc;

    *status = 0;
    if (x.base != NULL)
        conn = evhttp_connection_base_new(x.base, NULL, opts->address, opts->port);
    if (conn == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "HTTP client");
    else
        rc = run(conn, &x, opts, err);
    if (conn != NULL)
        evhttp_connection_free(conn);
    if (x.base != NULL)
        event_base_free(x.base);
    *status = x.status;
    return rc;
}
