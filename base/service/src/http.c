/*
 * The HTTP server: one request of a peer, one answer, the end. On libevent's listener and
 * bufferevents and not on its evhttp, because evhttp bounds neither how many connections there are
 * nor how long one may take with its request (a byte now and then keeps it open), and a relay that
 * has lost all of its descriptors to its own pages cannot reach its servers any more.
 *
 *     READING    the head is not whole yet            next: ANSWERING, gone
 *     ANSWERING  the answer is on its way out         next: LINGERING, gone
 *     LINGERING  all is sent and our side is closed; what the peer still sends is thrown away, so
 *                that the kernel does not take the answer back with a reset.   next: gone
 *
 * From each state a peer goes when its time is over, when it breaks, or when it is the oldest and
 * room is needed.
 */
#include "service/http.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "base/alloc.h"
#include "base/fail.h"
#include "base/log.h"

enum {
    PEERS_MAX = 64,
    HEAD_MAX = 8192,
    LIFE_S = 5,
    LINGER_MAX = 65536,    /* bytes of a peer that are thrown away */
    ACCEPT_PAUSE_MS = 200, /* after an accept that failed */
    LOG_EVERY_MS = 10000,
    PORT_TEXT_MAX = 8,
    METHOD_MAX = 16,
    US_PER_MS = 1000,
};

enum peer_state { PEER_READING, PEER_ANSWERING, PEER_LINGERING };

struct peer {
    TAILQ_ENTRY(peer) entry;
    struct http_server *server;
    struct bufferevent *bev;
    struct event *life;
    enum peer_state state;
    bool has_ended; /* it sends no more */
    size_t thrown_away;
};
TAILQ_HEAD(peer_list, peer);

struct http_server {
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *listen_again;
    const struct http_route *routes; /* borrowed */
    size_t route_count;
    void *ctx;
    struct peer_list peers; /* oldest first */
    unsigned peer_count;
    struct log_limit accept_limit;
    struct http_stats stats;
};

