/*
 * HTTP in front of the half-message store, on libevent's evhttp.
 *
 * Threads: everything here runs on the front's own thread but on_done, which a store worker calls:
 * it puts the request on the mailbox and rings the eventfd. A `call` is one HTTP request under way;
 * it belongs to the loop until it is submitted, then to the store, then to the mailbox, then to the
 * loop again, which frees it. A peer that goes away meanwhile only takes the evhttp_request out of
 * its call.
 */
#include "half/half_http.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fail.h"
#include "base/log.h"
#include "half/half_json.h"
#include "half/half_query.h"

#define PREFIX            "/v1/half-messages"
#define HEADER_MAX        8192
#define TOKEN_MAX         8
#define FLUSH_US          100000L
#define HTTP_CONFLICT     409
#define HTTP_UNAUTHORIZED 401
#define HTTP_MEDIA_TYPE   415
#define HTTP_CREATED      201

struct call {
    struct half_http *front;
    struct evhttp_request *http; /* NULL once the peer is gone */
    struct half_prepare *prepare;
    struct half_request own; /* for all but a prepare */
    struct half_request *req;
    struct half_list list;
    char gid[HALF_GID_MAX + 1];
    uint64_t start_us;
    struct call *next;
};

struct half_http {
    struct half_store *store;
    struct event_base *base;
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    struct event *bell;
    int bell_fd;
    uint16_t port;
    char *tokens[TOKEN_MAX];
    size_t token_count;
    uint32_t first_check_ms;
    uint32_t max_body_bytes;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    atomic_bool is_ending;
    pthread_mutex_t mutex;
    struct call *done;            /* the mailbox, newest first */
    struct half_http_stats stats; /* under mutex */
    uint32_t calls;               /* under way; the loop's own */
};

