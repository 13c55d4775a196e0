/* The GET, by the rules of service/http_client.h. */
#include "service/http_get.h"

#include <stdio.h>
#include <string.h>

#include "service/http_client.h"

enum { BODY_MAX = 16 * 1024 * 1024, URL_MAX = 512, WHY_MAX = 256 };

/* What came of it. */
struct outcome {
    struct obx_buf *body; /* the caller's */
    int status;
    enum obx_code rc;
    char why[WHY_MAX];
};

static void on_done(const struct http_answer *answer, void *ctx)
{
    struct outcome *outcome = ctx;

    outcome->rc = answer->rc == OBX_E_TOO_LARGE ? OBX_E_FORMAT : answer->rc;
    outcome->status = answer->rc == OBX_OK ? (int)answer->status : 0;
    snprintf(outcome->why, sizeof(outcome->why), "%s", answer->why);
    if (answer->rc == OBX_OK)
        outcome->rc = buf_add(outcome->body, answer->body.p, answer->body.len);
}

static enum obx_code say(const struct outcome *outcome, const struct http_get_opts *opts,
                         struct obx_err *err)
{
    const unsigned port = opts->port;

    if (outcome->rc == OBX_OK)
        return OBX_OK;
    if (outcome->rc == OBX_E_TIMEOUT)
        return obx_fail(err, OBX_E_TIMEOUT, "no answer from http://%s:%u%s within %u ms",
                        opts->address, port, opts->path, (unsigned)opts->timeout_ms);
    if (outcome->rc == OBX_E_SYSTEM && strstr(outcome->why, "connect") != NULL)
        return obx_fail(err, OBX_E_SYSTEM, "nobody answers on http://%s:%u", opts->address, port);
    return obx_fail(err, outcome->rc, "http://%s:%u%s: %s", opts->address, port, opts->path,
                    outcome->why);
}

/* It asks its own machine, and tells it no secret but the token of that very port: whether the
 * certificate's name fits is for the callers from elsewhere. */
enum obx_code http_get(const struct http_get_opts *opts, int *status, struct obx_buf *body,
                       struct obx_err *err)
{
    const bool is_v6 = strchr(opts->address, ':') != NULL && opts->address[0] != '[';
    char url[URL_MAX];
    const int len = snprintf(url, sizeof(url), "%s://%s%s%s:%u%s", opts->is_tls ? "https" : "http",
                             is_v6 ? "[" : "", opts->address, is_v6 ? "]" : "",
                             (unsigned)opts->port, opts->path);
    struct http_headers headers = {0};
    struct obx_buf bearer = {0};
    const struct http_request request = {.method = HTTP_GET,
                                         .url = url,
                                         .headers = &headers,
                                         .timeout_ms = opts->timeout_ms,
                                         .answer_max = BODY_MAX,
                                         .keep_max = BODY_MAX,
                                         .is_unverified = true};
    struct outcome outcome = {.body = body};
    enum obx_code rc = OBX_OK;

    *status = 0;
    if (len < 0 || len >= URL_MAX)
        return obx_fail(err, OBX_E_INVALID, "address %s", opts->address);
    if (opts->token != NULL && opts->token[0] != '\0') {
        buf_addf(&bearer, "Bearer %s", opts->token);
        rc = bearer.rc != OBX_OK ? bearer.rc
                                 : http_headers_add(&headers, "Authorization", bearer.data);
    }
    rc = rc == OBX_OK ? http_client_once(&request, on_done, &outcome, err)
                      : obx_fail(err, rc, "token");
    *status = outcome.status;
    http_headers_fini(&headers);
    buf_fini(&bearer);
    return rc == OBX_OK ? say(&outcome, opts, err) : rc;
}
