/*
 * The tap: see tap.h. One thread polls all sockets; each connection has a watch for either
 * direction. Writing blocks, which is fine for a tool whose two neighbours always read.
 */
#include "bench/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/amqp_watch.h"

enum {
    LINES_MAX = 8,     /* connections at a time */
    RING = 1 << 16,    /* unconfirmed messages of one connection; more than any window */
    PIECE = 64 * 1024, /* bytes read at once */
    POLL_MS = 50,      /* how soon a request to end is seen */
    BACKLOG = 8,
    DECIMAL = 10
};

enum side { CLIENT, SERVER };

/* One connection of the relay and its other half to the broker. */
struct line {
    struct tap *tap;
    int fd[2]; /* by enum side; -1: the line is free */
    struct amqp_watch watch[2];
    bool wants_body; /* a publish was seen whose first body frame has not come yet */
    uint64_t published;
    uint64_t confirmed;  /* all tags up to this are */
    size_t number[RING]; /* by tag modulo RING */
};

struct tap {
    int listener;
    uint16_t server_port;
    pthread_t thread;
    atomic_bool stopping;
    size_t slots;
    _Atomic uint64_t *confirmed_us;
    _Atomic size_t confirmed_count;
    struct line lines[LINES_MAX];
};

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void note(struct line *line, uint64_t tag, uint64_t now_us)
{
    size_t number = line->number[tag % RING];
    uint64_t unset = 0;

    if (number < line->tap->slots &&
        atomic_compare_exchange_strong(&line->tap->confirmed_us[number], &unset, now_us))
        atomic_fetch_add(&line->tap->confirmed_count, 1);
}

static size_t parse_number(const struct amqp_event *event)
{
    size_t number = 0;

    for (size_t i = 0; i < event->head_len && event->head[i] >= '0' && event->head[i] <= '9'; i++)
        number = number * DECIMAL + (size_t)(event->head[i] - '0');
    return number;
}

static void on_client_frame(const struct amqp_event *event, void *ctx)
{
    struct line *line = ctx;

    if (event->what == AMQP_SEEN_PUBLISH) {
        line->published++;
        line->number[line->published % RING] = SIZE_MAX;
        line->wants_body = true;
    } else if (event->what == AMQP_SEEN_BODY && line->wants_body) {
        line->number[line->published % RING] = parse_number(event);
        line->wants_body = false;
    }
}

static void on_server_frame(const struct amqp_event *event, void *ctx)
{
    struct line *line = ctx;
    uint64_t now_us = clock_now_us();

    if (event->what != AMQP_SEEN_ACK || event->tag > line->published)
        return;
    if (!event->is_multiple) {
        note(line, event->tag, now_us);
        return;
    }
    for (uint64_t tag = line->confirmed + 1; tag <= event->tag; tag++)
        note(line, tag, now_us);
    line->confirmed = event->tag > line->confirmed ? event->tag : line->confirmed;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t done = send(fd, bytes, len, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        bytes += done;
        len -= (size_t)done;
    }
    return true;
}

static void close_line(struct line *line)
{
    for (int side = CLIENT; side <= SERVER; side++) {
        if (line->fd[side] >= 0)
            close(line->fd[side]);
        line->fd[side] = -1;
    }
}

/* The time of a confirm is taken when it is read here, before it is written on. */
static void forward(struct line *line, enum side from)
{
    uint8_t piece[PIECE];
    ssize_t len = recv(line->fd[from], piece, sizeof(piece), 0);

    if (len < 0 && errno == EINTR)
        return;
    if (len > 0)
        amqp_watch_feed(&line->watch[from], piece, (size_t)len,
                        from == CLIENT ? on_client_frame : on_server_frame, line);
    if (len <= 0 || !write_all(line->fd[1 - from], piece, (size_t)len))
        close_line(line);
}

