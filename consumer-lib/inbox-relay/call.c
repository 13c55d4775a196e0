/*
 * Calls: what is sent to an endpoint, and what its answer means. Called by caller.c, on its thread.
 *
 * The form is that of Standard Webhooks: webhook-id is the message's id and the same at each try, so
 * that a receiver can tell a repetition; webhook-timestamp is of this try, so that an old call that
 * somebody has recorded is refused; the signature covers both and the body, byte for byte.
 */
#include "call.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/utf8.h"
#include "service/http_client.h"

enum {
    KEPT_MAX = 120, /* of an answer's body, for people */
    US_PER_S = 1000000,
    STATUS_OK = 200,
    STATUS_REDIRECT = 300,
    STATUS_ERROR = 400,
    STATUS_GONE = 410,
};

struct call {
    struct calls *calls;
    struct job *job;
    uint64_t now_us;
};

struct calls {
    struct calls_opts opts;
    struct http_client *client;
};

/* ---- an answer ---- */

/* A text of the outside as one that can be stored and shown. */
static void add_clean(char *dst, size_t size, struct obx_bytes text)
{
    size_t at = strlen(dst);

    while (text.len > 0) {
        uint32_t cp = 0;
        size_t len = utf8_next(text, &cp);
        bool is_shown = len > 0 && cp >= ' ' && cp != 0x7F;
        size_t need = is_shown ? len : 1;

        if (need >= size - at)
            break;
        if (is_shown)
            memcpy(dst + at, text.p, len);
        else
            dst[at] = ' ';
        at += need;
        dst[at] = '\0';
        len = len == 0 ? 1 : len;
        text = (struct obx_bytes){(const char *)text.p + len, text.len - len};
    }
}

static void judge_status(const struct http_answer *answer, struct call_result *result)
{
    /* Any 2xx: frameworks answer 202 or 204 where nobody thinks about it. A redirect is a failure and
     * not followed: the body and its signature are for the configured address and no other. */
    if (result->status >= STATUS_OK && result->status < STATUS_REDIRECT) {
        result->end = CALL_DELIVERED;
        return;
    }
    result->end = result->status == STATUS_GONE ? CALL_GONE : CALL_FAILED;
    snprintf(result->why, sizeof(result->why), "HTTP %u%s", result->status,
             result->status >= STATUS_REDIRECT && result->status < STATUS_ERROR
                 ? ", a redirect, which is not followed"
                 : "");
    if (answer->body.len > 0) {
        add_clean(result->why, sizeof(result->why), bytes_of(": "));
        add_clean(result->why, sizeof(result->why), answer->body);
    }
}

static void judge(const struct call *call, const struct http_answer *answer,
                  struct call_result *result)
{
    uint64_t pause_ms = http_retry_after_ms(answer->header, call->now_us);
    uint32_t max_ms = call->job->endpoint->retry_after_max_ms;

    memset(result, 0, sizeof(*result));
    result->status = answer->status;
    result->took_us = answer->took_us;
    result->end = CALL_FAILED;
    /* Cut off by ourselves: the endpoint has done nothing wrong, and no attempt is counted. It may
     * have got the call all the same; the next one has the same id. */
    if (answer->rc == OBX_E_CLOSED)
        result->end = CALL_NOT_MADE;
    else if (answer->rc == OBX_OK)
        judge_status(answer, result);
    else if (answer->rc == OBX_E_TOO_LARGE)
        snprintf(result->why, sizeof(result->why), "the answer has more than %zu bytes",
                 call->job->endpoint->max_response);
    else
        add_clean(result->why, sizeof(result->why), bytes_of(answer->why));
    if (result->end == CALL_FAILED)
        result->retry_after_ms = pause_ms < max_ms ? (uint32_t)pause_ms : max_ms;
}

static void on_done(const struct http_answer *answer, void *ctx)
{
    struct call *call = ctx;
    struct calls *calls = call->calls;
    struct job *job = call->job;

    judge(call, answer, &job->result);
    obx_free(call); /* before the callback, which may start the next one in its place */
    calls->opts.done(job, calls->opts.ctx);
}

/* ---- a request ---- */

/* Of the body as it came: a JSON that was parsed and printed again would be another text, and the
 * receiver's check would fail. */