static const char *reason_phrase(int status)
{
    switch (status) {
    case HTTP_OK:
        return "OK";
    case HTTP_CREATED:
        return "Created";
    case HTTP_BADREQUEST:
        return "Bad Request";
    case HTTP_UNAUTHORIZED:
        return "Unauthorized";
    case HTTP_NOTFOUND:
        return "Not Found";
    case HTTP_BADMETHOD:
        return "Method Not Allowed";
    case HTTP_CONFLICT:
        return "Conflict";
    case HTTP_ENTITYTOOLARGE:
        return "Content Too Large";
    case HTTP_MEDIA_TYPE:
        return "Unsupported Media Type";
    case HTTP_SERVUNAVAIL:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

static void send_json(struct evhttp_request *http, int status, const struct obx_buf *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(http);

    evhttp_add_header(headers, "Content-Type", "application/json");
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (status == HTTP_SERVUNAVAIL)
        evhttp_add_header(headers, "Retry-After", "1");
    if (status == HTTP_UNAUTHORIZED)
        evhttp_add_header(headers, "WWW-Authenticate", "Bearer");
    if (body->len > 0)
        evbuffer_add(evhttp_request_get_output_buffer(http), body->data, body->len);
    evhttp_send_reply(http, status, reason_phrase(status), NULL);
}

static void send_error(struct evhttp_request *http, int status, const char *reason,
                       const char *text)
{
    struct obx_buf body = {0};

    if (half_json_add_error(&body, reason, text, (struct obx_bytes){0}, NULL) != OBX_OK)
        buf_reset(&body); /* no memory for the words: the status has to do */
    send_json(http, status, &body);
    buf_fini(&body);
}

static void count_refused(struct half_http *front, int status)
{
    pthread_mutex_lock(&front->mutex);
    front->stats.refused++;
    if (status == HTTP_UNAUTHORIZED)
        front->stats.unauthorized++;
    if (status == HTTP_SERVUNAVAIL)
        front->stats.overloaded++;
    pthread_mutex_unlock(&front->mutex);
}

static void refuse(struct half_http *front, struct evhttp_request *http, int status,
                   const char *reason, const char *text)
{
    count_refused(front, status);
    send_error(http, status, reason, text);
}

/* Answers of the store */

static const char *conflict_reason(const struct half_record *rec)
{
    return rec->state == HALF_COMMITTED ? "already_committed" : "already_rolled_back";
}

static void add_error(struct obx_buf *body, const struct call *call, const char *reason,
                      const char *text)
{
    const struct half_request *req = call->req;
    bool has_record = req->answer == HALF_ANS_CONFLICT || req->answer == HALF_ANS_REUSED;

    if (half_json_add_error(body, reason, text, req->gid, has_record ? &req->rec : NULL) != OBX_OK)
        buf_reset(body);
}

static int failed_body(struct obx_buf *body, const struct call *call)
{
    const struct obx_err *err = &call->req->err;

    if (err->code == OBX_E_DB_COMMIT_UNKNOWN || err->code == OBX_E_DB_GONE ||
        err->code == OBX_E_TIMEOUT)
        add_error(body, call, "outcome_unknown",
                  "it may or may not have been done; send the same request again");
    else if (err->code == OBX_E_DB_DATA) {
        add_error(body, call, "invalid_value", err->text);
        return HTTP_BADREQUEST;
    } else
        add_error(body, call, "database_unavailable", err->text);
    return HTTP_SERVUNAVAIL;
}

/* Builds the body and returns the status. */
static int answer_body(struct obx_buf *body, const struct call *call)
{
    const struct half_request *req = call->req;

    switch (req->answer) {
    case HALF_ANS_OK:
        if (req->kind == HALF_REQ_LIST) {
            if (half_json_add_list(body, req->list) != OBX_OK)
                buf_reset(body);
            return HTTP_OK;
        }
        if (half_json_add_record(body, req->gid, &req->rec, req->is_repeat) != OBX_OK)
            buf_reset(body);
        return req->kind == HALF_REQ_PREPARE && !req->is_repeat ? HTTP_CREATED : HTTP_OK;
    case HALF_ANS_NOT_FOUND:
        add_error(body, call, "unknown_gid", "no half-message has this gid");
        return HTTP_NOTFOUND;
    case HALF_ANS_CONFLICT:
        add_error(body, call, conflict_reason(&req->rec), "the opposite verdict was given before");
        return HTTP_CONFLICT;
    case HALF_ANS_REUSED:
        add_error(body, call, "gid_reused", "this gid was prepared before with another content");
        return HTTP_CONFLICT;
    case HALF_ANS_FAILED:
        break;
    }
    return failed_body(body, call);
}

static void free_call(struct call *call)
{
    if (call->http != NULL)
        evhttp_connection_set_closecb(evhttp_request_get_connection(call->http), NULL, NULL);
    half_prepare_free(call->prepare);
    half_list_fini(&call->list);
    obx_free(call);
}

static void finish_call(struct half_http *front, struct call *call)
{
    struct obx_buf body = {0};
    uint64_t took_us = clock_now_us() - call->start_us;

    pthread_mutex_lock(&front->mutex);
    front->stats.answered++;
    front->stats.latency_us_sum += took_us;
    pthread_mutex_unlock(&front->mutex);
    if (call->http != NULL) {
        int status = answer_body(&body, call);
        struct evhttp_request *http = call->http;

        evhttp_connection_set_closecb(evhttp_request_get_connection(http), NULL, NULL);
        call->http = NULL;
        send_json(http, status, &body);
    }
    buf_fini(&body);
    front->calls--;
    free_call(call);
}

/* On a worker's thread. */
static void on_done(struct half_request *req, void *ctx)
{
    struct call *call = ctx;
    struct half_http *front = call->front;
    uint64_t one = 1;
    bool first;

    (void)req;
    pthread_mutex_lock(&front->mutex);
    first = front->done == NULL;
    call->next = front->done;
    front->done = call;
    if (first && write(front->bell_fd, &one, sizeof(one)) < 0)
        OBX_ASSERT(errno == EAGAIN); /* the counter is full: the bell is ringing anyway */
    pthread_mutex_unlock(&front->mutex);
}

static void take_done(struct half_http *front)
{
    struct call *list, *next, *ordered = NULL;

    pthread_mutex_lock(&front->mutex);
    list = front->done;
    front->done = NULL;
    pthread_mutex_unlock(&front->mutex);
    for (; list != NULL; list = next) {
        next = list->next;
        list->next = ordered;
        ordered = list;
    }
    for (; ordered != NULL; ordered = next) {
        next = ordered->next;
        finish_call(front, ordered);
    }
}

static void on_bell(evutil_socket_t fd, short what, void *ctx)
{
    struct half_http *front = ctx;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0)
        OBX_ASSERT(errno == EAGAIN || errno == EINTR);
    if (atomic_load(&front->is_stopping) && front->socket != NULL) {
        evhttp_del_accept_socket(front->http, front->socket);
        front->socket = NULL;
    }
    take_done(front);
    if (atomic_load(&front->is_ending) && front->calls == 0) {
        struct timeval flush = {.tv_usec = FLUSH_US};

        event_base_loopexit(front->base, &flush);
    }
}

/* Requests */

static void on_peer_closed(struct evhttp_connection *connection, void *ctx)
{
    struct call *call = ctx;

    (void)connection;
    call->http = NULL;
}

static void submit(struct half_http *front, struct call *call)
{
    struct evhttp_request *http = call->http;
    struct obx_err err = {0};

    call->req->done = on_done;
    call->req->ctx = call;
    if (half_store_submit(front->store, call->req, &err) != OBX_OK) {
        call->http = NULL;
        free_call(call);
        refuse(front, http, HTTP_SERVUNAVAIL, "overloaded", err.text);
        return;
    }
    /* Safe after the submit: the answer can only come through the mailbox, which this thread reads.
     */
    evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_peer_closed, call);
    front->calls++;
}

