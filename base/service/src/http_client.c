/*
 * Calls on curl's multi interface. One call is one easy handle; finished handles are kept for
 * reuse. See service/http_client.h.
 */
#include "service/http_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
    HEADERS_MAX = 65536, /* of an answer, all lines together */
    VALUE_MAX = 128,
    US_PER_S = 1000000,
    MS_PER_S = 1000,
    DECIMAL = 10
};

struct call {
    CURL *easy;
    struct curl_slist *headers;
    http_done_fn *done; /* NULL: idle */
    void *ctx;
    uint64_t started_us;
    size_t answer_max, keep_max, body_len, header_len;
    struct obx_buf kept;
    enum obx_code rc; /* why we ended it ourselves */
    char want[VALUE_MAX];
    char value[VALUE_MAX];
    char why[CURL_ERROR_SIZE];
    SLIST_ENTRY(call) idle, all;
};

struct http_client {
    CURLM *multi;
    SLIST_HEAD(, call) idle, all;
    uint32_t max_calls, in_flight;
};

/* ---- headers ---- */

void http_headers_fini(struct http_headers *headers)
{
    buf_fini(&headers->lines);
}

enum obx_code http_headers_add(struct http_headers *headers, const char *name, const char *value)
{
    enum obx_code rc = OBX_OK;

    if (value == NULL || value[0] == '\0')
        return OBX_OK;
    if (strpbrk(value, "\r\n") != NULL) /* would be a header of its own, or the body */
        return OBX_E_INVALID;
    rc = buf_addf(&headers->lines, "%s: %s", name, value);
    return rc == OBX_OK ? buf_add(&headers->lines, "", 1) : rc;
}

static bool add_line(struct call *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->headers, line);

    if (list != NULL)
        call->headers = list;
    return list != NULL;
}

/* "Expect:" and "Accept:" take away what curl would send by itself. */
static bool add_lines(struct call *call, const struct http_request *request)
{
    const struct obx_buf *lines = request->headers == NULL ? NULL : &request->headers->lines;
    bool ok = add_line(call, "Expect:") && add_line(call, "Accept:");

    for (size_t at = 0; lines != NULL && at < lines->len && ok; at += strlen(lines->data + at) + 1)
        ok = add_line(call, lines->data + at);
    return ok;
}

/* ---- an answer ---- */

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct call *call = ctx;
    size_t len = size * count;
    size_t room = call->keep_max - call->kept.len;

    /* What is not kept is read on, so that the connection can be used again; but not for ever. */
    if (len > call->answer_max - call->body_len) {
        call->rc = OBX_E_TOO_LARGE;
        return 0;
    }
    call->body_len += len;
    call->rc = buf_add(&call->kept, data, len < room ? len : room);
    return call->rc == OBX_OK ? len : 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct call *call = ctx;
    size_t len = size * count;
    size_t name = strlen(call->want);

    call->header_len += len;
    if (call->header_len > HEADERS_MAX) {
        call->rc = OBX_E_TOO_LARGE;
        return 0;
    }
    if (name > 0 && len > name && data[name] == ':' && strncasecmp(data, call->want, name) == 0) {
        struct obx_bytes value = {data + name + 1, len - name - 1};

        (void)bytes_to_text(value, call->value, sizeof(call->value));
        call->value[strcspn(call->value, "\r\n")] = '\0';
    }
    return len;
}

static enum obx_code code_of(const struct call *call, CURLcode code)
{
    if (code == CURLE_OK)
        return OBX_OK;
    if (call->rc != OBX_OK)
        return call->rc;
    if (code == CURLE_OUT_OF_MEMORY)
        return OBX_E_NOMEM;
    return code == CURLE_OPERATION_TIMEDOUT ? OBX_E_TIMEOUT : OBX_E_SYSTEM;
}

uint64_t http_retry_after_ms(const char *value, uint64_t now_us)
{
    char *end = NULL;
    unsigned long long seconds;
    time_t date;

    value += strspn(value, " \t");
    seconds = strtoull(value, &end, DECIMAL);
    if (end != value && value[0] >= '0' && value[0] <= '9' && end[strspn(end, " \t")] == '\0')
        return seconds > UINT32_MAX ? (uint64_t)UINT32_MAX * MS_PER_S : seconds * MS_PER_S;
    date = curl_getdate(value, NULL); /* RFC 9110 has both, and servers send both */
    if (date <= 0 || (uint64_t)date * US_PER_S <= now_us)
        return 0;
    return ((uint64_t)date * US_PER_S - now_us) / MS_PER_S;
}

/* ---- a request ---- */

/* A refused option (no such protocol built in, say) shows at the transfer. */
static void set_rules(CURL *easy, const struct http_request *request)
{
    const char *agent = request->user_agent == NULL ? "rowpost" : request->user_agent;
    uint32_t connect_ms = request->connect_ms == 0 ? request->timeout_ms : request->connect_ms;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* else the resolver's time limit is a SIGALRM */
    /* Neither a proxy of the environment nor a redirect: the request, with its token or its
     * signature, goes where the configuration says and nowhere else. */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->is_unverified ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->is_unverified ? 0L : 2L);
    if (request->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
}

static bool set_method(CURL *easy, const struct http_request *request)
{
    const void *body = request->body.len > 0 ? request->body.p : "";

    if (request->method == HTTP_CONNECT_ONLY)
        return curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK;
    if (request->method == HTTP_GET)
        return true;
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    return curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body) == CURLE_OK;
}

