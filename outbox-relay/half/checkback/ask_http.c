/* Asks over HTTP. See ask_http.h. */
#include "ask_http.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

/* The gid's alphabet needs no escaping in a URL (half_gid_is_valid); anything else is refused here
 * too. */
static const char gid_alphabet[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:~";

static void add_url(struct obx_buf *url, const char *pattern, const char *gid)
{
    const char *hole = strstr(pattern, "{gid}");

    if (hole == NULL)
        buf_addf(url, "%s%cgid=%s", pattern, strchr(pattern, '?') == NULL ? '?' : '&', gid);
    else
        buf_addf(url, "%.*s%s%s", (int)(hole - pattern), pattern, gid, hole + strlen("{gid}"));
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

enum obx_code ask_http_start(struct http_client *client, const struct ask_target *target,
                             const char *gid, http_done_fn *done, void *ctx, struct obx_err *err)
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
    enum obx_code rc =
        *gid == '\0' || gid[strspn(gid, gid_alphabet)] != '\0' ? OBX_E_INVALID : OBX_OK;

    add_url(&url, target->url, gid);
    if (rc == OBX_OK)
        rc = url.rc;
    if (rc == OBX_OK)
        rc = add_headers(&headers, target->token);
    request.url = url.data;
    rc = rc == OBX_OK ? http_client_start(client, &request, done, ctx, err)
                      : obx_fail(err, rc, "ask about a half-message");
    http_headers_fini(&headers);
    buf_fini(&url);
    return rc;
}

enum check_answer ask_http_read(const struct http_answer *answer, char why[ASK_WHY_MAX])
{
    if (answer->rc != OBX_OK) {
        (void)snprintf(why, ASK_WHY_MAX, "%s", answer->why);
        return CHECK_NO_ANSWER;
    }
    (void)snprintf(why, ASK_WHY_MAX, "HTTP %u", answer->status);
    return check_answer_parse((long)answer->status, answer->body);
}
