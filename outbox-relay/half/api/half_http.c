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

struct call {
    struct half_http *api;
    struct http_exchange *exchange; /* NULL once the peer is gone */
    uint64_t reserved; /* then: what its body still counts against the server's bytes in flight */
    struct half_prepare *prepare;
    struct half_request own; /* for all but a prepare */
    struct half_request *req;
    struct half_list list;
    char gid[HALF_GID_MAX + 1];
    bool is_async; /* answered when it was queued */
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
    bool reads_need_token, takes_async;
    uint32_t first_check_ms;
    struct thread thread;
    atomic_bool is_stopping; /* written under mutex, so that no submit is in progress then */
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

static enum obx_code add_plain_error(struct obx_buf *body, const char *reason, const char *text)
{
    return half_json_add_error(body, reason, text, (struct obx_bytes){0}, NULL);
}

static void refuse_with(struct half_http *api, struct http_exchange *x, int status,
                        const char *fields, const char *reason, const char *text)
{
    struct obx_buf body = {0};

    pthread_mutex_lock(&api->mutex);
    api->stats.refused++;
    if (status == 401)
        api->stats.unauthorized++;
    if (status == 503)
        api->stats.overloaded++;
    pthread_mutex_unlock(&api->mutex);
    if (add_plain_error(&body, reason, text) != OBX_OK)
        buf_reset(&body); /* no memory for the words: the status has to do */
    send_json(x, status, fields, &body);
    buf_fini(&body);
}

static void refuse(struct half_http *api, struct http_exchange *x, int status, const char *reason,
                   const char *text)
{
    refuse_with(api, x, status, NULL, reason, text);
}

/* Answers of the store */

static void add_error(struct obx_buf *body, const struct call *call, const char *reason,
                      const char *text)
{
    const struct half_request *req = call->req;
    bool has_record = req->answer == HALF_ANS_CONFLICT || req->answer == HALF_ANS_REUSED;

    if (half_json_add_error(body, reason, text, req->gid, has_record ? &req->rec : NULL) != OBX_OK)
        buf_reset(body);
}

/* What a caller can do about a failure of the database. */
static int failed_body(struct obx_buf *body, const struct call *call)
{
    const struct obx_err *err = &call->req->err;

    switch ((int)err->code) {
    case OBX_E_DB_COMMIT_UNKNOWN:
    case OBX_E_DB_GONE:
    case OBX_E_TIMEOUT:
        add_error(body, call, "outcome_unknown",
                  "it may or may not have been done; send the same request again");
        return 503;
    case OBX_E_TOO_LARGE:
        add_error(body, call, "too_large", err->text);
        return 413;
    case OBX_E_DB_DATA:
        add_error(body, call, "invalid_value", err->text);
        return 400;
    case OBX_E_DB_DUPLICATE: /* somebody's SQL has put them there */
        add_error(body, call, "gid_reused",
                  "there are messages of this gid without a half-message");
        return 409;
    default:
        add_error(body, call, "database_unavailable", err->text);
        return 503;
    }
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
        add_error(body, call,
                  req->rec.state == HALF_COMMITTED ? "already_committed" : "already_rolled_back",
                  "the opposite verdict was given before");
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

static void finish_call(struct half_http *api, struct call *call)
{
    struct obx_buf body = {0};
    uint64_t took_us = clock_now_us() - call->start_us;
    int status;

    pthread_mutex_lock(&api->mutex);
    api->stats.answered++;
    api->stats.latency_us_sum += took_us;
    api->stats.async_lost += call->is_async && call->req->answer != HALF_ANS_OK;
    pthread_mutex_unlock(&api->mutex);
    if (call->exchange != NULL) {
        status = answer_body(&body, call);
        send_json(call->exchange, status, NULL, &body);
    }
    buf_fini(&body);
    http_release(api->server, call->reserved);
    api->calls--;
    free_call(call);
}

/* On a worker's thread. */
static void on_done(struct half_request *req, void *ctx)
{
    struct call *call = ctx;
    struct half_http *api = call->api;

    (void)req;
    pthread_mutex_lock(&api->mutex);
    call->next = api->done;
    api->done = call;
    pthread_mutex_unlock(&api->mutex);
}

/* On a worker's thread: once a batch, or the loop would be woken again for each of its answers. */
static void after_done(void *ctx)
{
    struct half_http *api = ctx;

    wake_up(&api->wake);
}

static void take_done(struct half_http *api)
{
    struct call *list, *next, *ordered = NULL;

    pthread_mutex_lock(&api->mutex);
    list = api->done;
    api->done = NULL;
    pthread_mutex_unlock(&api->mutex);
    for (; list != NULL; list = next) {
        next = list->next;
        list->next = ordered;
        ordered = list;
    }
    for (; ordered != NULL; ordered = next) {
        next = ordered->next;
        finish_call(api, ordered);
    }
}

static void on_bell(evutil_socket_t fd, short what, void *ctx)
{
    struct half_http *api = ctx;

    (void)fd;
    (void)what;
    (void)wake_clear(&api->wake);
    if (atomic_load(&api->is_stopping))
        http_server_stop_listening(api->server);
    take_done(api);
    if (atomic_load(&api->is_ending) && api->calls == 0) {
        struct timeval flush = {.tv_usec = FLUSH_US};

        event_base_loopexit(api->base, &flush);
    }
}

/* Requests */

static void on_gone(struct http_exchange *x, void *ctx)
{
    struct call *call = http_user(x);

    (void)ctx;
    if (call == NULL)
        return;
    call->exchange = NULL;
    call->reserved = http_keep_reserved(x);
}

/* After half_http_stop the store may be gone: a request whose head came before and whose body came
 * after it must not reach it. */
static enum obx_code submit_unless_stopped(struct half_http *api, struct half_request *req,
                                           struct obx_err *err)
{
    enum obx_code rc;

    pthread_mutex_lock(&api->mutex);
    rc = atomic_load(&api->is_stopping) ? obx_fail(err, OBX_E_CLOSED, "half-message API")
                                        : half_store_submit(api->store, req, err);
    pthread_mutex_unlock(&api->mutex);
    return rc;
}

/* The verdict waits for its transaction, and the caller does not. If it is lost with this process,
 * or cannot be applied, check-back finds out what became of the local transaction. */
static void answer_async(struct half_http *api, struct call *call)
{
    struct http_exchange *x = call->exchange;
    struct obx_buf body = {0};

    call->exchange = NULL;
    call->is_async = true;
    pthread_mutex_lock(&api->mutex);
    api->stats.async++;
    pthread_mutex_unlock(&api->mutex);
    if (half_json_add_accepted(&body, call->req->gid, call->req->verdict) != OBX_OK)
        buf_reset(&body);
    send_json(x, 202, "Preference-Applied: respond-async\r\n", &body);
    buf_fini(&body);
}

static void submit(struct half_http *api, struct call *call, bool is_async)
{
    struct http_exchange *x = call->exchange;
    struct obx_err err = {0};
    enum obx_code rc;

    call->req->done = on_done;
    call->req->ctx = call;
    call->req->after = after_done;
    call->req->after_ctx = api;
    rc = submit_unless_stopped(api, call->req, &err);
    if (rc != OBX_OK) {
        free_call(call);
        refuse(api, x, 503, rc == OBX_E_CLOSED ? "stopping" : "overloaded", err.text);
        return;
    }
    /* Safe after the submit: the answer can only come through the mailbox, which this thread reads.
     */
    api->calls++;
    if (is_async)
        answer_async(api, call);
    else
        http_set_user(x, call);
}

/* Whether a field of preferences (RFC 7240) has this one, with or without parameters. */
static bool prefers(const char *field, const char *preference)
{
    while (field != NULL && *field != '\0') {
        const size_t len = strcspn(field, ",; \t");

        if (len == strlen(preference) && strncasecmp(field, preference, len) == 0)
            return true;
        field += strcspn(field, ",");
        field += strspn(field, ", \t");
    }
    return false;
}

static struct call *new_call(struct half_http *api, struct http_exchange *x)
{
    struct call *call = obx_calloc(1, sizeof(*call));

    if (call == NULL) {
        refuse(api, x, 503, "overloaded", "out of memory");
        return NULL;
    }
    call->api = api;
    call->exchange = x;
    call->req = &call->own;
    call->start_us = clock_now_us();
    return call;
}

static void refuse_call(struct half_http *api, struct call *call,
                        const struct half_refusal *refusal)
{
    struct http_exchange *x = call->exchange;

    free_call(call);
    refuse(api, x, refusal->status, refusal->reason, refusal->text);
}

static void on_prepare(struct half_http *api, struct http_exchange *x)
{
    struct half_refusal refusal = {0};
    struct call *call = new_call(api, x);
    bool is_known = api->producers == NULL; /* none are configured: every name is taken */

    if (call == NULL)
        return;
    if (half_json_parse_prepare(http_body(x), api->first_check_ms, &call->prepare, &refusal) !=
        OBX_OK) {
        refuse_call(api, call, &refusal);
        return;
    }
    http_drop_body(x);
    call->req = half_prepare_request(call->prepare);
    call->req->wants_ids = true;
    for (size_t i = 0; i < api->producer_count && !is_known; i++)
        is_known = bytes_is(call->req->producer, api->producers[i]);
    if (!is_known) { /* it could never be asked */
        free_call(call);
        refuse(api, x, 400, "unknown_producer",
               "the relay's configuration has no [producer] section of this name");
        return;
    }
    submit(api, call, false);
}

static void on_gid(struct half_http *api, struct http_exchange *x, const struct route *route)
{
    struct call *call;

    if (route->is_gid_broken) {
        refuse(api, x, 404, "unknown_gid", "not a gid");
        return;
    }
    call = new_call(api, x);
    if (call == NULL)
        return;
    memcpy(call->gid, route->gid, sizeof(call->gid));
    call->own = (struct half_request){.kind = route->kind,
                                      .gid = bytes_of(call->gid),
                                      .verdict = route->verdict,
                                      .wants_ids = route->kind == HALF_REQ_LOOKUP,
                                      .actor = "producer"};
    submit(api, call,
           route->kind == HALF_REQ_VERDICT && api->takes_async &&
               prefers(http_field(x, "Prefer"), "respond-async"));
}

static void on_list(struct half_http *api, struct http_exchange *x)
{
    struct half_refusal refusal = {0};
    struct call *call = new_call(api, x);

    if (call == NULL)
        return;
    if (half_query_parse(http_query(x), &call->list, &refusal) != OBX_OK) {
        refuse_call(api, call, &refusal);
        return;
    }
    call->own = (struct half_request){.kind = HALF_REQ_LIST, .list = &call->list};
    submit(api, call, false);
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

/* What each method does to ROOT, ROOT/{gid}, ROOT/{gid}/commit and ROOT/{gid}/rollback. HEAD is a
 * GET to us. */
static const struct action {
    bool has_gid;
    const char *verb; /* after the gid; "": nothing */
    const char *method;
    enum half_kind kind;
    enum half_verdict verdict;
    const char *allow; /* all methods of this path, as a field */
} actions[] = {
    {false, "", "POST", HALF_REQ_PREPARE, HALF_COMMIT, "Allow: GET, HEAD, POST\r\n"},
    {false, "", "GET", HALF_REQ_LIST, HALF_COMMIT, "Allow: GET, HEAD, POST\r\n"},
    {true, "", "GET", HALF_REQ_LOOKUP, HALF_COMMIT, "Allow: GET, HEAD\r\n"},
    {true, "commit", "POST", HALF_REQ_VERDICT, HALF_COMMIT, "Allow: POST\r\n"},
    {true, "rollback", "POST", HALF_REQ_VERDICT, HALF_ROLLBACK, "Allow: POST\r\n"},
};

static void route_of(const struct http_exchange *x, struct route *route)
{
    struct obx_bytes path = http_path(x), gid = {0}, verb = {.p = "", .len = 0};
    const size_t root = sizeof(ROOT) - 1;
    bool has_gid;

    memset(route, 0, sizeof(*route));
    if (path.len < root || memcmp(path.p, ROOT, root) != 0 ||
        (path.len > root && ((const char *)path.p)[root] != '/'))
        return;
    path = (struct obx_bytes){(const char *)path.p + root, path.len - root};
    has_gid = next_segment(&path, &gid);
    if (next_segment(&path, &verb) && (verb.len == 0 || path.len > 0))
        return;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        const struct action *action = &actions[i];

        if (action->has_gid != has_gid || !bytes_is(verb, action->verb) || route->is_allowed)
            continue;
        route->is_known = true;
        route->allow = action->allow;
        route->kind = action->kind;
        route->verdict = action->verdict;
        route->is_allowed = strcmp(http_method(x), action->method) == 0;
    }
    route->is_gid_broken = has_gid && (!http_decode(gid, route->gid, sizeof(route->gid)) ||
                                       !half_gid_is_valid(bytes_of(route->gid)));
}

static bool has_token(const struct half_http *api, const struct http_exchange *x)
{
    const char *given = http_field(x, "Authorization");
    bool match = false;

    if (given == NULL || strncasecmp(given, "Bearer ", 7) != 0)
        return false;
    for (size_t i = 0; i < api->token_count; i++)
        if (bytes_equal_constant_time(bytes_of(given + 7), bytes_of(api->tokens[i])))
            match = true;
    return match;
}

static bool on_head(struct http_exchange *x, void *ctx)
{
    struct half_http *api = ctx;
    const char *type = http_field(x, "Content-Type");
    const bool is_json = type != NULL && strncasecmp(type, "application/json", 16) == 0 &&
                         (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
    struct route route;

    pthread_mutex_lock(&api->mutex);
    api->stats.requests++;
    pthread_mutex_unlock(&api->mutex);
    route_of(x, &route);
    if (!route.is_known)
        refuse(api, x, 404, "no_such_path", "the API is " ROOT ", see docs/openapi.yaml");
    else if (!route.is_allowed)
        refuse_with(api, x, 405, route.allow, "method",
                    "POST to prepare, commit or roll back; GET to look up or list");
    else if ((api->reads_need_token || route.kind != HALF_REQ_LOOKUP) && !has_token(api, x))
        refuse(api, x, 401, "unauthorized", "send Authorization: Bearer with a valid token");
    else if (atomic_load(&api->is_stopping))
        refuse(api, x, 503, "stopping", "this relay is stopping; ask again");
    else if (route.kind == HALF_REQ_PREPARE && !is_json)
        refuse(api, x, 415, "media_type", "send Content-Type: application/json");
    else
        return true;
    return false;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct half_http *api = ctx;
    struct route route;

    route_of(x, &route);
    if (route.kind == HALF_REQ_PREPARE)
        on_prepare(api, x);
    else if (route.kind == HALF_REQ_LIST)
        on_list(api, x);
    else
        on_gid(api, x, &route);
}

static const struct http_ops api_ops = {.on_head = on_head,
                                        .on_request = on_request,
                                        .on_gone = on_gone,
                                        .add_error = add_plain_error,
                                        .error_type = "application/json"};

/* Life */

static void *api_main(void *arg)
{
    struct half_http *api = arg;

    event_base_dispatch(api->base);
    return NULL;
}

static enum obx_code copy_tokens(struct half_http *api, const struct half_http_opts *opts,
                                 struct obx_err *err)
{
    if (opts->token_count == 0 || opts->token_count > TOKEN_MAX)
        return obx_fail(err, OBX_E_CONFIG, "the half-message API needs 1 to %d tokens", TOKEN_MAX);
    for (size_t i = 0; i < opts->token_count; i++) {
        if (strlen(opts->tokens[i]) < TOKEN_LEAST)
            return obx_fail(err, OBX_E_CONFIG,
                            "a token of the half-message API has less than 16 characters");
        api->tokens[i] = obx_strdup(opts->tokens[i]);
        if (api->tokens[i] == NULL)
            return obx_fail(err, OBX_E_NOMEM, "token");
        api->token_count++;
    }
    return OBX_OK;
}

static enum obx_code copy_producers(struct half_http *api, const struct half_http_opts *opts,
                                    struct obx_err *err)
{
    if (opts->producers == NULL)
        return OBX_OK;
    api->producers = obx_calloc(opts->producer_count + 1, sizeof(*api->producers));
    if (api->producers == NULL)
        return obx_fail(err, OBX_E_NOMEM, "producers");
    for (; api->producer_count < opts->producer_count; api->producer_count++) {
        char *name = obx_strdup(opts->producers[api->producer_count]);

        if (name == NULL)
            return obx_fail(err, OBX_E_NOMEM, "producers");
        api->producers[api->producer_count] = name;
    }
    return OBX_OK;
}

static enum obx_code listen_on(struct half_http *api, const struct half_http_opts *opts,
                               struct obx_err *err)
{
    struct http_opts http = {.base = api->base,
                             .address = opts->address != NULL ? opts->address : "127.0.0.1",
                             .port = opts->port,
                             .ops = &api_ops,
                             .ctx = api,
                             .limits = opts->limits,
                             .hosts = opts->hosts,
                             .host_count = opts->host_count,
                             .tls_cert_file = opts->tls_cert_file,
                             .tls_key_file = opts->tls_key_file};

    if (http.limits.connections == 0)
        http.limits.connections = HALF_HTTP_CONNECTIONS;
    if (http.limits.body_bytes == 0)
        http.limits.body_bytes = HALF_HTTP_BODY_BYTES;
    return http_server_create(&http, &api->server, err);
}

static enum obx_code set_up(struct half_http *api, const struct half_http_opts *opts,
                            struct obx_err *err)
{
    enum obx_code rc = copy_tokens(api, opts, err);

    if (rc == OBX_OK)
        rc = copy_producers(api, opts, err);
    if (rc == OBX_OK)
        rc = wake_init(&api->wake, err);
    if (rc != OBX_OK)
        return rc;
    api->base = event_base_new();
    if (api->base == NULL)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    api->bell = event_new(api->base, api->wake.fd, EV_READ | EV_PERSIST, on_bell, api);
    if (api->bell == NULL || event_add(api->bell, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "event loop of the half-message API");
    rc = listen_on(api, opts, err);
    if (rc == OBX_OK)
        rc = thread_start(&api->thread, api_main, api, "the half-message API", err);
    return rc;
}

enum obx_code half_http_create(const struct half_http_opts *opts, struct half_http **out,
                               struct obx_err *err)
{
    struct half_http *api = obx_calloc(1, sizeof(*api));
    enum obx_code rc;

    *out = NULL;
    if (api == NULL)
        return obx_fail(err, OBX_E_NOMEM, "half-message API");
    api->store = opts->store;
    api->wake.fd = -1;
    api->reads_need_token = !opts->open_lookup;
    api->takes_async = opts->takes_async;
    api->first_check_ms =
        opts->first_check_ms == 0 ? HALF_HTTP_FIRST_CHECK_MS : opts->first_check_ms;
    pthread_mutex_init(&api->mutex, NULL);
    rc = set_up(api, opts, err);
    if (rc != OBX_OK) {
        half_http_destroy(api);
        return rc;
    }
    OBX_LOG(LOG_LVL_INFO, "half", "api.listening", KV_U64("port", half_http_port(api)));
    *out = api;
    return OBX_OK;
}

uint16_t half_http_port(const struct half_http *api)
{
    return http_server_port(api->server);
}

void half_http_stop(struct half_http *api)
{
    pthread_mutex_lock(&api->mutex);
    atomic_store(&api->is_stopping, true);
    pthread_mutex_unlock(&api->mutex);
    wake_up(&api->wake);
}

void half_http_destroy(struct half_http *api)
{
    if (api == NULL)
        return;
    if (api->thread.is_started) {
        atomic_store(&api->is_ending, true);
        half_http_stop(api);
        thread_join(&api->thread);
    }
    http_server_destroy(api->server);
    if (api->bell != NULL)
        event_free(api->bell);
    if (api->base != NULL)
        event_base_free(api->base);
    wake_fini(&api->wake);
    for (size_t i = 0; i < api->token_count; i++)
        obx_free(api->tokens[i]);
    for (size_t i = 0; i < api->producer_count; i++)
        obx_free(api->producers[i]);
    obx_free(api->producers);
    pthread_mutex_destroy(&api->mutex);
    obx_free(api);
}

void half_http_get_stats(struct half_http *api, struct half_http_stats *out)
{
    pthread_mutex_lock(&api->mutex);
    *out = api->stats;
    pthread_mutex_unlock(&api->mutex);
    http_server_get_stats(api->server, &out->http);
}
