/*
 * The client of the half-message API on libcurl and jansson. One easy handle, kept, so that the
 * connection stays open.
 *
 * The rule of repeats: no connection, no answer, and 503 are repeated under the call's deadline;
 * every other answer is final.
 */
#include "obx/half.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"

#define BODY_MAX    16384
#define PATH        "/v1/half-messages"
#define TIMEOUT_DEF 5000

struct obx_half {
    CURL *easy;
    struct curl_slist *headers;
    char *url, *producer, *ca_file;
    uint32_t timeout_ms;
    long status;
    char body[BODY_MAX + 1];
    size_t body_len;
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct obx_half *half = ctx;
    size_t len = size * count;

    if (len > BODY_MAX - half->body_len)
        return CURL_WRITEFUNC_ERROR;
    memcpy(half->body + half->body_len, data, len);
    half->body_len += len;
    half->body[half->body_len] = '\0';
    return len;
}

/* One request; half->status is 0 when there was no whole answer. */
static void perform(struct obx_half *half, const char *url, const char *body, uint64_t due_ms)
{
    int left_ms = clock_left_ms(due_ms);

    half->status = 0;
    half->body_len = 0;
    half->body[0] = '\0';
    curl_easy_reset(half->easy);
    curl_easy_setopt(half->easy, CURLOPT_URL, url);
    curl_easy_setopt(half->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(half->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(half->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(half->easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 0 ? left_ms : 1));
    curl_easy_setopt(half->easy, CURLOPT_HTTPHEADER, half->headers);
    curl_easy_setopt(half->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(half->easy, CURLOPT_WRITEDATA, half);
    if (half->ca_file != NULL)
        curl_easy_setopt(half->easy, CURLOPT_CAINFO, half->ca_file);
    if (body != NULL) {
        curl_easy_setopt(half->easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(half->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    }
    if (curl_easy_perform(half->easy) == CURLE_OK)
        curl_easy_getinfo(half->easy, CURLINFO_RESPONSE_CODE, &half->status);
}

static void pause_ms(uint32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&pause, NULL);
}

/* Repeat until there is a final answer or the time is over. */
static void call(struct obx_half *half, const char *url, const char *body)
{
    uint64_t due_ms = clock_now_ms() + half->timeout_ms;
    struct backoff backoff;

    backoff_init(&backoff, 20, 1000);
    for (;;) {
        uint32_t wait_ms = backoff_next_ms(&backoff);

        perform(half, url, body, due_ms);
        if ((half->status != 0 && half->status != 503) || clock_left_ms(due_ms) <= (int)wait_ms)
            return;
        pause_ms(wait_ms);
    }
}

/* The API's own words where it sent some. */
static enum obx_code fail_with_answer(const struct obx_half *half, enum obx_code code,
                                      const char *gid, struct obx_err *err)
{
    json_t *root = json_loadb(half->body, half->body_len, 0, NULL);
    json_t *error = json_object_get(root, "error");
    const char *reason = json_string_value(json_object_get(error, "reason"));
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *by = json_string_value(json_object_get(root, "decided_by"));
    enum obx_code rc =
        obx_fail_sys(err, code, (int)half->status, "half-message %s: %s: %s%s%s", gid,
                     reason != NULL ? reason : "no answer", message != NULL ? message : "",
                     by != NULL ? ", by " : "", by != NULL ? by : "");

    json_decref(root);
    return rc;
}

static enum obx_code result_of(const struct obx_half *half, const char *gid, struct obx_err *err)
{
    switch (half->status) {
    case 200:
    case 201:
        return OBX_OK;
    case 401:
        return fail_with_answer(half, OBX_E_CONFIG, gid, err);
    case 404:
        return fail_with_answer(half, OBX_E_NOT_FOUND, gid, err);
    case 409:
        return fail_with_answer(half, OBX_E_CONFLICT, gid, err);
    case 0:
    case 503:
        return fail_with_answer(half, OBX_E_TIMEOUT, gid, err);
    default:
        return fail_with_answer(half, OBX_E_INVALID, gid, err);
    }
}

static bool gid_is_valid(const char *gid)
{
    size_t len = gid == NULL ? 0 : strlen(gid);

    return len > 0 && len <= 128 &&
           strspn(gid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:~") ==
               len;
}

/* tail: "", "/commit" or "/rollback" behind the gid. */
static enum obx_code call_gid(struct obx_half *half, const char *gid, const char *tail,
                              const char *body, struct obx_err *err)
{
    struct obx_buf url = {0};
    enum obx_code rc;

    if (!gid_is_valid(gid))
        return obx_fail(err, OBX_E_INVALID, "gid");
    rc = buf_addf(&url, "%s" PATH "/%s%s", half->url, gid, tail);
    if (rc == OBX_OK) {
        call(half, url.data, body);
        rc = result_of(half, gid, err);
    } else {
        (void)obx_fail(err, rc, "half-message %s", gid);
    }
    buf_fini(&url);
    return rc;
}

/* Body of a prepare */

static json_t *base64_of(struct obx_bytes bytes)
{
    size_t len = (bytes.len + 2) / 3 * 4;
    unsigned char *text = bytes.len > INT32_MAX / 2 ? NULL : obx_malloc(len + 1);
    json_t *value = NULL;

    if (text != NULL) {
        EVP_EncodeBlock(text, bytes.p != NULL ? bytes.p : (const unsigned char *)"",
                        (int)bytes.len);
        value = json_stringn((const char *)text, len);
    }
    obx_free(text);
    return value;
}

static void set_text(json_t *object, const char *name, const char *text)
{
    if (text != NULL)
        json_object_set_new(object, name, json_string(text));
}

static json_t *json_of_message(const struct obx_half_message *msg)
{
    json_t *object = json_object();
    json_t *headers =
        msg->headers == NULL ? NULL : json_loads(msg->headers, JSON_REJECT_DUPLICATES, NULL);
    bool ok = msg->headers == NULL || headers != NULL;

    set_text(object, "topic", msg->topic);
    set_text(object, "ordering_key", msg->ordering_key);
    set_text(object, "message_id", msg->message_id);
    set_text(object, "content_type", msg->content_type);
    if (headers != NULL)
        json_object_set_new(object, "headers", headers);
    ok = json_object_set_new(object, "payload_base64", base64_of(msg->payload)) == 0 && ok;
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

static bool add_messages(json_t *root, const char *name, const struct obx_half_message *messages,
                         size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *message = json_of_message(&messages[i]);

        if (message == NULL || json_array_append_new(list, message) != 0) {
            json_decref(list);
            return false;
        }
    }
    return json_object_set_new(root, name, list) == 0;
}

static enum obx_code build_prepare(const struct obx_half *half, const char *gid,
                                   const struct obx_half_message *on_commit, size_t commit_count,
                                   const struct obx_half_message *on_rollback,
                                   size_t rollback_count, char **text)
{
    json_t *root = json_object();
    bool ok;

    set_text(root, "gid", gid);
    set_text(root, "producer", half->producer);
    ok = add_messages(root, "commit", on_commit, commit_count) &&
         add_messages(root, "rollback", on_rollback, rollback_count);
    *text = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return *text != NULL ? OBX_OK : OBX_E_INVALID;
}

enum obx_code obx_half_prepare(struct obx_half *half, const char *gid,
                               const struct obx_half_message *on_commit, size_t commit_count,
                               const struct obx_half_message *on_rollback, size_t rollback_count,
                               struct obx_err *err)
{
    struct obx_buf url = {0};
    char *body = NULL;
    enum obx_code rc;

    if (!gid_is_valid(gid))
        return obx_fail(err, OBX_E_INVALID, "gid");
    rc = build_prepare(half, gid, on_commit, commit_count, on_rollback, rollback_count, &body);
    if (rc == OBX_OK)
        rc = buf_addf(&url, "%s" PATH, half->url);
    if (rc == OBX_OK) {
        call(half, url.data, body);
        rc = result_of(half, gid, err);
    } else {
        (void)obx_fail(err, rc, "half-message %s: headers are not JSON, or out of memory", gid);
    }
    free(body);
    buf_fini(&url);
    return rc;
}

enum obx_code obx_half_commit(struct obx_half *half, const char *gid, struct obx_err *err)
{
    return call_gid(half, gid, "/commit", "", err);
}

enum obx_code obx_half_rollback(struct obx_half *half, const char *gid, struct obx_err *err)
{
    return call_gid(half, gid, "/rollback", "", err);
}

enum obx_code obx_half_lookup(struct obx_half *half, const char *gid, enum obx_half_state *state,
                              struct obx_err *err)
{
    static const char *const names[] = {"prepared", "committed", "rolled_back", "parked"};
    enum obx_code rc = call_gid(half, gid, "", NULL, err);
    json_t *root = rc == OBX_OK ? json_loadb(half->body, half->body_len, 0, NULL) : NULL;
    const char *found = json_string_value(json_object_get(root, "state"));
    unsigned i = 0;

    while (found != NULL && i < 4 && strcmp(names[i], found) != 0)
        i++;
    if (rc == OBX_OK && (found == NULL || i == 4))
        rc = obx_fail(err, OBX_E_FORMAT, "half-message %s: the answer has no state", gid);
    if (rc == OBX_OK)
        *state = (enum obx_half_state)i;
    json_decref(root);
    return rc;
}

static bool copy_opts(struct obx_half *half, const struct obx_half_opts *opts)
{
    char line[1024];
    struct curl_slist *list;

    half->url = obx_strdup(opts->url);
    half->producer = obx_strdup(opts->producer);
    half->ca_file = opts->ca_file != NULL ? obx_strdup(opts->ca_file) : NULL;
    half->timeout_ms = opts->timeout_ms == 0 ? TIMEOUT_DEF : opts->timeout_ms;
    snprintf(line, sizeof(line), "Authorization: Bearer %s", opts->token);
    half->headers = curl_slist_append(NULL, line);
    list = half->headers == NULL
               ? NULL
               : curl_slist_append(half->headers, "Content-Type: application/json");
    half->easy = curl_easy_init();
    return half->url != NULL && half->producer != NULL &&
           (opts->ca_file == NULL || half->ca_file != NULL) && list != NULL && half->easy != NULL;
}

enum obx_code obx_half_open(const struct obx_half_opts *opts, struct obx_half **out,
                            struct obx_err *err)
{
    struct obx_half *half;

    *out = NULL;
    if (opts->size < sizeof(*opts) || opts->url == NULL || opts->token == NULL ||
        opts->producer == NULL || strlen(opts->token) > 900)
        return obx_fail(err, OBX_E_INVALID, "size, url, token and producer must be set");
    half = obx_calloc(1, sizeof(*half));
    if (half == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        obx_free(half);
        return obx_fail(err, OBX_E_NOMEM, "half-message client");
    }
    if (!copy_opts(half, opts)) {
        obx_half_close(half);
        return obx_fail(err, OBX_E_NOMEM, "half-message client");
    }
    *out = half;
    return OBX_OK;
}

void obx_half_close(struct obx_half *half)
{
    if (half == NULL)
        return;
    if (half->easy != NULL)
        curl_easy_cleanup(half->easy);
    curl_slist_free_all(half->headers);
    curl_global_cleanup();
    obx_free(half->url);
    obx_free(half->producer);
    obx_free(half->ca_file);
    obx_free(half);
}
