/*
 * The half-message API: what the HTTP server (service/http.h) and the store say to each other.
 *
 * Threads: everything here runs on the API's own thread but on_done, which a store worker calls: it
 * puts the request on the mailbox and wakes the API's thread. A `call` is one HTTP request in flight; it
 * belongs to the loop until it is submitted, then to the store, then to the mailbox, then to the
 * loop again, which frees it. A peer that goes away meanwhile only takes the exchange out of its
 * call.
 *
 * Path, method, token and content type are judged by the head alone: a caller without a token makes
 * us read none of its body.
 */
#include "half_http.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"
#include "half_json.h"
#include "half_query.h"
#include "service/http.h"

#define ROOT "/v1/half-messages"

enum { TOKEN_MAX = 8, TOKEN_LEAST = 16, FLUSH_US = 100000 };

#define CONNECTIONS    512
#define MAX_BODY_BYTES (4 * 1024 * 1024)

struct call {
    struct half_http *front;
    struct http_exchange *exchange; /* NULL once the peer is gone */
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
    struct http_server *server;
    struct event *bell;
    struct wake wake;
    char *tokens[TOKEN_MAX];
    size_t token_count;
    char **producers;
    size_t producer_count;
    bool reads_need_token;
    uint32_t first_check_ms;
    struct thread thread;
    atomic_bool is_stopping;
    atomic_bool is_ending;
    pthread_mutex_t mutex;
    struct call *done;            /* the mailbox, newest first */
    struct half_http_stats stats; /* under mutex */
    uint32_t calls;               /* in flight; the loop's own */
};

/* What a method does to a path. */
struct route {
    enum half_kind kind;
    enum half_verdict verdict;
    bool is_known;      /* the path */
    const char *allow;  /* the methods of the path, as a field */
    bool is_allowed;    /* this method */
    bool is_gid_broken; /* not one that could be there */
    char gid[HALF_GID_MAX + 1];
};

static void send_json(struct http_exchange *x, int status, const char *fields,
                      const struct obx_buf *body)
{
    const struct http_response answer = {
        .status = status,
        .content_type = "application/json",
        .fields = fields != NULL  ? fields
                  : status == 503 ? "Retry-After: 1\r\n"
                  : status == 401 ? "WWW-Authenticate: Bearer\r\n"
                                  : NULL,
        .body = buf_bytes(body),
    };

    http_respond(x, &answer);
}

static void count_refused(struct half_http *front, int status)
{
    pthread_mutex_lock(&front->mutex);
    front->stats.refused++;
    if (status == 401)
        front->stats.unauthorized++;
    if (status == 503)
        front->stats.overloaded++;
    pthread_mutex_unlock(&front->mutex);
}

static enum obx_code add_plain_error(struct obx_buf *body, const char *reason, const char *text)
{
    return half_json_add_error(body, reason, text, (struct obx_bytes){0}, NULL);
}

static void refuse_with(struct half_http *front, struct http_exchange *x, int status,
                        const char *fields, const char *reason, const char *text)
{
    struct obx_buf body = {0};

    count_refused(front, status);
    if (add_plain_error(&body, reason, text) != OBX_OK)
        buf_reset(&body); /* no memory for the words: the status has to do */
    send_json(x, status, fields, &body);
    buf_fini(&body);
}

static void refuse(struct half_http *front, struct http_exchange *x, int status, const char *reason,
                   const char *text)
{
    refuse_with(front, x, status, NULL, reason, text);
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
    else if (err->code == OBX_E_TOO_LARGE) {
        add_error(body, call, "too_large", err->text);
        return 413;
    } else if (err->code == OBX_E_DB_DATA) {
        add_error(body, call, "invalid_value", err->text);
        return 400;
    } else
        add_error(body, call, "database_unavailable", err->text);
    return 503;
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
            return 200;
        }
        if (half_json_add_answer(body, req) != OBX_OK)
            buf_reset(body);
        return req->kind == HALF_REQ_PREPARE && !req->is_repeat ? 201 : 200;
    case HALF_ANS_NOT_FOUND:
        add_error(body, call, "unknown_gid", "no half-message has this gid");
        return 404;
    case HALF_ANS_CONFLICT:
        add_error(body, call, conflict_reason(&req->rec), "the opposite verdict was given before");
        return 409;
    case HALF_ANS_REUSED:
        add_error(body, call, "gid_reused", "this gid was prepared before with another content");
        return 409;
    case HALF_ANS_BUSY:
        add_error(body, call, "busy", "another transaction holds this half-message; repeat");
        return 503;
    case HALF_ANS_FAILED:
        break;
    }
    return failed_body(body, call);
}

