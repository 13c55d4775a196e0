/*
 * One connection through the cutting proxy. Called by cut_proxy.c.
 *
 * Invariant: the bytes of a direction reach the destination in order and without a gap, or the
 * direction is mute or the connection reset.
 */
#define _GNU_SOURCE
#include "cut_stream.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wait.h"

enum {
    READ_MAX = 16 * 1024,
    HELD_MAX = 1024 * 1024, /* a delayed direction is read up to here */
    DRAIN_MS = 1000
};

struct cut_piece {
    struct cut_piece *next;
    int64_t due_ms;
    size_t len;
    size_t done;
    unsigned char bytes[];
};

static void pop_piece(struct cut_way *way)
{
    struct cut_piece *piece = way->first;

    way->first = piece->next;
    if (way->first == NULL)
        way->last = NULL;
    way->held -= piece->len;
    free(piece);
}

static void append_piece(struct cut_way *way, struct cut_piece *piece)
{
    if (way->last == NULL)
        way->first = piece;
    else
        way->last->next = piece;
    way->last = piece;
    way->held += piece->len;
}

static void drop_pieces(struct cut_way *way)
{
    while (way->first != NULL)
        pop_piece(way);
}

void cut_stream_init(struct cut_stream *stream, int client, int server)
{
    const int on = 1;

    *stream = (struct cut_stream){.fds = {client, server}};
    for (int side = 0; side < 2; side++)
        setsockopt(stream->fds[side], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void cut_stream_reset_socket(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

void cut_stream_reset(struct cut_stream *stream)
{
    for (int side = 0; side < 2; side++) {
        if (stream->fds[side] >= 0)
            cut_stream_reset_socket(stream->fds[side]);
        stream->fds[side] = -1;
        drop_pieces(&stream->ways[side]);
    }
}

static void end_in_good_order(struct cut_stream *stream)
{
    for (int side = 0; side < 2; side++) {
        close(stream->fds[side]);
        stream->fds[side] = -1;
        drop_pieces(&stream->ways[side]);
    }
}

bool cut_stream_has_ended(const struct cut_stream *stream)
{
    return stream->fds[0] < 0;
}

static enum cut_flow flow_of(const struct cut_stream *stream, const struct cut_rules *rules,
                             int dir)
{
    return stream->ways[dir].lost_some ? CUT_SWALLOW : rules->flow[dir];
}

static bool wants_to_read(const struct cut_stream *stream, const struct cut_rules *rules, int dir)
{
    const struct cut_way *way = &stream->ways[dir];

    return !way->eof_read && way->held < HELD_MAX && flow_of(stream, rules, dir) != CUT_HOLD;
}

static bool wants_to_write(const struct cut_stream *stream, const struct cut_rules *rules, int dir,
                           int64_t now_ms)
{
    const struct cut_piece *first = stream->ways[dir].first;

    return first != NULL && first->due_ms <= now_ms && flow_of(stream, rules, dir) == CUT_PASS;
}

static void lower_timeout(const struct cut_stream *stream, const struct cut_rules *rules, int dir,
                          int64_t now_ms, int *timeout_ms)
{
    const struct cut_piece *first = stream->ways[dir].first;
    int64_t wait_ms = 0;

    if (first == NULL || flow_of(stream, rules, dir) != CUT_PASS || first->due_ms <= now_ms)
        return;
    wait_ms = first->due_ms - now_ms;
    if (wait_ms > INT_MAX)
        wait_ms = INT_MAX;
    if (*timeout_ms < 0 || wait_ms < *timeout_ms)
        *timeout_ms = (int)wait_ms;
}

void cut_stream_poll(const struct cut_stream *stream, const struct cut_rules *rules, int64_t now_ms,
                     struct pollfd polls[2], int *timeout_ms)
{
    for (int side = 0; side < 2; side++) {
        short events = 0;

        if (wants_to_read(stream, rules, side))
            events |= POLLIN;
        if (wants_to_write(stream, rules, 1 - side, now_ms))
            events |= POLLOUT;
        /* An entry that waits for nothing is taken out, as poll reports hang-ups unasked. */
        polls[side] = (struct pollfd){.fd = events == 0 ? -1 : stream->fds[side], .events = events};
        lower_timeout(stream, rules, side, now_ms, timeout_ms);
    }
}

/* Reads one piece. Returns false when the connection is broken. */
static bool read_piece(struct cut_stream *stream, const struct cut_rules *rules, int dir,
                       int64_t now_ms)
{
    struct cut_way *way = &stream->ways[dir];
    struct cut_piece *piece = malloc(sizeof(*piece) + READ_MAX);
    ssize_t got = -1;

    if (piece == NULL)
        return false;
    got = recv(stream->fds[dir], piece->bytes, READ_MAX, MSG_DONTWAIT);
    if (got <= 0) {
        const bool is_empty = got < 0 && (errno == EAGAIN || errno == EINTR);

        free(piece);
        way->eof_read = got == 0;
        return got == 0 || is_empty;
    }
    piece->next = NULL;
    piece->due_ms = now_ms + rules->delay_ms[dir];
    piece->len = (size_t)got;
    piece->done = 0;
    append_piece(way, piece);
    return true;
}

static void swallow(struct cut_way *way, struct cut_rules *rules, int dir)
{
    while (way->first != NULL) {
        rules->swallowed[dir] += way->first->len - way->first->done;
        way->lost_some = true;
        pop_piece(way);
    }
}

/* Waits until the peer's kernel has everything, as a reset would take back what is still in flight.
 */
static bool is_drained(void *ctx)
{
    const int *fd = ctx;
    int unsent = 0;

    return ioctl(*fd, SIOCOUTQ, &unsent) != 0 || unsent == 0;
}

static void cut_now(struct cut_stream *stream, struct cut_rules *rules, int dir)
{
    rules->cut_armed[dir] = false;
    wait_until(DRAIN_MS, is_drained, &stream->fds[1 - dir]);
    cut_stream_reset(stream);
}

/* Writes what is due. Returns false when the connection is broken or was cut. */
static bool write_due(struct cut_stream *stream, struct cut_rules *rules, int dir, int64_t now_ms)
{
    struct cut_way *way = &stream->ways[dir];

    while (wants_to_write(stream, rules, dir, now_ms)) {
        struct cut_piece *piece = way->first;
        size_t len = piece->len - piece->done;
        ssize_t sent = 0;

        if (rules->cut_armed[dir] && len > rules->cut_left[dir])
            len = (size_t)rules->cut_left[dir];
        if (len == 0) {
            cut_now(stream, rules, dir);
            return false;
        }
        sent = send(stream->fds[1 - dir], piece->bytes + piece->done, len,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        piece->done += (size_t)sent;
        rules->passed[dir] += (uint64_t)sent;
        if (rules->cut_armed[dir])
            rules->cut_left[dir] -= (uint64_t)sent;
        if (piece->done == piece->len)
            pop_piece(way);
    }
    return true;
}

/* Passes the end of a stream on, once all before it has gone. */
static void pass_eof(struct cut_stream *stream, const struct cut_rules *rules, int dir)
{
    struct cut_way *way = &stream->ways[dir];

    if (way->eof_read && !way->eof_sent && way->first == NULL &&
        flow_of(stream, rules, dir) == CUT_PASS) {
        shutdown(stream->fds[1 - dir], SHUT_WR);
        way->eof_sent = true;
    }
}

static bool way_is_done(const struct cut_way *way)
{
    return way->eof_read && (way->eof_sent || way->lost_some);
}

static bool serve_way(struct cut_stream *stream, struct cut_rules *rules, int dir, int64_t now_ms,
                      bool is_readable)
{
    struct cut_way *way = &stream->ways[dir];

    if (is_readable && wants_to_read(stream, rules, dir) && !read_piece(stream, rules, dir, now_ms))
        return false;
    if (flow_of(stream, rules, dir) == CUT_SWALLOW)
        swallow(way, rules, dir);
    if (!write_due(stream, rules, dir, now_ms))
        return false;
    pass_eof(stream, rules, dir);
    return true;
}

void cut_stream_serve(struct cut_stream *stream, struct cut_rules *rules, int64_t now_ms,
                      const struct pollfd polls[2])
{
    for (int dir = 0; dir < 2; dir++) {
        const bool is_readable = (polls[dir].revents & (POLLIN | POLLHUP | POLLERR)) != 0;

        if (!serve_way(stream, rules, dir, now_ms, is_readable)) {
            cut_stream_reset(stream);
            return;
        }
    }
    if (way_is_done(&stream->ways[0]) && way_is_done(&stream->ways[1]))
        end_in_good_order(stream);
}
