/*
 * The HTTP asker on curl's multi interface. One `ask` is one easy handle; finished handles are kept
 * for reuse, so that connections stay open towards a producer that is asked often. Handles are
 * never shared with another thread.
 */
#include "half/ask_http.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/bytes.h"

#define HEADERS_MAX 16384 /* of an answer, all lines together */

struct ask {
    CURL *easy;
    struct curl_slist *headers;
    char body[CHECK_ANSWER_MAX + 1];
    size_t body_len, header_len;
    char why[CURL_ERROR_SIZE];
    ask_done_fn *done;
    void *ctx;
    struct ask *next; /* in the list of the idle */
    struct ask *all;
};

struct ask_http {
    CURLM *multi;
    struct ask *idle, *all;
    uint32_t count, under_way, max_asks;
};

/* One byte too many is kept, so that the parser sees that the answer is too long; then the transfer
 * ends. */
static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct ask *ask = ctx;
    size_t len = size * count;
    size_t room = sizeof(ask->body) - ask->body_len;
    size_t take = len < room ? len : room;

    memcpy(ask->body + ask->body_len, data, take);
    ask->body_len += take;
    return ask->body_len > CHECK_ANSWER_MAX ? CURL_WRITEFUNC_ERROR : len;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct ask *ask = ctx;

    (void)data;
    ask->header_len += size * count;
    return ask->header_len > HEADERS_MAX ? 0 : size * count;
}

static void free_ask(struct ask *ask)
{
    if (ask->easy != NULL)
        curl_easy_cleanup(ask->easy);
    curl_slist_free_all(ask->headers);
    obx_free(ask);
}

static struct ask *take_ask(struct ask_http *asker)
{
    struct ask *ask = asker->idle;

    if (ask != NULL) {
        asker->idle = ask->next;
        return ask;
    }
    ask = obx_calloc(1, sizeof(*ask));
    if (ask == NULL)
        return NULL;
    ask->easy = curl_easy_init();
    if (ask->easy == NULL) {
        obx_free(ask);
        return NULL;
    }
    ask->all = asker->all;
    asker->all = ask;
    asker->count++;
    return ask;
}

static void give_back(struct ask_http *asker, struct ask *ask)
{
    curl_slist_free_all(ask->headers);
    ask->headers = NULL;
    ask->next = asker->idle;
    asker->idle = ask;
}

/* The gid's alphabet needs no escaping in a URL (half_gid_is_valid); anything else is refused here
 * too. */
static enum obx_code add_gid(struct obx_buf *url, const char *gid)
{
    if (*gid == '\0' ||
        gid[strspn(gid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:~")] !=
            '\0')
        return OBX_E_INVALID;
    return buf_add_text(url, gid);
}

static enum obx_code build_url(struct obx_buf *url, const char *pattern, const char *gid)
{
    const char *hole = strstr(pattern, "{gid}");
    enum obx_code rc;

    if (hole == NULL) {
        rc = buf_addf(url, "%s%cgid=", pattern, strchr(pattern, '?') == NULL ? '?' : '&');
        return rc == OBX_OK ? add_gid(url, gid) : rc;
    }
    rc = buf_add(url, pattern, (size_t)(hole - pattern));
    if (rc == OBX_OK)
        rc = add_gid(url, gid);
    return rc == OBX_OK ? buf_add_text(url, hole + strlen("{gid}")) : rc;
}

static bool add_header(struct ask *ask, const char *line)
{
    struct curl_slist *list = curl_slist_append(ask->headers, line);

    if (list == NULL)
        return false;
    ask->headers = list;
    return true;
}

static bool add_token(struct ask *ask, const char *token)
{
    struct obx_buf line = {0};
    bool ok = token == NULL || (buf_addf(&line, "Authorization: Bearer %s", token) == OBX_OK &&
                                add_header(ask, line.data));

    buf_fini(&line);
    return ok;
}

/* Set what differs from curl's defaults. A refused option (no such protocol built in, say) shows at
 * the transfer. */
static bool set_options(struct ask *ask, const struct ask_target *target, const char *url)
{
    CURL *easy = ask->easy;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, ask);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)target->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)target->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, ask);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, ask);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, ask->why);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "oncebox-check-back");
    if (target->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, target->ca_file);
    return add_header(ask, "Accept: application/json") && add_token(ask, target->token) &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, ask->headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK;
}

