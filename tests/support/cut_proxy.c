/*
 * The cutting proxy: its thread, its sockets and the commands to it. What happens to the bytes of
 * one connection is in cut_stream.c.
 *
 * Invariant: only the proxy's thread touches sockets. A command changes `wanted` under the mutex,
 * rings the bell, and waits until the thread has taken it over; so commands take effect in order,
 * at once.
 */
#define _GNU_SOURCE
#include "cut_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cut_stream.h"
#include "wait.h"

enum {
    BACKLOG = 128,
    MAX_CONNECTIONS = 512,
    FIXED_POLLS = 2 /* the bell and the listening socket */
};

struct connection {
    struct connection *next;
    struct cut_stream stream;
};

/* What the callers of the commands want; the thread takes it over. */
struct wanted {
    enum cut_flow flow[2];
    int64_t delay_ms[2];
    bool arm_cut[2];
    uint64_t arm_bytes[2];
    struct sockaddr_in server;
    bool refuse;
    bool cut_all;
    bool stop;
};

struct cut_proxy {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t applied_cond;
    struct wanted wanted;   /* under mutex */
    uint64_t asked;         /* under mutex: commands given */
    uint64_t applied;       /* under mutex: commands taken over by the thread */
    struct cut_stats stats; /* under mutex: as of the last command */
    bool cut_pending[2];    /* under mutex: as of the last command */
    int bell;               /* eventfd */
    int holder; /* bound, never listening: keeps the port while connections are refused */
    struct sockaddr_in local;       /* 127.0.0.1 and the port */
    int listener;                   /* thread only: -1 while connections are refused */
    struct cut_rules rules;         /* thread only */
    struct sockaddr_in server;      /* thread only */
    struct connection *connections; /* thread only */
    size_t connection_count;        /* thread only */
    uint64_t accepted;              /* thread only */
    struct pollfd polls[FIXED_POLLS + 2 * MAX_CONNECTIONS]; /* thread only */
};

static int socket_on(const struct sockaddr_in *address)
{
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* Two sockets hold the port, the listening one comes and goes. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
        perror("cut_proxy: socket");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static void listener_open(struct cut_proxy *proxy)
{
    if (proxy->listener >= 0)
        return;
    proxy->listener = socket_on(&proxy->local);
    if (proxy->listener >= 0 && listen(proxy->listener, BACKLOG) != 0) {
        perror("cut_proxy: listen");
        close(proxy->listener);
        proxy->listener = -1;
    }
}

static void listener_close(struct cut_proxy *proxy)
{
    if (proxy->listener >= 0)
        close(proxy->listener);
    proxy->listener = -1;
}

/*
 * Begins to connect. Sending and receiving wait (EAGAIN) until it is through, and fail if it
 * fails, so the stream needs no state for it, and a server that does not accept stops nobody else.
 */
static int connect_to(const struct sockaddr_in *server)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)server, sizeof(*server)) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Makes a connection of an accepted socket, which it takes. */
static void adopt(struct cut_proxy *proxy, int client)
{
    const int server = connect_to(&proxy->server);
    struct connection *connection = NULL;

    if (server >= 0)
        connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        cut_stream_reset_socket(client);
        if (server >= 0)
            close(server);
        return;
    }
    cut_stream_init(&connection->stream, client, server);
    connection->next = proxy->connections;
    proxy->connections = connection;
    proxy->connection_count++;
}

/* Accepts all that the kernel has taken for us, as for their clients they are connections already.
 */
static void accept_pending(struct cut_proxy *proxy)
{
    while (proxy->listener >= 0 && proxy->connection_count < MAX_CONNECTIONS) {
        const int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);

        if (client < 0)
            return;
        proxy->accepted++;
        adopt(proxy, client);
    }
}

/* Frees the connections that have ended. */
static void drop_ended(struct cut_proxy *proxy)
{
    struct connection **link = &proxy->connections;

    while (*link != NULL) {
        struct connection *connection = *link;

        if (!cut_stream_has_ended(&connection->stream)) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        proxy->connection_count--;
        free(connection);
    }
}

static void reset_all(struct cut_proxy *proxy)
{
    for (struct connection *c = proxy->connections; c != NULL; c = c->next)
        cut_stream_reset(&c->stream);
    drop_ended(proxy);
}

