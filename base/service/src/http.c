/*
 * The HTTP server: its listener, which of the connections that knock get room, and what becomes of
 * those whose time has run out, which one timer looks for. A connection itself is http_exchange.c's.
 */
#include "service/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fail.h"
#include "http_exchange.h"
#include "http_tls.h"

enum {
    TICK_MS = 100,
    ACCEPT_PAUSE_MS = 200, /* after an accept that failed */
    LOG_EVERY_MS = 10000,
    PORT_TEXT_MAX = 8,
    US_PER_MS = 1000,
    NETWORK_LEN = 8,        /* of an IPv6 address: what one host is given at least */
    DESCRIPTORS_KEPT = 256, /* for databases, brokers and files of this process */
    DESCRIPTORS_LEAST = 512,
};

/* ---------------------------------------------------------------- times */

static void arm_tick(struct http_server *server)
{
    const struct timeval tick = {.tv_usec = (suseconds_t)TICK_MS * US_PER_MS};

    if (!TAILQ_EMPTY(&server->peers) && !evtimer_pending(server->tick, NULL))
        evtimer_add(server->tick, &tick);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    struct http_server *server = ctx;
    struct http_exchange *next;
    const uint64_t now_ms = clock_now_ms();

    (void)fd;
    (void)what;
    for (struct http_exchange *x = TAILQ_FIRST(&server->peers); x != NULL; x = next) {
        next = TAILQ_NEXT(x, entry);
        if (x->due_ms <= now_ms)
            exchange_end_late(x);
    }
    arm_tick(server);
}

/* ---------------------------------------------------------------- connections */

static void network_of(const struct sockaddr *address, unsigned char *network)
{
    memset(network, 0, sizeof(struct in6_addr));
    if (address->sa_family == AF_INET) {
        memcpy(network + NETWORK_LEN,
               &((const struct sockaddr_in *)(const void *)address)->sin_addr,
               sizeof(struct in_addr));
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *addr =
            &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

        /* IPv4 over an IPv6 socket is still one host each. */
        if (IN6_IS_ADDR_V4MAPPED(addr))
            memcpy(network + NETWORK_LEN, addr->s6_addr + 12, sizeof(struct in_addr));
        else
            memcpy(network, addr, NETWORK_LEN);
    }
}

/* How little a connection is worth when room is needed; 0: it stays. */
static unsigned rank_of(const struct http_exchange *x)
{
    switch (x->state) {
    case PEER_LINGERING:
        return 4;
    case PEER_IDLE:
    case PEER_READING:
    case PEER_BODY:
        return x->has_asked ? 1 : 3;
    case PEER_ANSWERING:
        return 2;
    case PEER_HANDLING:
        break;
    }
    return 0;
}

static bool is_of(const struct http_exchange *x, const unsigned char *network)
{
    return network == NULL || memcmp(x->network, network, sizeof(x->network)) == 0;
}

/* Close the one that is worth least, of all or of one network; false: every one is at work. */
static bool make_room(struct http_server *server, const unsigned char *network)
{
    struct http_exchange *x, *worst = NULL;

    TAILQ_FOREACH(x, &server->peers, entry)
    {
        if (rank_of(x) == 0 || !is_of(x, network))
            continue;
        if (worst == NULL || rank_of(x) > rank_of(worst) ||
            (rank_of(x) == rank_of(worst) && x->since_ms < worst->since_ms))
            worst = x;
    }
    if (worst == NULL)
        return false;
    server->stats.cut_off++;
    exchange_free(worst);
    return true;
}

static uint32_t count_of(const struct http_server *server, const unsigned char *network)
{
    const struct http_exchange *x;
    uint32_t count = 0;

    TAILQ_FOREACH(x, &server->peers, entry)
    count += is_of(x, network);
    return count;
}

static bool has_room(struct http_server *server, const unsigned char *network)
{
    if (count_of(server, network) >= server->limits.per_address && !make_room(server, network))
        return false;
    return server->stats.connections < server->limits.connections || make_room(server, NULL);
}

