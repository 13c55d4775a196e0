/*
 * Calls on curl's multi interface. One call is one easy handle; finished handles are kept for
 * reuse, so that connections stay open. Handles are never shared with another thread. Called by
 * caller.c.
 */
#include "call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/utf8.h"

enum {
    HEADERS_MAX = 65536, /* of an answer, all lines together */
    KEPT_MAX = 120,      /* of an answer's body, for people */
    VALUE_MAX = 64,
    US_PER_S = 1000000,
    MS_PER_S = 1000,
    STATUS_OK = 200,
    STATUS_REDIRECT = 300,
    STATUS_ERROR = 400,
    STATUS_GONE = 410,
    DECIMAL = 10,
};

struct call {
    CURL *easy;
    struct curl_slist *headers;
    struct job *job;
    uint64_t started_us, now_us;
    size_t body_len, header_len;
    char kept[KEPT_MAX];
    char retry_after[VALUE_MAX];
    char why[CURL_ERROR_SIZE];
    struct call *next; /* in the list of the idle */
    struct call *all;
};

struct calls {
    struct calls_opts opts;
    CURLM *multi;
    struct call *idle, *all;
    uint32_t under_way;
};

/* ---- an answer ---- */

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct call *call = ctx;
    size_t len = size * count;
    size_t room = call->body_len < KEPT_MAX ? KEPT_MAX - call->body_len : 0;

    if (len > call->job->endpoint->max_response - call->body_len)
        return CURL_WRITEFUNC_ERROR;
    if (room > 0)
        memcpy(call->kept + call->body_len, data, len < room ? len : room);
    call->body_len += len;
    return len;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    static const char name[] = "retry-after:";
    struct call *call = ctx;
    size_t len = size * count;

    call->header_len += len;
    if (call->header_len > HEADERS_MAX)
        return 0;
    if (len > strlen(name) && strncasecmp(data, name, strlen(name)) == 0) {
        struct obx_bytes value = {data + strlen(name), len - strlen(name)};

        (void)bytes_to_text(value, call->retry_after, sizeof(call->retry_after));
        call->retry_after[strcspn(call->retry_after, "\r\n")] = '\0';
    }
    return len;
}

uint64_t retry_after_ms(const char *value, uint64_t now_us)
{
    char *end = NULL;
    unsigned long long seconds;
    time_t date;

    value += strspn(value, " \t");
    seconds = strtoull(value, &end, DECIMAL);
    if (end != value && value[0] >= '0' && value[0] <= '9' && end[strspn(end, " \t")] == '\0')
        return seconds > UINT32_MAX ? (uint64_t)UINT32_MAX * MS_PER_S : seconds * MS_PER_S;
    date = curl_getdate(value, NULL);
    if (date <= 0 || (uint64_t)date * US_PER_S <= now_us)
        return 0;
    return ((uint64_t)date * US_PER_S - now_us) / MS_PER_S;
}

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

static void judge_status(const struct call *call, struct call_result *result)
{
    size_t kept = call->body_len < KEPT_MAX ? call->body_len : KEPT_MAX;

    if (result->status >= STATUS_OK && result->status < STATUS_REDIRECT) {
        result->end = CALL_DELIVERED;
        return;
    }
    result->end = result->status == STATUS_GONE ? CALL_GONE : CALL_FAILED;
    snprintf(result->why, sizeof(result->why), "HTTP %u%s", result->status,
             result->status >= STATUS_REDIRECT && result->status < STATUS_ERROR
                 ? ", a redirect, which is not followed"
                 : "");
    if (kept > 0) {
        add_clean(result->why, sizeof(result->why), bytes_of(": "));
        add_clean(result->why, sizeof(result->why), (struct obx_bytes){call->kept, kept});
    }
}