/* The first line of a request. Texts point into the head. */
struct request {
    char method[METHOD_MAX];
    const char *path;
    size_t path_len;
    const char *version; /* "HTTP/1.0" or "HTTP/1.1"; static text */
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {400, "Bad Request"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {431, "Request Header Fields Too Large"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Internal Server Error";
}

static void free_peer(struct peer *peer)
{
    TAILQ_REMOVE(&peer->server->peers, peer, entry);
    peer->server->peer_count--;
    bufferevent_free(peer->bev);
    event_free(peer->life);
    obx_free(peer);
}

/* ---------------------------------------------------------------- answers */

static void send_reply(struct peer *peer, const char *version, bool is_head, int status,
                       const char *content_type, const struct obx_buf *body)
{
    struct evbuffer *out = bufferevent_get_output(peer->bev);

    peer->state = PEER_ANSWERING;
    if (evbuffer_add_printf(out,
                            "%s %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                            "%sConnection: close\r\n\r\n",
                            version, status, reason_of(status), content_type, body->len,
                            status == 405 ? "Allow: GET, HEAD\r\n" : "") < 0 ||
        (!is_head && body->len > 0 && evbuffer_add(out, body->data, body->len) != 0))
        free_peer(peer); /* no memory for an answer */
}

static void refuse(struct peer *peer, const struct request *request, int status, const char *text)
{
    struct obx_buf body = {0};

    peer->server->stats.refused++;
    /* Without memory for the sentence the status line has to do. */
    if (buf_add_text(&body, text) != OBX_OK)
        buf_reset(&body);
    send_reply(peer, request == NULL ? "HTTP/1.1" : request->version,
               request != NULL && strcmp(request->method, "HEAD") == 0, status,
               "text/plain; charset=utf-8", &body);
    buf_fini(&body);
}

static void run_handler(struct peer *peer, const struct http_route *route,
                        const struct request *request)
{
    struct http_reply reply = {.status = 200, .content_type = "text/plain; charset=utf-8"};
    enum obx_code rc = route->handle(&reply, peer->server->ctx);

    if (rc != OBX_OK) {
        buf_reset(&reply.body);
        reply.status = 500;
        reply.content_type = "text/plain; charset=utf-8";
        if (buf_add_text(&reply.body, obx_code_name(rc)) != OBX_OK)
            buf_reset(&reply.body);
    }
    send_reply(peer, request->version, strcmp(request->method, "HEAD") == 0, reply.status,
               reply.content_type, &reply.body);
    buf_fini(&reply.body);
}

static const struct http_route *find_route(const struct http_server *server,
                                           const struct request *request)
{
    for (size_t i = 0; i < server->route_count; i++) {
        const char *path = server->routes[i].path;

        if (strlen(path) == request->path_len &&
            memcmp(path, request->path, request->path_len) == 0)
            return &server->routes[i];
    }
    return NULL;
}

static void answer(struct peer *peer, const struct request *request)
{
    const struct http_route *route = find_route(peer->server, request);

    if (route == NULL)
        refuse(peer, request, 404, "no such page\n");
    else if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        refuse(peer, request, 405, "only GET and HEAD are allowed here\n");
    else
        run_handler(peer, route, request);
}

/* ---------------------------------------------------------------- requests */

/* "METHOD /path?query HTTP/1.1". Returns the status that it deserves if it is refused, else 200. */
static int parse_line(const char *line, struct request *out)
{
    const char *target = strchr(line, ' ');
    const char *version = target == NULL ? NULL : strchr(target + 1, ' ');
    size_t method_len = target == NULL ? 0 : (size_t)(target - line);

    *out = (struct request){.version = "HTTP/1.1"};
    if (version == NULL || method_len == 0 || method_len >= METHOD_MAX || target[1] != '/')
        return 400;
    memcpy(out->method, line, method_len);
    out->method[method_len] = '\0';
    out->path = target + 1;
    out->path_len = strcspn(out->path, "?# ");
    if (strcmp(version + 1, "HTTP/1.0") == 0)
        out->version = "HTTP/1.0";
    else if (strcmp(version + 1, "HTTP/1.1") != 0)
        return strncmp(version + 1, "HTTP/", 5) == 0 ? 505 : 400;
    return 200;
}

static void take_request(struct peer *peer, struct evbuffer *in)
{
    struct request request;
    size_t len = 0;
    char *line = evbuffer_readln(in, &len, EVBUFFER_EOL_CRLF_STRICT);
    int status;

    peer->server->stats.requests++;
    if (line == NULL) { /* out of memory: the end of the line is there */
        free_peer(peer);
        return;
    }
    status = strlen(line) == len ? parse_line(line, &request) : 400; /* a NUL byte in it */
    if (status == 200)
        answer(peer, &request);
    else
        refuse(peer, NULL, status, status == 505 ? "HTTP/1.0 or 1.1\n" : "no HTTP request\n");
    free(line); /* libevent's own allocation */
}

static void on_read(struct bufferevent *bev, void *ctx)
{
    struct peer *peer = ctx;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t len = evbuffer_get_length(in);

    if (peer->state != PEER_READING) {
        peer->thrown_away += len;
        evbuffer_drain(in, len);
        if (peer->thrown_away > LINGER_MAX)
            free_peer(peer);
        return;
    }
    if (evbuffer_search(in, "\r\n\r\n", 4, NULL).pos >= 0)
        take_request(peer, in);
    else if (len >= HEAD_MAX)
        refuse(peer, NULL, 431, "the head of the request is too large\n");
}

/* The answer is out. */
static void on_written(struct bufferevent *bev, void *ctx)
{
    struct peer *peer = ctx;

    if (peer->state != PEER_ANSWERING)
        return;
    if (peer->has_ended) {
        free_peer(peer);
        return;
    }
    peer->state = PEER_LINGERING;
    shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    struct peer *peer = ctx;

    (void)bev;
    /* Somebody who only closed his own side still waits for the answer. */
    if ((what & BEV_EVENT_EOF) != 0 && peer->state == PEER_ANSWERING)
        peer->has_ended = true;
    else
        free_peer(peer);
}

static void on_life_over(evutil_socket_t fd, short what, void *ctx)
{
    struct peer *peer = ctx;

    (void)fd;
    (void)what;
    peer->server->stats.cut_off++;
    free_peer(peer);
}

/* ---------------------------------------------------------------- connections */

static void add_peer(struct http_server *server, evutil_socket_t fd)
{
    const struct timeval life = {.tv_sec = LIFE_S};
    struct peer *peer = obx_calloc(1, sizeof(*peer));
    struct bufferevent *bev = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
    struct event *timer = peer == NULL ? NULL : evtimer_new(server->base, on_life_over, peer);

    if (peer == NULL || bev == NULL || timer == NULL || event_add(timer, &life) != 0) {
        if (bev != NULL)
            bufferevent_free(bev);
        else
            evutil_closesocket(fd);
        if (timer != NULL)
            event_free(timer);
        obx_free(peer);
        return;
    }
    peer->server = server;
    peer->bev = bev;
    peer->life = timer;
    TAILQ_INSERT_TAIL(&server->peers, peer, entry);
    server->peer_count++;
    bufferevent_setwatermark(bev, EV_READ, 0, HEAD_MAX);
    bufferevent_setcb(bev, on_read, on_written, on_end, peer);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

/* A newcomer is worth more than the oldest one: those who ask properly are gone within a moment. */
static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int address_len, void *ctx)
{
    struct http_server *server = ctx;

    (void)listener;
    (void)address;
    (void)address_len;
    if (server->peer_count >= PEERS_MAX) {
        server->stats.cut_off++;
        free_peer(TAILQ_FIRST(&server->peers));
    }
    add_peer(server, fd);
}

/* No descriptors or no memory: ask again in a while and not at once for ever. */
static void on_accept_failed(struct evconnlistener *listener, void *ctx)
{
    const struct timeval pause = {.tv_usec = (suseconds_t)ACCEPT_PAUSE_MS * US_PER_MS};
    struct http_server *server = ctx;
    int sys = EVUTIL_SOCKET_ERROR();
    uint64_t dropped = 0;

    if (log_limit_pass(&server->accept_limit, LOG_EVERY_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "http", "accept.failed", KV_I64("errno", sys),
                KV_U64("more", dropped));
    evconnlistener_disable(listener);
    event_add(server->listen_again, &pause);
}

static void on_listen_again(evutil_socket_t fd, short what, void *ctx)
{
    struct http_server *server = ctx;

    (void)fd;
    (void)what;
    evconnlistener_enable(server->listener);
}

static struct evconnlistener *listen_on(struct http_server *server, const struct http_opts *opts)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct evconnlistener *listener = NULL;
    char port[PORT_TEXT_MAX];
    int sys = 0;

    snprintf(port, sizeof(port), "%u", (unsigned)opts->port);
    if (getaddrinfo(opts->address, port, &hints, &found) != 0) {
        errno = 0;
        return NULL;
    }
    for (const struct addrinfo *at = found; at != NULL && listener == NULL; at = at->ai_next) {
        errno = 0;
        listener = evconnlistener_new_bind(server->base, on_accept, server,
                                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
                                               LEV_OPT_REUSEABLE,
                                           -1, at->ai_addr, (int)at->ai_addrlen);
        sys = errno;
    }
    freeaddrinfo(found);
    errno = sys;
    return listener;
}

enum obx_code http_server_create(const struct http_opts *opts, struct http_server **out,
                                 struct obx_err *err)
{
    struct http_server *server = obx_calloc(1, sizeof(*server));
    int sys;

    *out = NULL;
    if (server == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    TAILQ_INIT(&server->peers);
    server->base = opts->base;
    server->routes = opts->routes;
    server->route_count = opts->route_count;
    server->ctx = opts->ctx;
    server->listen_again = evtimer_new(opts->base, on_listen_again, server);
    if (server->listen_again == NULL) {
        http_server_destroy(server);
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    }
    server->listener = listen_on(server, opts);
    sys = errno;
    if (server->listener == NULL) {
        http_server_destroy(server);
        return sys == 0 ? obx_fail(err, OBX_E_SYSTEM, "http://%s:%u is not an address here",
                                   opts->address, (unsigned)opts->port)
                        : obx_fail_errno(err, OBX_E_SYSTEM, sys, "cannot listen on http://%s:%u",
                                         opts->address, (unsigned)opts->port);
    }
    evconnlistener_set_error_cb(server->listener, on_accept_failed);
    *out = server;
    return OBX_OK;
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    while (!TAILQ_EMPTY(&server->peers))
        free_peer(TAILQ_FIRST(&server->peers));
    if (server->listener != NULL)
        evconnlistener_free(server->listener);
    if (server->listen_again != NULL)
        event_free(server->listen_again);
    obx_free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_stats *out)
{
    *out = server->stats;
}
