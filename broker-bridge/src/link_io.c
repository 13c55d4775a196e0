/*
 * The bytes of a connection: writing what is in the outbuf, reading frames through the inbuf, and
 * the few waits for an answer (login, topology, good-bye). The library opens the socket and does
 * TLS; from then on it sees no byte of the connection. Called by link.c, link_open.c and
 * topology.c.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "amqp_errors.h"
#include "base/clock.h"
#include "frame.h"
#include "link.h"

enum {
    CHANNEL_MAX = 1,
    FILLS_MAX =
        64, /* reads in one call, so that a frame without end keeps nobody from its timers */
};

ssize_t link_write(struct link *link)
{
    const uint8_t *p = link->out.data + link->out.start;
    const size_t len = outbuf_pending(&link->out);
    ssize_t sent;

    if (link->options.tls) {
        sent = tls_write(&link->tls, p, len);
    } else {
        do
            sent = send(amqp_get_sockfd(link->conn), p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            sent = 0;
    }
    if (sent > 0)
        outbuf_consume(&link->out, (size_t)sent);
    return sent;
}

/* How many bytes, 0: none now, -1: lost, with err. */
static ssize_t read_some(struct link *link, uint8_t *p, size_t room, struct obx_err *err)
{
    ssize_t got;

    if (link->options.tls)
        return tls_read(&link->tls, p, room, err);
    do
        got = recv(amqp_get_sockfd(link->conn), p, room, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return got;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (got == 0)
        (void)obx_fail(err, OBX_E_MQ_GONE, "connection closed by the broker");
    else
        (void)obx_fail_sys(err, OBX_E_MQ_GONE, errno, "read: %s", strerror(errno));
    return -1;
}

static enum obx_code fill(struct link *link, bool *got_some, struct obx_err *err)
{
    size_t room = 0;
    uint8_t *p = inbuf_room(&link->in, &room);
    ssize_t got;

    if (p == NULL)
        return obx_fail(err, OBX_E_NOMEM, "reading from the broker");
    got = read_some(link, p, room, err);
    *got_some = got > 0;
    if (got < 0)
        return OBX_E_MQ_GONE;
    inbuf_added(&link->in, (size_t)got);
    if (got > 0)
        link->last_read_ms = clock_now_ms(); /* heartbeats count here */
    return OBX_OK;
}

enum obx_code link_read(struct link *link, amqp_frame_t *frame, bool *has, struct obx_err *err)
{
    struct raw_frame raw = {.type = AMQP_FRAME_HEARTBEAT};
    bool got_some = true;
    enum obx_code rc = inbuf_next(&link->in, &raw, has, err);

    recycle_amqp_pool(&link->pool);
    for (int fills = 0; rc == OBX_OK && !*has && got_some && fills < FILLS_MAX; fills++) {
        rc = fill(link, &got_some, err);
        if (rc == OBX_OK && got_some)
            rc = inbuf_next(&link->in, &raw, has, err);
    }
    if (rc == OBX_OK && !*has && got_some) { /* there may be more, so this is not the end */
        raw = (struct raw_frame){.type = AMQP_FRAME_HEARTBEAT};
        *has = true;
    }
    if (rc != OBX_OK || !*has)
        return rc;
    /* Nothing is kept for a channel that we never opened. */
    if (raw.channel > CHANNEL_MAX || (raw.type == AMQP_FRAME_HEARTBEAT && raw.channel != 0))
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame of type %u on channel %u",
                        (unsigned)raw.type, (unsigned)raw.channel);
    return frame_decode(&raw, &link->pool, frame, err);
}

/* Not at all when there may be more to read; but the time is looked at. */
static enum obx_code wait_for_socket(struct link *link, uint64_t due_ms, bool has_more,
                                     struct obx_err *err)
{
    struct pollfd socket = {.fd = amqp_get_sockfd(link->conn), .events = POLLIN};
    const int left_ms = clock_left_ms(due_ms);

    if (outbuf_pending(&link->out) > 0)
        socket.events |= POLLOUT;
    if (left_ms <= 0)
        return obx_fail(err, OBX_E_TIMEOUT, "no answer in time");
    if (poll(&socket, 1, has_more ? 0 : left_ms) < 0 && errno != EINTR)
        return obx_fail_sys(err, OBX_E_SYSTEM, errno, "poll: %s", strerror(errno));
    return OBX_OK;
}

enum obx_code link_exchange(struct link *link, uint64_t due_ms, amqp_frame_t *frame,
                            struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    bool has = false;

    while (rc == OBX_OK && !has) {
        if (outbuf_pending(&link->out) > 0 && link_write(link) < 0)
            return obx_fail_sys(err, OBX_E_MQ_GONE, errno, "write: %s", strerror(errno));
        rc = link_read(link, frame, &has, err);
        if (rc == OBX_OK && has && frame->frame_type != AMQP_FRAME_HEARTBEAT)
            return OBX_OK;
        if (rc == OBX_OK)
            rc = wait_for_socket(link, due_ms, has, err);
        has = false;
    }
    return rc;
}

/*
 * Without it the broker logs a warning about a client that vanished. What could not be written yet
 * is not waited for. A broker that goes on sending is listened to for the time given, no longer.
 */
void link_say_goodbye(struct link *link, uint64_t due_ms)
{
    amqp_connection_close_t goodbye = {.reply_code = AMQP_REPLY_SUCCESS,
                                       .reply_text = amqp_cstring_bytes("goodbye")};
    amqp_frame_t frame = {0};

    if (outbuf_method(&link->out, link->frame_max, 0, AMQP_CONNECTION_CLOSE_METHOD, &goodbye) !=
        OBX_OK)
        return;
    (void)link_write(link);
    while (outbuf_pending(&link->out) == 0 && clock_now_ms() < due_ms &&
           link_exchange(link, due_ms, &frame, NULL) == OBX_OK) {
        if (frame.frame_type == AMQP_FRAME_METHOD &&
            frame.payload.method.id == AMQP_CONNECTION_CLOSE_OK_METHOD)
            return;
    }
}