static void judge(struct call *call, CURLcode code, struct call_result *result)
{
    uint64_t pause_ms = retry_after_ms(call->retry_after, call->now_us);
    uint32_t max_ms = call->job->endpoint->retry_after_max_ms;
    long status = 0;

    memset(result, 0, sizeof(*result));
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    result->status = status > 0 && status < MS_PER_S ? (unsigned)status : 0;
    result->took_us = clock_now_us() - call->started_us;
    result->end = CALL_FAILED;
    if (code == CURLE_OK)
        judge_status(call, result);
    else if (code == CURLE_WRITE_ERROR && call->header_len <= HEADERS_MAX)
        snprintf(result->why, sizeof(result->why), "the answer has more than %zu bytes",
                 call->job->endpoint->max_response);
    else
        add_clean(result->why, sizeof(result->why),
                  bytes_of(call->why[0] != '\0' ? call->why : curl_easy_strerror(code)));
    if (result->end == CALL_FAILED)
        result->retry_after_ms = pause_ms < max_ms ? (uint32_t)pause_ms : max_ms;
}

/* ---- a request ---- */

static bool add_line(struct call *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->headers, line);

    if (list != NULL)
        call->headers = list;
    return list != NULL;
}

/* "name: value"; nothing when the value is empty. */
static bool add_header(struct call *call, const char *name, const char *value)
{
    struct obx_buf line = {0};
    bool ok = value[0] == '\0' ||
              (buf_addf(&line, "%s: %s", name, value) == OBX_OK && add_line(call, line.data));

    buf_fini(&line);
    return ok;
}

static bool add_signature(struct call *call)
{
    const struct job *job = call->job;
    const uint64_t now_s = call->now_us / US_PER_S;
    struct obx_buf value = {0};
    char timestamp[24];
    bool ok;

    snprintf(timestamp, sizeof(timestamp), "%" PRIu64, now_s);
    ok = add_header(call, "webhook-id", job->message_id) &&
         add_header(call, "webhook-timestamp", timestamp);
    if (ok && job->endpoint->keys.count > 0)
        ok = sign_add(&value, &job->endpoint->keys, job->message_id, now_s,
                      buf_bytes(&job->body)) == OBX_OK &&
             add_header(call, "webhook-signature", value.data);
    buf_fini(&value);
    return ok;
}

static bool add_headers(struct call *call)
{
    const struct job *job = call->job;
    const char *type = job->content_type[0] != '\0' ? job->content_type : "application/json";
    const char *auth = job->endpoint->authorization;
    char attempt[16];

    snprintf(attempt, sizeof(attempt), "%" PRIu32, job->attempts + 1);
    return add_signature(call) && add_header(call, "Content-Type", type) &&
           add_header(call, "Authorization", auth == NULL ? "" : auth) &&
           add_header(call, "x-obx-topic", job->topic) &&
           add_header(call, "x-obx-ordering-key", job->ordering_key) &&
           add_header(call, "x-obx-source", job->source) &&
           add_header(call, "x-obx-created-at", job->created_at) &&
           add_header(call, "x-obx-attempt", attempt) &&
           add_header(call, "traceparent", job->traceparent) && add_line(call, "Expect:") &&
           add_line(call, "Accept:");
}

static void set_answer(struct call *call)
{
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->why);
}

/* A refused option (no such protocol built in, say) shows at the transfer. */
static void set_limits(CURL *easy, const struct endpoint_config *endpoint)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)endpoint->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)endpoint->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, endpoint->tls_verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, endpoint->tls_verify ? 2L : 0L);
    if (endpoint->tls_ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, endpoint->tls_ca_file);
}

static bool set_options(struct call *call)
{
    const struct job *job = call->job;
    CURL *easy = call->easy;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "oncebox-notify/" OBX_VERSION);
    set_limits(easy, job->endpoint);
    set_answer(call);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->body.len);
    return add_headers(call) &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDS, job->body.len > 0 ? job->body.data : "") ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_URL, job->endpoint->url) == CURLE_OK;
}

/* ---- the handles ---- */

static struct call *take_call(struct calls *calls)
{
    struct call *call = calls->idle;

