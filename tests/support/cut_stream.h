/*
 * One connection through the cutting proxy: two sockets and the bytes that are on their way between
 * them.
 *
 * Used by cut_proxy.c only, on the proxy's thread.
 */
#ifndef OBX_TEST_CUT_STREAM_H
#define OBX_TEST_CUT_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cut_proxy.h"

/* The faults in force, shared by all streams, and what was counted; arrays by enum cut_dir. */
struct cut_rules {
    enum cut_flow flow[2];
    int64_t delay_ms[2];
    bool cut_armed[2];
    uint64_t cut_left[2]; /* bytes that may pass before the cut */
    uint64_t passed[2];
    uint64_t swallowed[2];
};

struct cut_piece; /* some bytes, and when they may go on */

/* One direction. Its source is fds[dir], its destination fds[1 - dir]. */
struct cut_way {
    struct cut_piece *first;
    struct cut_piece *last;
    size_t held;    /* bytes in the list */
    bool eof_read;  /* the source has ended its stream */
    bool eof_sent;  /* and the destination has been told */
    bool lost_some; /* bytes were swallowed: nothing after them may pass */
};

struct cut_stream {
    int fds[2]; /* 0: the client's side, 1: the server's; both -1 once ended */
    struct cut_way ways[2];
};

/** Take over two connected sockets. */
void cut_stream_init(struct cut_stream *stream, int client, int server);

/** Fill two poll entries, and lower *timeout_ms (-1: none) to when a piece that waits may go on. */
void cut_stream_poll(const struct cut_stream *stream, const struct cut_rules *rules, int64_t now_ms,
                     struct pollfd polls[2], int *timeout_ms);

/** Move what can be moved after poll(2). */
void cut_stream_serve(struct cut_stream *stream, struct cut_rules *rules, int64_t now_ms,
                      const struct pollfd polls[2]);

/** Reset both sides. Idempotent. */
void cut_stream_reset(struct cut_stream *stream);

bool cut_stream_has_ended(const struct cut_stream *stream);

/** Close a socket so that its peer gets RST. */
void cut_stream_reset_socket(int fd);

#endif
