/* The client on libcurl. */
#include "http_client.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "base/fail.h"

enum { BODY_MAX = 16 * 1024 * 1024, URL_MAX = 512 };

struct sink {
    struct obx_buf *body; /* the caller's */
    enum obx_code rc;
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct sink *sink = ctx;
    const size_t len = size * count;

    if (len > BODY_MAX - sink->body->len)
        sink->rc = OBX_E_FORMAT;
    else
        sink->rc = buf_add(sink->body, data, len);
    return sink->rc == OBX_OK ? len : 0;
}

static bool set_up(CURL *curl, const struct http_get_opts *opts, struct sink *sink)
{
    const bool is_v6 = strchr(opts->address, ':') != NULL && opts->address[0] != '[';
    char url[URL_MAX];
    const int len = snprintf(url, sizeof(url), "%s://%s%s%s:%u%s", opts->is_tls ? "https" : "http",
                             is_v6 ? "[" : "", opts->address, is_v6 ? "]" : "",
                             (unsigned)opts->port, opts->path);

    /* It asks its own machine and tells no secret: whether the certificate's name fits is for the
     * callers from elsewhere. No proxy of the environment, no redirects. */
    return len > 0 && len < URL_MAX && curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)opts->timeout_ms) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink) == CURLE_OK;
}

static enum obx_code code_of(CURLcode done, const struct sink *sink,
                             const struct http_get_opts *opts, struct obx_err *err)
{
    const unsigned port = opts->port;

    if (done == CURLE_OK)
        return OBX_OK;
    if (sink->rc != OBX_OK)
        return obx_fail(err, sink->rc, "answer of http://%s:%u", opts->address, port);
    if (done == CURLE_OPERATION_TIMEDOUT)
        return obx_fail(err, OBX_E_TIMEOUT, "no answer from http://%s:%u%s within %u ms",
                        opts->address, port, opts->path, (unsigned)opts->timeout_ms);
    if (done == CURLE_COULDNT_CONNECT)
        return obx_fail(err, OBX_E_SYSTEM, "nobody answers on http://%s:%u", opts->address, port);
    return obx_fail(err, OBX_E_SYSTEM, "http://%s:%u%s: %s", opts->address, port, opts->path,
                    curl_easy_strerror(done));
}

enum obx_code http_get(const struct http_get_opts *opts, int *status, struct obx_buf *body,
                       struct obx_err *err)
{
    CURL *curl = curl_easy_init();
    struct sink sink = {.body = body};
    long answered = 0;
    enum obx_code rc;

    *status = 0;
    if (curl == NULL || !set_up(curl, opts, &sink)) {
        rc = obx_fail(err, OBX_E_NOMEM, "HTTP client");
    } else {
        rc = code_of(curl_easy_perform(curl), &sink, opts, err);
        if (rc == OBX_OK)
            (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answered);
        *status = (int)answered;
    }
    curl_easy_cleanup(curl);
    return rc;
}