    if (call != NULL) {
        calls->idle = call->next;
        return call;
    }
    call = obx_calloc(1, sizeof(*call));
    if (call == NULL)
        return NULL;
    call->easy = curl_easy_init();
    if (call->easy == NULL) {
        obx_free(call);
        return NULL;
    }
    call->all = calls->all;
    calls->all = call;
    return call;
}

static void give_back(struct calls *calls, struct call *call)
{
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->job = NULL;
    call->next = calls->idle;
    calls->idle = call;
}

enum obx_code call_start(struct calls *calls, struct job *job, uint64_t now_us, struct obx_err *err)
{
    struct call *call;

    if (calls->under_way >= calls->opts.max_calls)
        return obx_fail(err, OBX_E_FULL, "%" PRIu32 " calls under way", calls->under_way);
    call = take_call(calls);
    if (call == NULL)
        return obx_fail(err, OBX_E_NOMEM, "call");
    call->job = job;
    call->now_us = now_us;
    call->started_us = clock_now_us();
    call->body_len = call->header_len = 0;
    call->why[0] = call->retry_after[0] = '\0';
    if (!set_options(call) || curl_multi_add_handle(calls->multi, call->easy) != CURLM_OK) {
        give_back(calls, call);
        return obx_fail(err, OBX_E_NOMEM, "call");
    }
    calls->under_way++;
    return OBX_OK;
}

static void finish(struct calls *calls, struct call *call, CURLcode code)
{
    struct job *job = call->job;

    judge(call, code, &job->result);
    curl_multi_remove_handle(calls->multi, call->easy);
    calls->under_way--;
    give_back(calls, call);
    calls->opts.done(job, calls->opts.ctx);
}

/* Returns how many were finished. */
static unsigned finish_all(struct calls *calls)
{
    unsigned finished = 0;
    int left = 0;
    CURLMsg *msg;

    while ((msg = curl_multi_info_read(calls->multi, &left)) != NULL) {
        struct call *call = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &call);
        finish(calls, call, code);
        finished++;
    }
    return finished;
}

void calls_service(struct calls *calls, int wait_ms)
{
    int running = 0;

    curl_multi_perform(calls->multi, &running);
    if (finish_all(calls) > 0)
        return;
    curl_multi_poll(calls->multi, NULL, 0, wait_ms, NULL);
    curl_multi_perform(calls->multi, &running);
    (void)finish_all(calls);
}

void calls_wake(struct calls *calls)
{
    curl_multi_wakeup(calls->multi);
}

uint32_t calls_under_way(const struct calls *calls)
{
    return calls->under_way;
}

enum obx_code calls_create(const struct calls_opts *opts, struct calls **out, struct obx_err *err)
{
    struct calls *calls = obx_calloc(1, sizeof(*calls));

    *out = NULL;
    if (calls == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        obx_free(calls);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    calls->opts = *opts;
    calls->multi = curl_multi_init();
    if (calls->multi == NULL) {
        calls_destroy(calls);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    curl_multi_setopt(calls->multi, CURLMOPT_MAXCONNECTS, (long)opts->max_calls);
    *out = calls;
    return OBX_OK;
}

void calls_cancel(struct calls *calls)
{
    for (struct call *call = calls->all; call != NULL; call = call->all) {
        struct job *job = call->job;

        if (job == NULL)
            continue;
        curl_multi_remove_handle(calls->multi, call->easy);
        calls->under_way--;
        give_back(calls, call);
        job->result = (struct call_result){.end = CALL_NOT_MADE};
        calls->opts.done(job, calls->opts.ctx);
    }
}

void calls_destroy(struct calls *calls)
{
    struct call *next;

    if (calls == NULL)
        return;
    OBX_ASSERT(calls->under_way == 0);
    for (struct call *call = calls->all; call != NULL; call = next) {
        next = call->all;
        curl_easy_cleanup(call->easy);
        obx_free(call);
    }
    if (calls->multi != NULL)
        curl_multi_cleanup(calls->multi);
    curl_global_cleanup();
    obx_free(calls);
}