/* Once there is no room, one caller a turn of the loop: a connection is read before
 * another one takes its place, however many knock at once. */
static void pause_when_full(struct http_server *server, const unsigned char *network)
{
    const struct timeval now = {0};

    if (server->stats.connections < server->limits.connections &&
        count_of(server, network) < server->limits.per_address)
        return;
    evconnlistener_disable(server->listener);
    event_add(server->listen_again, &now);
}

/* As text, because that is how a configuration names a peer. */
static void set_peer(struct http_exchange *x, const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
                        x->peer, sizeof(x->peer));
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *addr =
            &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

        if (IN6_IS_ADDR_V4MAPPED(addr))
            (void)inet_ntop(AF_INET, addr->s6_addr + 12, x->peer, sizeof(x->peer));
        else
            (void)inet_ntop(AF_INET6, addr, x->peer, sizeof(x->peer));
    }
}

static void add_peer(struct http_server *server, evutil_socket_t fd, const struct sockaddr *address,
                     const unsigned char *network)
{
    struct http_exchange *x = obx_calloc(1, sizeof(*x));
    struct bufferevent *bev = NULL;

    if (x != NULL)
        bev = server->tls != NULL ? http_tls_accept(server->tls, server->base, fd)
                                  : bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        evutil_closesocket(fd);
        obx_free(x);
        return;
    }
    memcpy(x->network, network, sizeof(x->network));
    set_peer(x, address);
    exchange_start(x, server, bev);
    arm_tick(server);
}

static void turn_away(struct http_server *server, evutil_socket_t fd)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";
    uint64_t dropped = 0;

    server->stats.turned_away++;
    if (server->tls == NULL)
        (void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    evutil_closesocket(fd);
    if (log_limit_pass(&server->refuse_limit, LOG_EVERY_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "http", "connections.full", KV_U64("port", server->port),
                KV_U64("connections", server->stats.connections), KV_U64("more", dropped));
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int address_len, void *ctx)
{
    struct http_server *server = ctx;
    unsigned char network[sizeof(struct in6_addr)];
    const int one = 1;

    (void)listener;
    (void)address_len;
    network_of(address, network);
    if (!has_room(server, network)) {
        turn_away(server, fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    add_peer(server, fd, address, network);
    pause_when_full(server, network);
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
    if (server->listener != NULL)
        evconnlistener_enable(server->listener);
}

/* ---------------------------------------------------------------- life */

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

static uint16_t port_of(evutil_socket_t fd)
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);

    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0)
        return 0;
    return ntohs(bound.ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port
                     : ((const struct sockaddr_in *)(const void *)&bound)->sin_port);
}

static uint32_t or_default(uint32_t value, uint32_t def)
{
    return value == 0 ? def : value;
}

/*
 * A process that has given all of its descriptors to its callers cannot reach its servers any more.
 * Two servers at most stand in one process, and what is kept is for everything else.
 */