static void free_call(struct call *call)
{
    obx_free(call->req->ids);
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
    if (call->exchange != NULL) {
        int status = answer_body(&body, call);

        send_json(call->exchange, status, NULL, &body);
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
    bool first;

    (void)req;
    pthread_mutex_lock(&front->mutex);
    first = front->done == NULL;
    call->next = front->done;
    front->done = call;
    if (first)
        wake_up(&front->wake);
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

    (void)fd;
    (void)what;
    (void)wake_clear(&front->wake);
    if (atomic_load(&front->is_stopping))
        http_server_stop_listening(front->server);
    take_done(front);
    if (atomic_load(&front->is_ending) && front->calls == 0) {
        struct timeval flush = {.tv_usec = FLUSH_US};

        event_base_loopexit(front->base, &flush);
    }
}

/* Requests */

static void on_gone(struct http_exchange *x, void *ctx)
{
    struct call *call = http_user(x);

    (void)ctx;
    if (call != NULL)
        call->exchange = NULL;
}

static void submit(struct half_http *front, struct call *call)
{
    struct http_exchange *x = call->exchange;
    struct obx_err err = {0};

    call->req->done = on_done;
    call->req->ctx = call;
    if (half_store_submit(front->store, call->req, &err) != OBX_OK) {
        free_call(call);
        refuse(front, x, 503, "overloaded", err.text);
        return;
    }
    /* Safe after the submit: the answer can only come through the mailbox, which this thread reads.
     */
    http_set_user(x, call);
    front->calls++;
}

static struct call *new_call(struct half_http *front, struct http_exchange *x)
{
    struct call *call = obx_calloc(1, sizeof(*call));

    if (call == NULL) {
        refuse(front, x, 503, "overloaded", "out of memory");
        return NULL;
    }
    call->front = front;
    call->exchange = x;
    call->req = &call->own;
    call->start_us = clock_now_us();
    return call;
}

static void refuse_call(struct half_http *front, struct call *call,
                        const struct half_refusal *refusal)
{
    struct http_exchange *x = call->exchange;

    free_call(call);
    refuse(front, x, refusal->status, refusal->reason, refusal->text);
}

/* A producer that is not configured could never be asked. */
static bool knows_producer(const struct half_http *front, struct obx_bytes name)
{
    for (size_t i = 0; i < front->producer_count; i++)
        if (bytes_is(name, front->producers[i]))
            return true;
    return front->producers == NULL;
}

static void on_prepare(struct half_http *front, struct http_exchange *x)
{
    struct half_refusal refusal = {0};
    struct call *call = new_call(front, x);

    if (call == NULL)
        return;
    if (half_json_parse_prepare(http_body(x), front->first_check_ms, &call->prepare, &refusal) !=
        OBX_OK) {
        refuse_call(front, call, &refusal);
        return;
    }
    http_drop_body(x);
    call->req = half_prepare_request(call->prepare);
    call->req->wants_ids = true;
    if (!knows_producer(front, call->req->producer)) {
        free_call(call);
        refuse(front, x, 400, "unknown_producer",
               "the relay's configuration has no [producer] section of this name");
        return;
    }
    submit(front, call);
}

static void on_gid(struct half_http *front, struct http_exchange *x, const struct route *route)
{
    struct call *call;

    if (route->is_gid_broken) {
        refuse(front, x, 404, "unknown_gid", "not a gid");
        return;
    }
    call = new_call(front, x);
    if (call == NULL)
        return;
    memcpy(call->gid, route->gid, sizeof(call->gid));
    call->own = (struct half_request){.kind = route->kind,
                                      .gid = bytes_of(call->gid),
                                      .verdict = route->verdict,
                                      .wants_ids = route->kind == HALF_REQ_LOOKUP,
                                      .actor = "producer"};
    submit(front, call);
}

static void on_list(struct half_http *front, struct http_exchange *x)
{
    struct half_refusal refusal = {0};
    struct call *call = new_call(front, x);

    if (call == NULL)
        return;
    if (half_query_parse(http_query(x), &call->list, &refusal) != OBX_OK) {
        refuse_call(front, call, &refusal);
        return;
    }
    call->own = (struct half_request){.kind = HALF_REQ_LIST, .list = &call->list};
    submit(front, call);
}

/* Heads */

/* The next segment of a path, "/name". False: there is none. */
static bool next_segment(struct obx_bytes *path, struct obx_bytes *segment)
{
    const char *p = path->p;
    const char *end;

    if (path->len == 0)
        return false;
    end = memchr(p + 1, '/', path->len - 1);
    *segment = (struct obx_bytes){p + 1, end == NULL ? path->len - 1 : (size_t)(end - p) - 1};
    *path = end == NULL ? (struct obx_bytes){0}
                        : (struct obx_bytes){end, path->len - (size_t)(end - p)};
    return true;
}

static void route_collection(struct route *route, const char *method)
{
    const bool is_post = strcmp(method, "POST") == 0;

    route->is_known = true;
    route->allow = "Allow: GET, HEAD, POST\r\n";
    route->is_allowed = is_post || strcmp(method, "GET") == 0;
    route->kind = is_post ? HALF_REQ_PREPARE : HALF_REQ_LIST;
}

static void route_lookup(struct route *route, const char *method)
{
    route->is_known = true;
    route->allow = "Allow: GET, HEAD\r\n";
    route->is_allowed = strcmp(method, "GET") == 0;
    route->kind = HALF_REQ_LOOKUP;
}

static void route_verdict(struct route *route, const char *method, struct obx_bytes verb)
{
    const bool is_commit = bytes_is(verb, "commit");

    if (!is_commit && !bytes_is(verb, "rollback"))
        return;
    route->is_known = true;
    route->allow = "Allow: POST\r\n";
    route->is_allowed = strcmp(method, "POST") == 0;
    route->kind = HALF_REQ_VERDICT;
    route->verdict = is_commit ? HALF_COMMIT : HALF_ROLLBACK;
}

/* ROOT, ROOT/{gid}, ROOT/{gid}/commit and ROOT/{gid}/rollback. */
static void route_of(const struct http_exchange *x, struct route *route)
{
    struct obx_bytes path = http_path(x), gid = {0}, verb = {0};
    const char *method = http_method(x);
    const size_t root = sizeof(ROOT) - 1;

    memset(route, 0, sizeof(*route));
    if (path.len < root || memcmp(path.p, ROOT, root) != 0 ||
        (path.len > root && ((const char *)path.p)[root] != '/'))
        return;
    path = (struct obx_bytes){(const char *)path.p + root, path.len - root};
    if (!next_segment(&path, &gid)) {
        route_collection(route, method);
        return;
    }
    route->is_gid_broken = !http_decode(gid, route->gid, sizeof(route->gid)) ||
                           !half_gid_is_valid(bytes_of(route->gid));
    if (!next_segment(&path, &verb))
        route_lookup(route, method);
    else if (path.len == 0)
        route_verdict(route, method, verb);
}

static bool has_token(const struct half_http *front, const struct http_exchange *x)
{
    const char *given = http_field(x, "Authorization");
    bool match = false;

    if (given == NULL || strncasecmp(given, "Bearer ", 7) != 0)
        return false;
    for (size_t i = 0; i < front->token_count; i++)
        if (bytes_equal_constant_time(bytes_of(given + 7), bytes_of(front->tokens[i])))
            match = true;
    return match;
}

static bool is_json(const struct http_exchange *x)
{
    const char *type = http_field(x, "Content-Type");

    return type != NULL && strncasecmp(type, "application/json", 16) == 0 &&
           (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
}

static bool needs_token(const struct half_http *front, const struct route *route)
{
    return front->reads_need_token || route->kind != HALF_REQ_LOOKUP;
}

static bool on_head(struct http_exchange *x, void *ctx)
{
    struct half_http *front = ctx;
    struct route route;

    pthread_mutex_lock(&front->mutex);
    front->stats.requests++;
    pthread_mutex_unlock(&front->mutex);
    route_of(x, &route);
    if (!route.is_known)
        refuse(front, x, 404, "no_such_path", "the API is " ROOT ", see docs/openapi.yaml");
    else if (!route.is_allowed)
        refuse_with(front, x, 405, route.allow, "method",
                    "POST to prepare, commit or roll back; GET to look up or list");
    else if (needs_token(front, &route) && !has_token(front, x))
        refuse(front, x, 401, "unauthorized", "send Authorization: Bearer with a valid token");
    else if (atomic_load(&front->is_stopping))
        refuse(front, x, 503, "stopping", "this relay is stopping; ask again");
    else if (route.kind == HALF_REQ_PREPARE && !is_json(x))
        refuse(front, x, 415, "media_type", "send Content-Type: application/json");
    else
        return true;
    return false;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct half_http *front = ctx;
    struct route route;

    route_of(x, &route);
    if (route.kind == HALF_REQ_PREPARE)
        on_prepare(front, x);
    else if (route.kind == HALF_REQ_LIST)
        on_list(front, x);
    else
        on_gid(front, x, &route);
}

static const struct http_ops front_ops = {.on_head = on_head,
                                          .on_request = on_request,
                                          .on_gone = on_gone,
                                          .add_error = add_plain_error,
                                          .error_type = "application/json"};

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
        if (strlen(opts->tokens[i]) < TOKEN_LEAST)
            return obx_fail(err, OBX_E_CONFIG,
                            "a token of the half-message API has less than 16 characters");
        front->tokens[i] = obx_strdup(opts->tokens[i]);
        if (front->tokens[i] == NULL)
            return obx_fail(err, OBX_E_NOMEM, "token");
        front->token_count++;
    }
    return OBX_OK;
}