static void apply_rules(struct cut_rules *rules, struct wanted *wanted)
{
    for (int dir = 0; dir < 2; dir++) {
        rules->flow[dir] = wanted->flow[dir];
        rules->delay_ms[dir] = wanted->delay_ms[dir];
        if (wanted->arm_cut[dir]) {
            rules->cut_armed[dir] = true;
            rules->cut_left[dir] = wanted->arm_bytes[dir];
            wanted->arm_cut[dir] = false;
        }
    }
}

static void publish_stats(struct cut_proxy *proxy)
{
    for (int dir = 0; dir < 2; dir++) {
        proxy->stats.passed[dir] = proxy->rules.passed[dir];
        proxy->stats.swallowed[dir] = proxy->rules.swallowed[dir];
        proxy->cut_pending[dir] = proxy->rules.cut_armed[dir];
    }
    proxy->stats.accepted = proxy->accepted;
    proxy->stats.open = proxy->connection_count;
}

/* Takes over what was asked for. Returns false when the thread is to end. */
static bool apply_wanted(struct cut_proxy *proxy)
{
    struct wanted *wanted = &proxy->wanted;
    bool go_on = true;

    pthread_mutex_lock(&proxy->mutex);
    if (proxy->applied != proxy->asked) {
        accept_pending(proxy);
        apply_rules(&proxy->rules, wanted);
        proxy->server = wanted->server;
        if (wanted->cut_all || wanted->stop)
            reset_all(proxy);
        wanted->cut_all = false;
        if (wanted->refuse || wanted->stop)
            listener_close(proxy);
        else
            listener_open(proxy);
        go_on = !wanted->stop;
        publish_stats(proxy);
        proxy->applied = proxy->asked;
        pthread_cond_broadcast(&proxy->applied_cond);
    }
    pthread_mutex_unlock(&proxy->mutex);
    return go_on;
}

/* Fills the poll set: the bell, the listener, then two sockets for each connection in list order.
 */
static nfds_t fill_polls(struct cut_proxy *proxy, int *timeout_ms)
{
    const int64_t now = wait_now_ms();
    const bool full = proxy->connection_count >= MAX_CONNECTIONS;
    nfds_t n = FIXED_POLLS;

    *timeout_ms = -1;
    proxy->polls[0] = (struct pollfd){.fd = proxy->bell, .events = POLLIN};
    proxy->polls[1] = (struct pollfd){.fd = full ? -1 : proxy->listener, .events = POLLIN};
    for (struct connection *c = proxy->connections; c != NULL; c = c->next) {
        cut_stream_poll(&c->stream, &proxy->rules, now, &proxy->polls[n], timeout_ms);
        n += 2;
    }
    return n;
}

static void serve(struct cut_proxy *proxy)
{
    nfds_t n = FIXED_POLLS;
    uint64_t rings = 0;

    if ((proxy->polls[0].revents & POLLIN) != 0)
        (void)!read(proxy->bell, &rings, sizeof(rings));
    for (struct connection *c = proxy->connections; c != NULL; c = c->next) {
        cut_stream_serve(&c->stream, &proxy->rules, wait_now_ms(), &proxy->polls[n]);
        n += 2;
    }
    drop_ended(proxy);
    if ((proxy->polls[1].revents & POLLIN) != 0)
        accept_pending(proxy);
}

static void *run(void *arg)
{
    struct cut_proxy *proxy = arg;

    while (apply_wanted(proxy)) {
        int timeout_ms = -1;
        const nfds_t n = fill_polls(proxy, &timeout_ms);

        if (poll(proxy->polls, n, timeout_ms) >= 0)
            serve(proxy);
    }
    return NULL;
}

/* Begins a command: the caller may change `wanted` until command_end(). */
static void command_begin(struct cut_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mutex);
}

/* Rings the bell and waits, with the mutex, until the thread has taken the command over. */
static void command_await(struct cut_proxy *proxy)
{
    const uint64_t one = 1;
    const uint64_t mine = ++proxy->asked;

    (void)!write(proxy->bell, &one, sizeof(one));
    while (proxy->applied < mine)
        pthread_cond_wait(&proxy->applied_cond, &proxy->mutex);
}

static void command_end(struct cut_proxy *proxy)
{
    command_await(proxy);
    pthread_mutex_unlock(&proxy->mutex);
}