enum obx_code ask_http_start(struct ask_http *asker, const struct ask_target *target,
                             const char *gid, ask_done_fn *done, void *ctx, struct obx_err *err)
{
    struct obx_buf url = {0};
    struct ask *ask = NULL;
    enum obx_code rc;

    if (asker->under_way >= asker->max_asks)
        return obx_fail(err, OBX_E_FULL, "%u asks under way", asker->under_way);
    rc = build_url(&url, target->url, gid);
    if (rc == OBX_OK && (ask = take_ask(asker)) == NULL)
        rc = OBX_E_NOMEM;
    if (rc != OBX_OK) {
        buf_fini(&url);
        return obx_fail(err, rc, "ask about a half-message");
    }
    ask->done = done;
    ask->ctx = ctx;
    ask->body_len = ask->header_len = 0;
    ask->why[0] = '\0';
    if (!set_options(ask, target, url.data) ||
        curl_multi_add_handle(asker->multi, ask->easy) != CURLM_OK) {
        give_back(asker, ask);
        rc = obx_fail(err, OBX_E_NOMEM, "ask about a half-message");
    } else {
        asker->under_way++;
    }
    buf_fini(&url);
    return rc;
}

static void finish(struct ask_http *asker, struct ask *ask, CURLcode result)
{
    long status = 0;
    enum check_answer answer = CHECK_NO_ANSWER;
    char why[CURL_ERROR_SIZE + 32];

    curl_easy_getinfo(ask->easy, CURLINFO_RESPONSE_CODE, &status);
    if (result == CURLE_OK)
        answer = check_answer_parse(status, (struct obx_bytes){ask->body, ask->body_len});
    if (result == CURLE_OK)
        snprintf(why, sizeof(why), "HTTP %ld", status);
    else
        snprintf(why, sizeof(why), "%s",
                 ask->why[0] != '\0' ? ask->why : curl_easy_strerror(result));
    curl_multi_remove_handle(asker->multi, ask->easy);
    asker->under_way--;
    give_back(asker, ask);
    ask->done(ask->ctx, answer, why);
}

/* Returns how many were finished. */
static unsigned finish_all(struct ask_http *asker)
{
    unsigned finished = 0;
    int left = 0;
    CURLMsg *msg;

    while ((msg = curl_multi_info_read(asker->multi, &left)) != NULL) {
        struct ask *ask = NULL;
        CURLcode result = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &ask);
        finish(asker, ask, result);
        finished++;
    }
    return finished;
}

void ask_http_service(struct ask_http *asker, int wait_ms)
{
    int running = 0;

    curl_multi_perform(asker->multi, &running);
    if (finish_all(asker) > 0)
        return;
    curl_multi_poll(asker->multi, NULL, 0, wait_ms, NULL);
    curl_multi_perform(asker->multi, &running);
    (void)finish_all(asker);
}

void ask_http_wake(struct ask_http *asker)
{
    curl_multi_wakeup(asker->multi);
}

uint32_t ask_http_under_way(const struct ask_http *asker)
{
    return asker->under_way;
}

enum obx_code ask_http_create(uint32_t max_asks, struct ask_http **out, struct obx_err *err)
{
    struct ask_http *asker = obx_calloc(1, sizeof(*asker));

    *out = NULL;
    if (asker == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        obx_free(asker);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    asker->max_asks = max_asks;
    asker->multi = curl_multi_init();
    if (asker->multi == NULL) {
        ask_http_destroy(asker);
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    }
    curl_multi_setopt(asker->multi, CURLMOPT_MAXCONNECTS, (long)max_asks);
    *out = asker;
    return OBX_OK;
}

void ask_http_destroy(struct ask_http *asker)
{
    struct ask *next;

    if (asker == NULL)
        return;
    for (struct ask *ask = asker->all; ask != NULL; ask = next) {
        next = ask->all;
        if (asker->multi != NULL)
            curl_multi_remove_handle(asker->multi, ask->easy);
        free_ask(ask);
    }
    if (asker->multi != NULL)
        curl_multi_cleanup(asker->multi);
    curl_global_cleanup();
    obx_free(asker);
}
