/*
 * Asks on the HTTP client: the address of an ask, its headers, and what the answer says. See
 * ask_http.h.
 */
#include "ask_http.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "service/http_client.h"

enum { WHY_MAX = 288 };

struct ask {
    ask_done_fn *done;
    void *ctx;
    struct ask *next, **link; /* of those in flight */
};

struct ask_http {
    struct http_client *client;
    struct ask *asks;
};

static void take_out(struct ask *ask)
{
    *ask->link = ask->next;
    if (ask->next != NULL)
        ask->next->link = ask->link;
    obx_free(ask);
}

static void put_in(struct ask_http *asker, struct ask *ask)
{
    ask->next = asker->asks;
    ask->link = &asker->asks;
    if (ask->next != NULL)
        ask->next->link = &ask->next;
    asker->asks = ask;
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

static void on_done(const struct http_answer *answer, void *ctx)
{
    struct ask *ask = ctx;
    ask_done_fn *done = ask->done;
    void *done_ctx = ask->ctx;
    enum check_answer said = CHECK_NO_ANSWER;
    char why[WHY_MAX];

    if (answer->rc == OBX_OK) {
        said = check_answer_parse((long)answer->status, answer->body);
        snprintf(why, sizeof(why), "HTTP %u", answer->status);
    } else {
        snprintf(why, sizeof(why), "%s", answer->why);
    }
    take_out(ask);
    done(done_ctx, said, why);
}

static enum obx_code add_headers(struct http_headers *headers, const char *token)
{
    struct obx_buf bearer = {0};
    enum obx_code rc = http_headers_add(headers, "Accept", "application/json");

    if (rc == OBX_OK && token != NULL)
        rc = buf_addf(&bearer, "Bearer %s", token);
    if (rc == OBX_OK && token != NULL)
        rc = http_headers_add(headers, "Authorization", bearer.data);
    buf_fini(&bearer);
    return rc;
}

static enum obx_code start(struct ask_http *asker, const struct ask_target *target, const char *gid,
                           struct ask *ask, struct obx_err *err)
{
    struct obx_buf url = {0};
    struct http_headers headers = {0};
    struct http_request request = {.method = HTTP_GET,
                                   .headers = &headers,
                                   .timeout_ms = target->timeout_ms,
                                   .answer_max = CHECK_ANSWER_MAX,
                                   .keep_max = CHECK_ANSWER_MAX,
                                   .user_agent = "rowpost-check-back",
                                   .ca_file = target->ca_file};
    enum obx_code rc = build_url(&url, target->url, gid);

    if (rc == OBX_OK)
        rc = add_headers(&headers, target->token);
    request.url = url.data;
    rc = rc == OBX_OK ? http_client_start(asker->client, &request, on_done, ask, err)
                      : obx_fail(err, rc, "ask about a half-message");
    http_headers_fini(&headers);
    buf_fini(&url);
    return rc;
}

enum obx_code ask_http_start(struct ask_http *asker, const struct ask_target *target,
                             const char *gid, ask_done_fn *done, void *ctx, struct obx_err *err)
{
    struct ask *ask = obx_calloc(1, sizeof(*ask));
    enum obx_code rc;

    if (ask == NULL)
        return obx_fail(err, OBX_E_NOMEM, "ask about a half-message");
    ask->done = done;
    ask->ctx = ctx;
    put_in(asker, ask);
    rc = start(asker, target, gid, ask, err);
    if (rc != OBX_OK)
        take_out(ask);
    return rc;
}

void ask_http_service(struct ask_http *asker, int wait_ms)
{
    http_client_service(asker->client, wait_ms);
}

void ask_http_wake(struct ask_http *asker)
{
    http_client_wake(asker->client);
}

uint32_t ask_http_under_way(const struct ask_http *asker)
{
    return http_client_in_flight(asker->client);
}

enum obx_code ask_http_create(uint32_t max_asks, struct ask_http **out, struct obx_err *err)
{
    struct ask_http *asker = obx_calloc(1, sizeof(*asker));
    enum obx_code rc;

    *out = NULL;
    if (asker == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP client");
    rc = http_client_create(max_asks, &asker->client, err);
    if (rc != OBX_OK) {
        obx_free(asker);
        return rc;
    }
    *out = asker;
    return OBX_OK;
}

void ask_http_destroy(struct ask_http *asker)
{
    if (asker == NULL)
        return;
    http_client_destroy(asker->client);
    while (asker->asks != NULL)
        take_out(asker->asks);
    obx_free(asker);
}
