/*
 * The client of the half-message API on libcurl and jansson. One easy handle, kept, so that the
 * connection stays open.
 *
 * The rule of repeats: no connection, no answer, and 503 are repeated under the call's deadline;
 * every other answer is final. A 200 or 201 is an answer only when its body names the gid and the
 * state that was asked for, a 404 or 409 only with the API's own reason in it: whatever else stands
 * at the address (another service, a proxy's page) has not said that a message was sent.
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
#include "base/json_span.h"

#define BODY_MAX    16384
#define PATH        "/v1/half-messages"
#define TIMEOUT_DEF 5000
#define STATES      4

static const char *const state_names[STATES] = {"prepared", "committed", "rolled_back", "parked"};

/* What an answer must say to be one. */
struct question {
    const char *gid;
    bool any_state; /* a prepare, a look-up */
    enum obx_half_state state;
    bool is_verdict;
};

struct obx_half {
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *verdict_headers; /* NULL: as the others */
    char *url, *producer, *ca_file;
    uint32_t timeout_ms;
    long status;               /* of an answer; 0: there was none */
    bool is_foreign;           /* something was received that is not the API's */
    enum obx_half_state state; /* of a good answer */
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
static void perform(struct obx_half *half, const char *url, const char *body, bool is_verdict,
                    uint64_t due_ms)
{
    const bool is_async = is_verdict && half->verdict_headers != NULL;
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
    curl_easy_setopt(half->easy, CURLOPT_HTTPHEADER,
                     is_async ? half->verdict_headers : half->headers);
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

/* Whether a good answer's body says what was asked for; half->state is what it says. */
static bool says(struct obx_half *half, const struct question *question, const json_t *root)
{
    const char *gid = json_string_value(json_object_get(root, "gid"));
    const char *state = json_string_value(json_object_get(root, "state"));
    unsigned i = 0;

    if (gid == NULL || state == NULL || strcmp(gid, question->gid) != 0)
        return false;
    if (half->status == 202)
        return question->is_verdict && half->verdict_headers != NULL &&
               strcmp(state, "accepted") == 0;
    while (i < STATES && strcmp(state_names[i], state) != 0)
        i++;
    half->state = (enum obx_half_state)i;
    return i < STATES && (question->any_state || half->state == question->state);
}

/* An answer that is not the API's is none. Other refusals stand by their status alone: a caller
 * that takes them for final has lost nothing. */
static void judge(struct obx_half *half, const struct question *question)
{
    json_t *root = json_loadb(half->body, half->body_len, JSON_REJECT_DUPLICATES, NULL);
    bool is_good = half->status == 200 || half->status == 201 || half->status == 202;
    bool is_decisive = half->status == 404 || half->status == 409;
    const json_t *error = json_object_get(root, "error");

    half->is_foreign = (is_good && !says(half, question, root)) ||
                       (is_decisive && !json_is_string(json_object_get(error, "reason")));
    if (half->is_foreign)
        half->status = 0;
    json_decref(root);
}

/* Repeat until there is a final answer or the time has passed. */
static void call(struct obx_half *half, const char *url, const char *body,
                 const struct question *question)
{
    uint64_t due_ms = clock_now_ms() + half->timeout_ms;
    struct backoff backoff;

    backoff_init(&backoff, 20, 1000);
    for (;;) {
        uint32_t wait_ms = backoff_next_ms(&backoff);
        struct timespec pause = {.tv_sec = wait_ms / 1000,
                                 .tv_nsec = (long)(wait_ms % 1000) * 1000000};

        perform(half, url, body, question->is_verdict, due_ms);
        judge(half, question);
        if ((half->status != 0 && half->status != 503) || clock_left_ms(due_ms) <= (int)wait_ms)
            return;
        nanosleep(&pause, NULL);
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
    enum obx_code rc = obx_fail_sys(
        err, code, (int)half->status, "half-message %s: %s: %s%s%s", gid,
        reason != NULL     ? reason
        : half->is_foreign ? "what answers at this address is not the API"
                           : "no answer",
        message != NULL ? message : "", by != NULL ? ", by " : "", by != NULL ? by : "");

    json_decref(root);
    return rc;
}

static enum obx_code result_of(const struct obx_half *half, const char *gid, struct obx_err *err)
{
    switch (half->status) {
    case 200:
    case 201:
    case 202:
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

/* tail: "", "/commit" or "/rollback" after the gid. */
static enum obx_code call_gid(struct obx_half *half, const struct question *question,
                              const char *tail, const char *body, struct obx_err *err)
{
    const char *gid = question->gid;
    struct obx_buf url = {0};
    enum obx_code rc;

    if (!gid_is_valid(gid))
        return obx_fail(err, OBX_E_INVALID, "gid");
    rc = buf_addf(&url, "%s" PATH "/%s%s", half->url, gid, tail);
    if (rc == OBX_OK) {
        call(half, url.data, body, question);
        rc = result_of(half, gid, err);
    } else {
        (void)obx_fail(err, rc, "half-message %s", gid);
    }
    buf_fini(&url);
    return rc;
}

/* Body of a prepare, checked once at its end. */

static void add_string(struct obx_buf *body, const char *text)
{
    buf_add_text(body, "\"");
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < ' ' || c == '"' || c == '\\')
            buf_addf(body, "\\u%04x", c);
        else
            buf_add(body, text, 1);
    }
    buf_add_text(body, "\"");
}

static void add_field(struct obx_buf *body, const char *name, const char *text)
{
    if (text == NULL)
        return;
    buf_addf(body, ",\"%s\":", name);
    add_string(body, text);
}

static void add_payload(struct obx_buf *body, struct obx_bytes payload)
{
    size_t len = (payload.len + 2) / 3 * 4;

    buf_add_text(body, ",\"payload_base64\":\"");
    if (body->rc == OBX_OK && payload.len > INT32_MAX / 2)
        body->rc = OBX_E_INVALID;
    if (payload.len > 0 && buf_reserve(body, len + 1) == OBX_OK) {
        EVP_EncodeBlock((unsigned char *)body->data + body->len, payload.p, (int)payload.len);
        body->len += len;
    }
    buf_add_text(body, "\"");
}

/* The headers are the text that was given, and nothing printed again: their numbers are theirs. */
static void add_headers(struct obx_buf *body, const char *headers)
{
    struct json_span_fault fault = {0};
    struct obx_bytes object = {0};

    if (headers == NULL)
        return;
    if (!json_span_check(bytes_of(headers), &object, &fault) && body->rc == OBX_OK)
        body->rc = OBX_E_INVALID;
    buf_add_text(body, ",\"headers\":");
    buf_add(body, object.p, object.len);
}

/* Payloads go as base64, whatever they are; so the type that the header promises is named. */
static void add_message(struct obx_buf *body, const struct obx_half_message *msg)
{
    buf_add_text(body, "{\"topic\":");
    add_string(body, msg->topic != NULL ? msg->topic : "");
    add_field(body, "ordering_key", msg->ordering_key);
    add_field(body, "message_id", msg->message_id);
    add_field(body, "content_type",
              msg->content_type != NULL ? msg->content_type : "application/json");
    add_headers(body, msg->headers);
    add_payload(body, msg->payload);
    buf_add_text(body, "}");
}

static void add_messages(struct obx_buf *body, const char *name,
                         const struct obx_half_message *messages, size_t count)
{
    buf_addf(body, ",\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        buf_add_text(body, i == 0 ? "" : ",");
        add_message(body, &messages[i]);
    }
    buf_add_text(body, "]");
}

enum obx_code obx_half_prepare(struct obx_half *half, const char *gid,
                               const struct obx_half_message *on_commit, size_t commit_count,
                               const struct obx_half_message *on_rollback, size_t rollback_count,
                               struct obx_err *err)
{
    const struct question question = {.gid = gid, .any_state = true};
    struct obx_buf url = {0};
    struct obx_buf body = {0};
    enum obx_code rc = OBX_OK;

    if (!gid_is_valid(gid))
        return obx_fail(err, OBX_E_INVALID, "gid");
    buf_add_text(&body, "{\"gid\":");
    add_string(&body, gid);
    add_field(&body, "producer", half->producer);
    add_messages(&body, "commit", on_commit, commit_count);
    add_messages(&body, "rollback", on_rollback, rollback_count);
    rc = buf_add_text(&body, "}");
    if (rc == OBX_OK)
        rc = buf_addf(&url, "%s" PATH, half->url);
    if (rc == OBX_OK) {
        call(half, url.data, body.data, &question);
        rc = result_of(half, gid, err);
        /* Prepared before and decided meanwhile: the local transaction must not be started. */
        if (rc == OBX_OK &&
            (half->state == OBX_HALF_COMMITTED || half->state == OBX_HALF_ROLLED_BACK))
            rc = obx_fail_sys(err, OBX_E_CONFLICT, (int)half->status,
                              "half-message %s: prepared before, and %s since", gid,
                              state_names[half->state]);
    } else {
        (void)obx_fail(err, rc, "half-message %s: %s", gid,
                       rc == OBX_E_NOMEM ? "its messages" : "headers are not JSON");
    }
    buf_fini(&body);
    buf_fini(&url);
    return rc;
}

enum obx_code obx_half_commit(struct obx_half *half, const char *gid, struct obx_err *err)
{
    const struct question question = {.gid = gid, .state = OBX_HALF_COMMITTED, .is_verdict = true};

    return call_gid(half, &question, "/commit", "", err);
}

enum obx_code obx_half_rollback(struct obx_half *half, const char *gid, struct obx_err *err)
{
    const struct question question = {
        .gid = gid, .state = OBX_HALF_ROLLED_BACK, .is_verdict = true};

    return call_gid(half, &question, "/rollback", "", err);
}

enum obx_code obx_half_lookup(struct obx_half *half, const char *gid, enum obx_half_state *state,
                              struct obx_err *err)
{
    const struct question question = {.gid = gid, .any_state = true};
    enum obx_code rc = call_gid(half, &question, "", NULL, err);

    if (rc == OBX_OK)
        *state = half->state;
    return rc;
}

/* Each item is copied; false: no memory. */
static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer != NULL)
        *list = longer;
    return longer != NULL;
}

static bool make_headers(struct obx_half *half, const char *token, bool is_async)
{
    static const char type[] = "Content-Type: application/json";
    char line[1024];

    snprintf(line, sizeof(line), "Authorization: Bearer %s", token);
    return add_header(&half->headers, line) && add_header(&half->headers, type) &&
           (!is_async ||
            (add_header(&half->verdict_headers, line) && add_header(&half->verdict_headers, type) &&
             add_header(&half->verdict_headers, "Prefer: respond-async")));
}

static bool copy_opts(struct obx_half *half, const struct obx_half_opts *opts)
{
    half->url = obx_strdup(opts->url);
    half->producer = obx_strdup(opts->producer);
    half->ca_file = opts->ca_file != NULL ? obx_strdup(opts->ca_file) : NULL;
    half->timeout_ms = opts->timeout_ms == 0 ? TIMEOUT_DEF : opts->timeout_ms;
    half->easy = curl_easy_init();
    return make_headers(half, opts->token, opts->async_verdicts != 0) && half->url != NULL &&
           half->producer != NULL && (opts->ca_file == NULL || half->ca_file != NULL) &&
           half->easy != NULL;
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
    curl_slist_free_all(half->verdict_headers);
    curl_global_cleanup();
    obx_free(half->url);
    obx_free(half->producer);
    obx_free(half->ca_file);
    obx_free(half);
}