static struct call *new_call(struct half_http *front, struct evhttp_request *http)
{
    struct call *call = obx_calloc(1, sizeof(*call));

    if (call == NULL) {
        refuse(front, http, HTTP_SERVUNAVAIL, "overloaded", "out of memory");
        return NULL;
    }
    call->front = front;
    call->http = http;
    call->req = &call->own;
    call->start_us = clock_now_us();
    return call;
}

static bool is_json(struct evhttp_request *http)
{
    const char *type = evhttp_find_header(evhttp_request_get_input_headers(http), "Content-Type");

    return type != NULL && evutil_ascii_strncasecmp(type, "application/json", 16) == 0 &&
           (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
}

static void on_prepare(struct half_http *front, struct evhttp_request *http)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(http);
    size_t len = evbuffer_get_length(input);
    struct half_refusal refusal = {0};
    struct call *call;

    if (!is_json(http)) {
        refuse(front, http, HTTP_MEDIA_TYPE, "media_type", "send Content-Type: application/json");
        return;
    }
    if (len > front->max_body_bytes) {
        refuse(front, http, HTTP_ENTITYTOOLARGE, "too_large", "the body is larger than max_body");
        return;
    }
    call = new_call(front, http);
    if (call == NULL)
        return;
    if (half_json_parse_prepare(
            (struct obx_bytes){len == 0 ? (const void *)"" : evbuffer_pullup(input, -1), len},
            front->first_check_ms, &call->prepare, &refusal) != OBX_OK) {
        call->http = NULL;
        free_call(call);
        refuse(front, http, refusal.status, refusal.reason, refusal.text);
        return;
    }
    call->req = half_prepare_request(call->prepare);
    submit(front, call);
}

static void on_gid(struct half_http *front, struct evhttp_request *http, enum half_kind kind,
                   enum half_verdict verdict, struct obx_bytes gid)
{
    struct call *call;

    if (!half_gid_is_valid(gid)) {
        refuse(front, http, HTTP_NOTFOUND, "unknown_gid", "not a gid");
        return;
    }
    call = new_call(front, http);
    if (call == NULL)
        return;
    (void)bytes_to_text(gid, call->gid, sizeof(call->gid));
    call->own = (struct half_request){
        .kind = kind, .gid = bytes_of(call->gid), .verdict = verdict, .actor = "producer"};
    submit(front, call);
}

static void on_list(struct half_http *front, struct evhttp_request *http, const char *query)
{
    struct half_refusal refusal = {0};
    struct call *call = new_call(front, http);

    if (call == NULL)
        return;
    if (half_query_parse(query, &call->list, &refusal) != OBX_OK) {
        call->http = NULL;
        free_call(call);
        refuse(front, http, refusal.status, refusal.reason, refusal.text);
        return;
    }
    call->own = (struct half_request){.kind = HALF_REQ_LIST, .list = &call->list};
    submit(front, call);
}

static bool has_token(const struct half_http *front, struct evhttp_request *http)
{
    const char *given = evhttp_find_header(evhttp_request_get_input_headers(http), "Authorization");
    bool match = false;

    if (given == NULL || evutil_ascii_strncasecmp(given, "Bearer ", 7) != 0)
        return false;
    for (size_t i = 0; i < front->token_count; i++)
        if (bytes_equal_constant_time(bytes_of(given + 7), bytes_of(front->tokens[i])))
            match = true;
    return match;
}

