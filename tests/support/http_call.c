/* One HTTP request over libcurl. */
#include "http_call.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct http_answer *answer = ctx;
    size_t len = size * count;
    size_t room = sizeof(answer->body) - 1 - answer->body_len;
    size_t take = len < room ? len : room;

    memcpy(answer->body + answer->body_len, data, take);
    answer->body_len += take;
    answer->body[answer->body_len] = '\0';
    return len;
}

static struct curl_slist *headers_of(const struct http_call *call)
{
    struct curl_slist *headers = NULL;
    char line[512];

    if (call->token != NULL) {
        snprintf(line, sizeof(line), "Authorization: Bearer %s", call->token);
        headers = curl_slist_append(headers, line);
    }
    snprintf(line, sizeof(line), "Content-Type: %s",
             call->content_type != NULL ? call->content_type : "application/json");
    return curl_slist_append(headers, line);
}

void http_call(const struct http_call *call, struct http_answer *answer)
{
    CURL *easy = curl_easy_init();
    struct curl_slist *headers = headers_of(call);
    char url[512];

    memset(answer, 0, sizeof(*answer));
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", (unsigned)call->port, call->path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, call->timeout_ms == 0 ? 10000L : call->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    if (call->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE,
                         (long)(call->body_len != 0 ? call->body_len : strlen(call->body)));
    }
    if (call->method != NULL)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    if (curl_easy_perform(easy) == CURLE_OK)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
}