static enum obx_code add_signature(struct http_headers *headers, const struct job *job,
                                   uint64_t now_s)
{
    struct obx_buf value = {0};
    char timestamp[24];
    enum obx_code rc = http_headers_add(headers, "webhook-id", job->message_id);

    snprintf(timestamp, sizeof(timestamp), "%" PRIu64, now_s);
    if (rc == OBX_OK)
        rc = http_headers_add(headers, "webhook-timestamp", timestamp);
    if (rc == OBX_OK && job->endpoint->keys.count > 0) {
        rc = sign_add(&value, &job->endpoint->keys, job->message_id, now_s, buf_bytes(&job->body));
        if (rc == OBX_OK)
            rc = http_headers_add(headers, "webhook-signature", value.data);
    }
    buf_fini(&value);
    return rc;
}

static enum obx_code add_headers(struct http_headers *headers, const struct job *job,
                                 uint64_t now_s)
{
    char attempt[16];
    const struct {
        const char *name, *value;
    } lines[] = {
        {"Content-Type", job->content_type[0] != '\0' ? job->content_type : "application/json"},
        {"Authorization", job->endpoint->authorization},
        {"x-obx-topic", job->topic},
        {"x-obx-ordering-key", job->ordering_key},
        {"x-obx-source", job->source},
        {"x-obx-created-at", job->created_at},
        {"x-obx-attempt", attempt},
        {"traceparent", job->traceparent},
    };
    enum obx_code rc = add_signature(headers, job, now_s);

    snprintf(attempt, sizeof(attempt), "%" PRIu32, job->attempts + 1);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && rc == OBX_OK; i++)
        rc = http_headers_add(headers, lines[i].name, lines[i].value);
    return rc;
}

static enum obx_code start(struct call *call, struct obx_err *err)
{
    const struct job *job = call->job;
    const struct endpoint_config *endpoint = job->endpoint;
    struct http_headers headers = {0};
    const struct http_request request = {.method = HTTP_POST,
                                         .url = endpoint->url,
                                         .headers = &headers,
                                         .body = buf_bytes(&job->body),
                                         .timeout_ms = endpoint->timeout_ms,
                                         .connect_ms = endpoint->connect_timeout_ms,
                                         .answer_max = endpoint->max_response,
                                         .keep_max = KEPT_MAX,
                                         .want_header = "retry-after",
                                         .user_agent = "rowpost-notify/" OBX_VERSION,
                                         .ca_file = endpoint->tls_ca_file,
                                         .is_unverified = !endpoint->tls_verify};
    enum obx_code rc = add_headers(&headers, job, call->now_us / US_PER_S);

    rc = rc == OBX_OK ? http_client_start(call->calls->client, &request, on_done, call, err)
                      : obx_fail(err, rc, "call");
    http_headers_fini(&headers);
    return rc;
}

enum obx_code call_start(struct calls *calls, struct job *job, uint64_t now_us, struct obx_err *err)
{
    struct call *call = obx_calloc(1, sizeof(*call));
    enum obx_code rc;

    if (call == NULL)
        return obx_fail(err, OBX_E_NOMEM, "call");
    *call = (struct call){.calls = calls, .job = job, .now_us = now_us};
    rc = start(call, err);
    if (rc != OBX_OK)
        obx_free(call);
    return rc;
}

/* ---- the client ---- */

void calls_service(struct calls *calls, int wait_ms)
{
    http_client_service(calls->client, wait_ms);
}

void calls_wake(struct calls *calls)
{
    http_client_wake(calls->client);
}

uint32_t calls_in_flight(const struct calls *calls)
{
    return http_client_in_flight(calls->client);
}

enum obx_code calls_create(const struct calls_opts *opts, struct calls **out, struct obx_err *err)
{
    struct calls *calls = obx_calloc(1, sizeof(*calls));
    enum obx_code rc;

    *out = NULL;
    if (calls == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    calls->opts = *opts;
    rc = http_client_create(opts->max_calls, &calls->client, err);
    if (rc != OBX_OK) {
        obx_free(calls);
        return rc;
    }
    *out = calls;
    return OBX_OK;
}

void calls_cancel(struct calls *calls)
{
    http_client_cancel(calls->client);
}

void calls_destroy(struct calls *calls)
{
    if (calls == NULL)
        return;
    OBX_ASSERT(http_client_in_flight(calls->client) == 0);
    http_client_destroy(calls->client);
    obx_free(calls);
}