static uint32_t fit_to_descriptors(uint32_t wanted, const char *address)
{
    const rlim_t needed = (rlim_t)wanted * 2 + DESCRIPTORS_KEPT;
    struct rlimit limit;
    rlim_t fit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    if (limit.rlim_cur < needed && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    fit = limit.rlim_cur >= DESCRIPTORS_LEAST ? (limit.rlim_cur - DESCRIPTORS_KEPT) / 2
                                              : limit.rlim_cur / 4;
    if (fit >= wanted)
        return wanted;
    OBX_LOG(LOG_LVL_WARN, "http", "connections.lowered", KV_STR("address", address),
            KV_U64("wanted", wanted), KV_U64("connections", fit),
            KV_U64("descriptors", limit.rlim_cur));
    return (uint32_t)fit;
}

static void set_limits(struct http_server *server, const struct http_opts *opts)
{
    struct http_limits *limits = &server->limits;

    *limits = opts->limits;
    limits->connections =
        fit_to_descriptors(or_default(limits->connections, HTTP_CONNECTIONS), opts->address);
    limits->per_address = or_default(limits->per_address, limits->connections);
    limits->head_ms = or_default(limits->head_ms, 5000);
    limits->body_ms = or_default(limits->body_ms, 30000);
    limits->answer_ms = or_default(limits->answer_ms, 10000);
    limits->idle_ms = or_default(limits->idle_ms, 30000);
    if (limits->in_flight_bytes == 0)
        limits->in_flight_bytes = UINT64_C(64) * 1024 * 1024;
    /* A body that is allowed must find room when it is the only one. */
    if (limits->in_flight_bytes < limits->body_bytes)
        limits->in_flight_bytes = limits->body_bytes;
}

static enum obx_code copy_hosts(struct http_server *server, const struct http_opts *opts)
{
    server->hosts = obx_calloc(opts->host_count + 1, sizeof(*server->hosts));
    for (size_t i = 0; server->hosts != NULL && i <= opts->host_count; i++) {
        server->hosts[i] = obx_strdup(i == 0 ? opts->address : opts->hosts[i - 1]);
        if (server->hosts[i] == NULL)
            return OBX_E_NOMEM;
        server->host_count++;
    }
    return server->hosts == NULL ? OBX_E_NOMEM : OBX_OK;
}

static enum obx_code set_up(struct http_server *server, const struct http_opts *opts,
                            struct obx_err *err)
{
    int sys;

    server->listen_again = evtimer_new(opts->base, on_listen_again, server);
    server->tick = evtimer_new(opts->base, on_tick, server);
    if (server->listen_again == NULL || server->tick == NULL || copy_hosts(server, opts) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    if (opts->tls_cert_file != NULL && *opts->tls_cert_file != '\0') {
        enum obx_code rc = http_tls_create(opts->tls_cert_file,
                                           opts->tls_key_file == NULL ? "" : opts->tls_key_file,
                                           &server->tls, err);

        if (rc != OBX_OK)
            return rc;
    }
    server->listener = listen_on(server, opts);
    sys = errno;
    if (server->listener == NULL)
        return sys == 0 ? obx_fail(err, OBX_E_SYSTEM, "http://%s:%u is not an address here",
                                   opts->address, (unsigned)opts->port)
                        : obx_fail_errno(err, OBX_E_SYSTEM, sys, "cannot listen on http://%s:%u",
                                         opts->address, (unsigned)opts->port);
    server->port = port_of(evconnlistener_get_fd(server->listener));
    evconnlistener_set_error_cb(server->listener, on_accept_failed);
    return OBX_OK;
}

enum obx_code http_server_create(const struct http_opts *opts, struct http_server **out,
                                 struct obx_err *err)
{
    struct http_server *server = obx_calloc(1, sizeof(*server));
    enum obx_code rc;

    *out = NULL;
    if (server == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    TAILQ_INIT(&server->peers);
    server->base = opts->base;
    server->ops = opts->ops;
    server->ctx = opts->ctx;
    set_limits(server, opts);
    rc = set_up(server, opts, err);
    if (rc != OBX_OK) {
        http_server_destroy(server);
        return rc;
    }
    *out = server;
    return OBX_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stop_listening(struct http_server *server)
{
    if (server->listener != NULL)
        evconnlistener_free(server->listener);
    server->listener = NULL;
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    while (!TAILQ_EMPTY(&server->peers))
        exchange_free(TAILQ_FIRST(&server->peers));
    http_server_stop_listening(server);
    if (server->listen_again != NULL)
        event_free(server->listen_again);
    if (server->tick != NULL)
        event_free(server->tick);
    http_tls_destroy(server->tls);
    for (size_t i = 0; i < server->host_count; i++)
        obx_free(server->hosts[i]);
    obx_free(server->hosts);
    buf_fini(&server->head);
    obx_free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_stats *out)
{
    const struct counters *stats = &server->stats;

    *out = (struct http_stats){.requests = atomic_load(&stats->requests),
                               .refused = atomic_load(&stats->refused),
                               .cut_off = atomic_load(&stats->cut_off),
                               .turned_away = atomic_load(&stats->turned_away),
                               .bytes_in_flight = atomic_load(&stats->in_flight),
                               .connections = atomic_load(&stats->connections)};
}