static bool set_up(struct call *call, const struct http_request *request)
{
    /* Nothing of the call before, its token least of all, may go to another host. The connections
     * that curl keeps stay. */
    curl_easy_reset(call->easy);
    set_rules(call->easy, request);
    curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(call->easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->why);
    return set_method(call->easy, request) && add_lines(call, request) &&
           curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK &&
           curl_easy_setopt(call->easy, CURLOPT_URL, request->url) == CURLE_OK;
}

/* ---- the handles ---- */

static struct call *take_call(struct http_client *client)
{
    struct call *call = SLIST_FIRST(&client->idle);

    if (call != NULL) {
        SLIST_REMOVE_HEAD(&client->idle, idle);
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
    SLIST_INSERT_HEAD(&client->all, call, all);
    return call;
}

static void give_back(struct http_client *client, struct call *call)
{
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->done = NULL;
    buf_fini(&call->kept);
    SLIST_INSERT_HEAD(&client->idle, call, idle);
}

static void begin(struct call *call, const struct http_request *request, http_done_fn *done,
                  void *ctx)
{
    call->done = done;
    call->ctx = ctx;
    call->started_us = clock_now_us();
    call->answer_max = request->answer_max;
    call->keep_max = request->keep_max;
    call->body_len = call->header_len = 0;
    call->rc = OBX_OK;
    call->value[0] = call->why[0] = '\0';
    snprintf(call->want, sizeof(call->want), "%s",
             request->want_header == NULL ? "" : request->want_header);
}

enum obx_code http_client_start(struct http_client *client, const struct http_request *request,
                                http_done_fn *done, void *ctx, struct obx_err *err)
{
    struct call *call = NULL;

    if (client->in_flight >= client->max_calls)
        return obx_fail(err, OBX_E_FULL, "%u calls in flight", (unsigned)client->in_flight);
    call = take_call(client);
    if (call == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP call");
    begin(call, request, done, ctx);
    if (!set_up(call, request) || curl_multi_add_handle(client->multi, call->easy) != CURLM_OK) {
        give_back(client, call);
        return obx_fail(err, OBX_E_NOMEM, "HTTP call");
    }
    client->in_flight++;
    return OBX_OK;
}

/* What is reported lives in the call, which is given back only after the report: done may start
 * another one. */
static void finish(struct http_client *client, struct call *call, enum obx_code rc, const char *why)
{
    struct http_answer answer = {.rc = rc, .why = why, .header = call->value};
    http_done_fn *done = call->done;
    long status = 0;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    answer.status = status > 0 && status < 1000 ? (unsigned)status : 0;
    answer.body = buf_bytes(&call->kept);
    answer.took_us = clock_now_us() - call->started_us;
    curl_multi_remove_handle(client->multi, call->easy);
    client->in_flight--;
    call->done = NULL;
    done(&answer, call->ctx);
    give_back(client, call);
}

/* Returns how many were finished. */
static unsigned finish_all(struct http_client *client)
{
    unsigned finished = 0;
    int left = 0;
    CURLMsg *msg;

    while ((msg = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct call *call = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &call);
        finish(client, call, code_of(call, code),
               code == CURLE_OK       ? ""
               : call->why[0] != '\0' ? call->why
                                      : curl_easy_strerror(code));
        finished++;
    }
    return finished;
}

void http_client_service(struct http_client *client, int wait_ms)
{
    int running = 0;

    curl_multi_perform(client->multi, &running);
    if (finish_all(client) > 0)
        return;
    curl_multi_poll(client->multi, NULL, 0, wait_ms, NULL);
    curl_multi_perform(client->multi, &running);
    (void)finish_all(client);
}

void http_client_wake(struct http_client *client)
{
    curl_multi_wakeup(client->multi);
}

uint32_t http_client_in_flight(const struct http_client *client)
{
    return client->in_flight;
}

void http_client_cancel(struct http_client *client)
{
    struct call *call;

    SLIST_FOREACH(call, &client->all, all)
    {
        if (call->done != NULL)
            finish(client, call, OBX_E_CLOSED, "cancelled");
    }
}

/* ---- life ---- */

enum obx_code http_client_create(uint32_t max_calls, struct http_client **out, struct obx_err *err)
{
    struct http_client *client = obx_calloc(1, sizeof(*client));

    *out = NULL;
    if (client == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        obx_free(client);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    client->max_calls = max_calls;
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        http_client_destroy(client);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)max_calls);
    *out = client;
    return OBX_OK;
}

void http_client_destroy(struct http_client *client)
{
    struct call *call;

    if (client == NULL)
        return;
    while ((call = SLIST_FIRST(&client->all)) != NULL) {
        SLIST_REMOVE_HEAD(&client->all, all);
        if (call->done != NULL)
            curl_multi_remove_handle(client->multi, call->easy);
        curl_easy_cleanup(call->easy);
        curl_slist_free_all(call->headers);
        buf_fini(&call->kept);
        obx_free(call);
    }
    if (client->multi != NULL)
        curl_multi_cleanup(client->multi);
    curl_global_cleanup();
    obx_free(client);
}

enum obx_code http_client_once(const struct http_request *request, http_done_fn *done, void *ctx,
                               struct obx_err *err)
{
    enum { WAIT_MS = 1000 };
    struct http_client *client = NULL;
    enum obx_code rc = http_client_create(1, &client, err);

    if (client == NULL)
        return rc;
    rc = http_client_start(client, request, done, ctx, err);
    while (rc == OBX_OK && client->in_flight > 0)
        http_client_service(client, WAIT_MS);
    http_client_destroy(client);
    return rc;
}