static struct line *free_line(struct tap *tap)
{
    for (size_t i = 0; i < LINES_MAX; i++)
        if (tap->lines[i].fd[CLIENT] < 0)
            return &tap->lines[i];
    return NULL;
}

static void set_no_delay(int fd)
{
    int yes = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

static void accept_line(struct tap *tap)
{
    const struct sockaddr_in server = loopback(tap->server_port);
    int client = accept(tap->listener, NULL, NULL);
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct line *line = free_line(tap);

    if (client < 0 || other < 0 || line == NULL ||
        connect(other, (const struct sockaddr *)&server, sizeof(server)) != 0) {
        if (client >= 0)
            close(client);
        if (other >= 0)
            close(other);
        return;
    }
    set_no_delay(client);
    set_no_delay(other);
    line->tap = tap;
    line->fd[CLIENT] = client;
    line->fd[SERVER] = other;
    line->published = line->confirmed = 0;
    line->wants_body = false;
    amqp_watch_init(&line->watch[CLIENT], true);
    amqp_watch_init(&line->watch[SERVER], false);
}

static void *run(void *arg)
{
    struct tap *tap = arg;

    while (!atomic_load(&tap->stopping)) {
        struct pollfd polls[1 + 2 * LINES_MAX] = {{.fd = tap->listener, .events = POLLIN}};

        for (size_t i = 0; i < LINES_MAX; i++)
            for (size_t side = CLIENT; side <= SERVER; side++)
                polls[1 + 2 * i + side] =
                    (struct pollfd){.fd = tap->lines[i].fd[side], .events = POLLIN};
        if (poll(polls, sizeof(polls) / sizeof(polls[0]), POLL_MS) <= 0)
            continue;
        for (size_t i = 0; i < LINES_MAX; i++)
            for (size_t side = CLIENT; side <= SERVER; side++)
                if (polls[1 + 2 * i + side].revents != 0 && tap->lines[i].fd[side] >= 0)
                    forward(&tap->lines[i], (enum side)side);
        if (polls[0].revents != 0)
            accept_line(tap);
    }
    return NULL;
}

static bool listen_on(struct tap *tap, uint16_t port)
{
    const struct sockaddr_in address = loopback(port);
    int yes = 1;

    tap->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return tap->listener >= 0 &&
           setsockopt(tap->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
           bind(tap->listener, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
           listen(tap->listener, BACKLOG) == 0;
}

static void free_tap(struct tap *tap)
{
    for (size_t i = 0; i < LINES_MAX; i++)
        close_line(&tap->lines[i]);
    if (tap->listener >= 0)
        close(tap->listener);
    free(tap->confirmed_us);
    free(tap);
}

struct tap *tap_create(uint16_t port, uint16_t server_port, size_t slots)
{
    struct tap *tap = calloc(1, sizeof(*tap));

    if (tap == NULL) {
        perror("tap");
        return NULL;
    }
    tap->listener = -1;
    tap->server_port = server_port;
    tap->slots = slots;
    for (size_t i = 0; i < LINES_MAX; i++)
        tap->lines[i].fd[CLIENT] = tap->lines[i].fd[SERVER] = -1;
    tap->confirmed_us = calloc(slots, sizeof(*tap->confirmed_us));
    if (tap->confirmed_us == NULL || !listen_on(tap, port) ||
        pthread_create(&tap->thread, NULL, run, tap) != 0) {
        perror("tap");
        free_tap(tap);
        return NULL;
    }
    return tap;
}

void tap_destroy(struct tap *tap)
{
    if (tap == NULL)
        return;
    atomic_store(&tap->stopping, true);
    pthread_join(tap->thread, NULL);
    free_tap(tap);
}

uint64_t tap_confirmed_us(const struct tap *tap, size_t number)
{
    return atomic_load(&tap->confirmed_us[number]);
}

size_t tap_confirmed_count(const struct tap *tap)
{
    return atomic_load(&tap->confirmed_count);
}