static bool ends_with(struct obx_bytes *path, const char *tail)
{
    size_t len = strlen(tail);

    if (path->len <= len || memcmp((const char *)path->p + path->len - len, tail, len) != 0)
        return false;
    path->len -= len;
    return true;
}

static void route_gid(struct half_http *front, struct evhttp_request *http, const char *tail)
{
    struct obx_bytes gid = bytes_of(tail);
    enum evhttp_cmd_type method = evhttp_request_get_command(http);
    bool commit = ends_with(&gid, "/commit");
    bool rollback = !commit && ends_with(&gid, "/rollback");

    if ((commit || rollback) && method == EVHTTP_REQ_POST && !has_token(front, http))
        refuse(front, http, HTTP_UNAUTHORIZED, "unauthorized",
               "send Authorization: Bearer with a valid token");
    else if ((commit || rollback) && method == EVHTTP_REQ_POST)
        on_gid(front, http, HALF_REQ_VERDICT, commit ? HALF_COMMIT : HALF_ROLLBACK, gid);
    else if (!commit && !rollback && method == EVHTTP_REQ_GET)
        on_gid(front, http, HALF_REQ_LOOKUP, HALF_COMMIT, gid);
    else
        refuse(front, http, HTTP_BADMETHOD, "method",
               "POST .../commit or .../rollback, GET to look up");
}

/* The collection itself: prepare, and list. Both need the token: a list tells what is open. */
static void route_all(struct half_http *front, struct evhttp_request *http, const char *query)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(http);

    if (method != EVHTTP_REQ_POST && method != EVHTTP_REQ_GET)
        refuse(front, http, HTTP_BADMETHOD, "method", "POST to prepare, GET to list");
    else if (!has_token(front, http))
        refuse(front, http, HTTP_UNAUTHORIZED, "unauthorized",
               "send Authorization: Bearer with a valid token");
    else if (method == EVHTTP_REQ_POST)
        on_prepare(front, http);
    else
        on_list(front, http, query);
}

static bool is_of_api(const char *path)
{
    const size_t len = sizeof(PREFIX) - 1;

    return path != NULL && strncmp(path, PREFIX, len) == 0 &&
           (path[len] == '/' || path[len] == '\0');
}

static void on_request(struct evhttp_request *http, void *ctx)
{
    struct half_http *front = ctx;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);

    pthread_mutex_lock(&front->mutex);
    front->stats.requests++;
    pthread_mutex_unlock(&front->mutex);
    if (!is_of_api(path))
        refuse(front, http, HTTP_NOTFOUND, "no_such_path", "the API is below " PREFIX);
    else if (atomic_load(&front->is_stopping))
        refuse(front, http, HTTP_SERVUNAVAIL, "stopping", "this relay is stopping; ask again");
    else if (path[sizeof(PREFIX) - 1] == '/')
        route_gid(front, http, path + sizeof(PREFIX));
    else
        route_all(front, http, evhttp_uri_get_query(uri));
}

/* Life */

static void *front_main(void *arg)
{
    struct half_http *front = arg;

    event_base_dispatch(front->base);
    return NULL;
}

static enum obx_code copy_tokens(struct half_http *front, const struct half_http_opts *opts,
                                 struct obx_err *err)
{
    if (opts->token_count == 0 || opts->token_count > TOKEN_MAX)
        return obx_fail(err, OBX_E_CONFIG, "the half-message API needs 1 to %d tokens", TOKEN_MAX);
    for (size_t i = 0; i < opts->token_count; i++) {
        if (strlen(opts->tokens[i]) < 16)
            return obx_fail(err, OBX_E_CONFIG,
                            "a token of the half-message API has less than 16 characters");
        front->tokens[i] = obx_strdup(opts->tokens[i]);
        if (front->tokens[i] == NULL)
            return obx_fail(err, OBX_E_NOMEM, "token");
        front->token_count++;
    }
    return OBX_OK;
}