static enum obx_code copy_producers(struct half_http *front, const struct half_http_opts *opts,
                                    struct obx_err *err)
{
    if (opts->producers == NULL)
        return OBX_OK;
    front->producers = obx_calloc(opts->producer_count + 1, sizeof(*front->producers));
    if (front->producers == NULL)
        return obx_fail(err, OBX_E_NOMEM, "producers");
    for (; front->producer_count < opts->producer_count; front->producer_count++) {
        char *name = obx_strdup(opts->producers[front->producer_count]);

        if (name == NULL)
            return obx_fail(err, OBX_E_NOMEM, "producers");
        front->producers[front->producer_count] = name;
    }
    return OBX_OK;
}

static enum obx_code listen_on(struct half_http *front, const struct half_http_opts *opts,
                               struct obx_err *err)
{
    struct http_opts http = {.base = front->base,
                             .address = opts->address != NULL ? opts->address : "127.0.0.1",
                             .port = opts->port,
                             .ops = &front_ops,
                             .ctx = front,
                             .limits = opts->limits,
                             .hosts = opts->hosts,
                             .host_count = opts->host_count,
                             .tls_cert_file = opts->tls_cert_file,
                             .tls_key_file = opts->tls_key_file};

    if (http.limits.connections == 0)
        http.limits.connections = CONNECTIONS;
    if (http.limits.body_bytes == 0)
        http.limits.body_bytes = MAX_BODY_BYTES;
    return http_server_create(&http, &front->server, err);
}