static bool open_sockets(struct cut_proxy *proxy)
{
    socklen_t len = sizeof(proxy->local);

    proxy->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    proxy->local.sin_family = AF_INET;
    proxy->local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    proxy->holder = socket_on(&proxy->local);
    if (proxy->bell < 0 || proxy->holder < 0 ||
        getsockname(proxy->holder, (struct sockaddr *)&proxy->local, &len) != 0)
        return false;
    listener_open(proxy);
    return proxy->listener >= 0;
}

static void close_sockets(struct cut_proxy *proxy)
{
    listener_close(proxy);
    if (proxy->holder >= 0)
        close(proxy->holder);
    if (proxy->bell >= 0)
        close(proxy->bell);
}

struct cut_proxy *cut_proxy_create(const char *server_address, uint16_t server_port)
{
    struct cut_proxy *proxy = calloc(1, sizeof(*proxy));

    if (proxy == NULL)
        return NULL;
    proxy->bell = proxy->holder = proxy->listener = -1;
    pthread_mutex_init(&proxy->mutex, NULL);
    pthread_cond_init(&proxy->applied_cond, NULL);
    proxy->server.sin_family = AF_INET;
    proxy->server.sin_port = htons(server_port);
    if (inet_pton(AF_INET, server_address, &proxy->server.sin_addr) != 1) {
        fprintf(stderr, "cut_proxy: %s is no IPv4 address\n", server_address);
    } else if (open_sockets(proxy)) {
        proxy->wanted.server = proxy->server;
        if (pthread_create(&proxy->thread, NULL, run, proxy) == 0)
            return proxy;
        fprintf(stderr, "cut_proxy: cannot start its thread\n");
    }
    close_sockets(proxy);
    pthread_cond_destroy(&proxy->applied_cond);
    pthread_mutex_destroy(&proxy->mutex);
    free(proxy);
    return NULL;
}

void cut_proxy_destroy(struct cut_proxy *proxy)
{
    if (proxy == NULL)
        return;
    command_begin(proxy);
    proxy->wanted.stop = true;
    command_end(proxy);
    pthread_join(proxy->thread, NULL);
    close_sockets(proxy);
    pthread_cond_destroy(&proxy->applied_cond);
    pthread_mutex_destroy(&proxy->mutex);
    free(proxy);
}

uint16_t cut_proxy_port(const struct cut_proxy *proxy)
{
    return ntohs(proxy->local.sin_port);
}

void cut_proxy_set_server_port(struct cut_proxy *proxy, uint16_t server_port)
{
    command_begin(proxy);
    proxy->wanted.server.sin_port = htons(server_port);
    command_end(proxy);
}

void cut_proxy_cut_all(struct cut_proxy *proxy)
{
    command_begin(proxy);
    proxy->wanted.cut_all = true;
    command_end(proxy);
}

void cut_proxy_cut_after(struct cut_proxy *proxy, enum cut_dir dir, uint64_t bytes)
{
    command_begin(proxy);
    proxy->wanted.arm_cut[dir] = true;
    proxy->wanted.arm_bytes[dir] = bytes;
    command_end(proxy);
}

bool cut_proxy_cut_is_pending(struct cut_proxy *proxy, enum cut_dir dir)
{
    bool is_pending = false;

    command_begin(proxy);
    command_await(proxy);
    is_pending = proxy->cut_pending[dir];
    pthread_mutex_unlock(&proxy->mutex);
    return is_pending;
}

void cut_proxy_set_flow(struct cut_proxy *proxy, enum cut_dir dir, enum cut_flow flow)
{
    command_begin(proxy);
    proxy->wanted.flow[dir] = flow;
    command_end(proxy);
}

void cut_proxy_set_delay(struct cut_proxy *proxy, enum cut_dir dir, int64_t delay_ms)
{
    command_begin(proxy);
    proxy->wanted.delay_ms[dir] = delay_ms;
    command_end(proxy);
}

void cut_proxy_set_refuse(struct cut_proxy *proxy, bool refuse)
{
    command_begin(proxy);
    proxy->wanted.refuse = refuse;
    command_end(proxy);
}

void cut_proxy_get_stats(struct cut_proxy *proxy, struct cut_stats *stats)
{
    command_begin(proxy);
    command_await(proxy);
    *stats = proxy->stats;
    pthread_mutex_unlock(&proxy->mutex);
}