static void set_limits(struct half_http *front, const struct half_http_opts *opts)
{
    uint32_t timeout_ms = opts->timeout_ms == 0 ? 30000 : opts->timeout_ms;
    struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                              .tv_usec = (long)(timeout_ms % 1000) * 1000};

    evhttp_set_max_headers_size(front->http, HEADER_MAX);
    /* What is a little too large gets our own answer; far too large, libevent's bare 413. */
    evhttp_set_max_body_size(front->http, (ev_ssize_t)front->max_body_bytes * 2 + HEADER_MAX);
    evhttp_set_timeout_tv(front->http, &timeout);
    evhttp_set_allowed_methods(front->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                                EVHTTP_REQ_DELETE | EVHTTP_REQ_HEAD |
                                                EVHTTP_REQ_PATCH);
    evhttp_set_gencb(front->http, on_request, front);
}

static enum obx_code listen_on(struct half_http *front, const struct half_http_opts *opts,
                               struct obx_err *err)
{
    const char *address = opts->address != NULL ? opts->address : "127.0.0.1";
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    int fd;

    errno = 0;
    front->socket = evhttp_bind_socket_with_handle(front->http, address, opts->port);
    if (front->socket == NULL)
        return obx_fail_errno(err, OBX_E_SYSTEM, errno, "cannot listen on http://%s:%u", address,
                              (unsigned)opts->port);
    fd = evhttp_bound_socket_get_fd(front->socket);
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        front->port =
            ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    return OBX_OK;
}

static enum obx_code set_up(struct half_http *front, const struct half_http_opts *opts,
                            struct obx_err *err)
{
    enum obx_code rc = copy_tokens(front, opts, err);

    if (rc != OBX_OK)
        return rc;
    front->bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    front->base = event_base_new();
    front->http = front->base == NULL ? NULL : evhttp_new(front->base);
    if (front->bell_fd < 0 || front->http == NULL)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    front->bell = event_new(front->base, front->bell_fd, EV_READ | EV_PERSIST, on_bell, front);
    if (front->bell == NULL || event_add(front->bell, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    set_limits(front, opts);
    rc = listen_on(front, opts, err);
    if (rc == OBX_OK && pthread_create(&front->thread, NULL, front_main, front) != 0)
        rc = obx_fail_sys(err, OBX_E_SYSTEM, errno, "thread of the half-message API");
    front->has_thread = rc == OBX_OK;
    return rc;
}

enum obx_code half_http_create(const struct half_http_opts *opts, struct half_http **out,
                               struct obx_err *err)
{
    struct half_http *front = obx_calloc(1, sizeof(*front));
    enum obx_code rc;

    *out = NULL;
    if (front == NULL)
        return obx_fail(err, OBX_E_NOMEM, "half-message API");
    front->store = opts->store;
    front->bell_fd = -1;
    front->first_check_ms = opts->first_check_ms == 0 ? 60000 : opts->first_check_ms;
    front->max_body_bytes = opts->max_body_bytes == 0 ? 4 * 1024 * 1024 : opts->max_body_bytes;
    pthread_mutex_init(&front->mutex, NULL);
    rc = set_up(front, opts, err);
    if (rc != OBX_OK) {
        half_http_destroy(front);
        return rc;
    }
    OBX_LOG(LOG_LVL_INFO, "half", "api.listening", KV_U64("port", front->port));
    *out = front;
    return OBX_OK;
}

uint16_t half_http_port(const struct half_http *front)
{
    return front->port;
}

static void ring(struct half_http *front)
{
    uint64_t one = 1;

    if (write(front->bell_fd, &one, sizeof(one)) < 0)
        OBX_ASSERT(errno == EAGAIN);
}

void half_http_stop(struct half_http *front)
{
    atomic_store(&front->is_stopping, true);
    ring(front);
}

void half_http_destroy(struct half_http *front)
{
    if (front == NULL)
        return;
    if (front->has_thread) {
        atomic_store(&front->is_stopping, true);
        atomic_store(&front->is_ending, true);
        ring(front);
        pthread_join(front->thread, NULL);
    }
    if (front->http != NULL)
        evhttp_free(front->http);
    if (front->bell != NULL)
        event_free(front->bell);
    if (front->base != NULL)
        event_base_free(front->base);
    if (front->bell_fd >= 0)
        close(front->bell_fd);
    for (size_t i = 0; i < front->token_count; i++)
        obx_free(front->tokens[i]);
    pthread_mutex_destroy(&front->mutex);
    obx_free(front);
}

void half_http_get_stats(struct half_http *front, struct half_http_stats *out)
{
    pthread_mutex_lock(&front->mutex);
    *out = front->stats;
    pthread_mutex_unlock(&front->mutex);
}