static enum obx_code set_up(struct half_http *front, const struct half_http_opts *opts,
                            struct obx_err *err)
{
    enum obx_code rc = copy_tokens(front, opts, err);

    if (rc == OBX_OK)
        rc = copy_producers(front, opts, err);
    if (rc == OBX_OK)
        rc = wake_init(&front->wake, err);
    if (rc != OBX_OK)
        return rc;
    front->base = event_base_new();
    if (front->base == NULL)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    front->bell = event_new(front->base, front->wake.fd, EV_READ | EV_PERSIST, on_bell, front);
    if (front->bell == NULL || event_add(front->bell, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    rc = listen_on(front, opts, err);
    if (rc == OBX_OK)
        rc = thread_start(&front->thread, front_main, front, "the half-message API", err);
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
    front->wake.fd = -1;
    front->reads_need_token = !opts->open_lookup;
    front->first_check_ms = opts->first_check_ms == 0 ? 60000 : opts->first_check_ms;
    pthread_mutex_init(&front->mutex, NULL);
    rc = set_up(front, opts, err);
    if (rc != OBX_OK) {
        half_http_destroy(front);
        return rc;
    }
    OBX_LOG(LOG_LVL_INFO, "half", "api.listening", KV_U64("port", half_http_port(front)));
    *out = front;
    return OBX_OK;
}

uint16_t half_http_port(const struct half_http *front)
{
    return http_server_port(front->server);
}

void half_http_stop(struct half_http *front)
{
    atomic_store(&front->is_stopping, true);
    wake_up(&front->wake);
}

void half_http_destroy(struct half_http *front)
{
    if (front == NULL)
        return;
    if (front->thread.is_started) {
        atomic_store(&front->is_stopping, true);
        atomic_store(&front->is_ending, true);
        wake_up(&front->wake);
        thread_join(&front->thread);
    }
    http_server_destroy(front->server);
    if (front->bell != NULL)
        event_free(front->bell);
    if (front->base != NULL)
        event_base_free(front->base);
    wake_fini(&front->wake);
    for (size_t i = 0; i < front->token_count; i++)
        obx_free(front->tokens[i]);
    for (size_t i = 0; i < front->producer_count; i++)
        obx_free(front->producers[i]);
    obx_free(front->producers);
    pthread_mutex_destroy(&front->mutex);
    obx_free(front);
}

void half_http_get_stats(struct half_http *front, struct half_http_stats *out)
{
    pthread_mutex_lock(&front->mutex);
    *out = front->stats;
    pthread_mutex_unlock(&front->mutex);
    http_server_get_stats(front->server, &out->http);
}
