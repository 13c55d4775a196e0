/*
 * Owns one AMQP connection, from the first connect to the last close: its state, its addresses and
 * backoff, what waits to be written, heartbeats, and channel 0. Bytes and frames are in link_io.c.
 *
 * Edges: WAITING -> CONNECTING -> OPEN <-> BLOCKED; each of the last three -> WAITING when
 * something fails, all -> CLOSED. Invariants: conn is not NULL exactly in CONNECTING (at times),
 * OPEN and BLOCKED; its socket is registered in epoll_fd exactly in OPEN and BLOCKED; nothing is
 * written or read outside of those two. The owner hears opened and lost strictly in turn. Nothing
 * but link_open.c waits. Called by publisher.c, consumer.c and topology.c.
 */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "amqp_errors.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"

enum {
    READ_BUDGET = 10000, /* frames in one turn, so that a fast broker cannot keep the owner from its
                            own timers */
    GOODBYE_MS = 300,
    BEATS_MISSED = 2,
    POOL_PAGE = 4096,
};

static const char *const state_names[] = {
    [LINK_WAITING] = "waiting", [LINK_CONNECTING] = "connecting", [LINK_OPEN] = "open",
    [LINK_BLOCKED] = "blocked", [LINK_CLOSED] = "closed",
};

static const unsigned edges[] = {
    [LINK_WAITING] = 1U << LINK_CONNECTING | 1U << LINK_CLOSED,
    [LINK_CONNECTING] = 1U << LINK_OPEN | 1U << LINK_WAITING,
    [LINK_OPEN] = 1U << LINK_BLOCKED | 1U << LINK_WAITING | 1U << LINK_CLOSED,
    [LINK_BLOCKED] = 1U << LINK_OPEN | 1U << LINK_WAITING | 1U << LINK_CLOSED,
    [LINK_CLOSED] = 0,
};

static void set_state(struct link *link, enum link_state state, enum log_level level)
{
    OBX_ASSERT((edges[link->state] & 1U << state) != 0);
    OBX_LOG(level, link->ops->module, "link.state", KV_STR("from", state_names[link->state]),
            KV_STR("to", state_names[state]), KV_STR("why", link->trouble.text));
    link->state = state;
}

enum obx_code link_init(struct link *link, const struct bridge_opts *opts,
                        const struct link_ops *ops, void *ctx, struct obx_err *err)
{
    enum obx_code rc;

    memset(link, 0, sizeof(*link));
    rc = options_init(&link->options, opts, err);
    if (rc != OBX_OK)
        return rc;
    link->ops = ops;
    link->ctx = ctx;
    link->state = LINK_WAITING;
    link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (link->epoll_fd < 0) {
        options_fini(&link->options);
        return obx_fail_sys(err, OBX_E_SYSTEM, errno, "epoll_create1: %s", strerror(errno));
    }
    init_amqp_pool(&link->pool, POOL_PAGE);
    link->next_address = random_u64() % link->options.address_count;
    backoff_init(&link->backoff, link->options.reconnect_min_ms, link->options.reconnect_cap_ms);
    return OBX_OK;
}

bool link_is_connected(const struct link *link)
{
    return link->state == LINK_OPEN || link->state == LINK_BLOCKED;
}

/* The socket goes out of epoll_fd by being closed. */
static void drop_connection(struct link *link)
{
    if (link->conn != NULL)
        (void)amqp_destroy_connection(link->conn);
    link->conn = NULL;
    link->tls.ssl = NULL;
    link->wants_write = false;
    link->has_input = false;
    obx_err_clear(&link->broken);
    outbuf_reset(&link->out);
    inbuf_reset(&link->in);
    recycle_amqp_pool(&link->pool);
}

/* A connection that held for long enough was a good one; one that breaks at once must not be tried
 * at full speed. */
static void plan_reconnect(struct link *link)
{
    const uint64_t now = clock_now_ms();

    if (link->up_since_ms != 0 && now - link->up_since_ms >= link->options.reconnect_cap_ms)
        backoff_reset(&link->backoff);
    link->up_since_ms = 0;
    link->tried = 0;
    link->due_ms = now + backoff_next_ms(&link->backoff);
}

void link_give_up(struct link *link, const struct obx_err *why)
{
    struct obx_err copy = *why; /* it may be link->broken, or live in memory of the connection */

    if (!link_is_connected(link))
        return;
    drop_connection(link);
    link->disconnects++;
    link->trouble = copy;
    plan_reconnect(link);
    set_state(link, LINK_WAITING, LOG_LVL_WARN);
    link->ops->lost(link->ctx, &copy);
}

void link_abandon(struct link *link)
{
    if (!link_is_connected(link))
        return;
    drop_connection(link);
    set_state(link, LINK_WAITING, LOG_LVL_INFO);
}

void link_close(struct link *link)
{
    if (link->state == LINK_WAITING)
        set_state(link, LINK_CLOSED, LOG_LVL_INFO);
}

static uint32_t interest(bool reads, bool writes)
{
    return (reads ? (uint32_t)EPOLLIN : 0) | (writes ? (uint32_t)EPOLLOUT : 0);
}

static void connect_next(struct link *link)
{
    struct epoll_event event = {.events = interest(!link->is_paused, false)};
    struct obx_err err = {0};
    enum obx_code rc;

    set_state(link, LINK_CONNECTING, LOG_LVL_DEBUG);
    rc = link_open(link, &link->options.addresses[link->next_address], &err);
    if (rc == OBX_OK &&
        epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, amqp_get_sockfd(link->conn), &event) != 0)
        rc = obx_fail_sys(&err, OBX_E_SYSTEM, errno, "epoll_ctl: %s", strerror(errno));
    if (rc != OBX_OK) {
        drop_connection(link);
        link->trouble = err;
        link->next_address = (link->next_address + 1) % link->options.address_count;
        /* All addresses are tried at once, one in each call, before the backoff is waited out. */
        if (++link->tried < link->options.address_count)
            link->due_ms = clock_now_ms();
        else
            plan_reconnect(link);
        set_state(link, LINK_WAITING, LOG_LVL_WARN);
        return;
    }
    link->connects++;
    link->tried = 0;
    link->up_since_ms = link->last_read_ms = link->last_write_ms = clock_now_ms();
    obx_err_clear(&link->trouble);
    set_state(link, LINK_OPEN, LOG_LVL_INFO);
    link->ops->opened(link->ctx);
}

static bool set_interest(struct link *link, bool reads, bool writes)
{
    struct epoll_event event = {.events = interest(reads, writes)};

    if (epoll_ctl(link->epoll_fd, EPOLL_CTL_MOD, amqp_get_sockfd(link->conn), &event) == 0)
        return true;
    (void)obx_fail_sys(&link->broken, OBX_E_SYSTEM, errno, "epoll_ctl: %s", strerror(errno));
    return false;
}

void link_want_write(struct link *link)
{
    const bool wants = outbuf_pending(&link->out) > 0;

    if (wants != link->wants_write && link_is_connected(link) &&
        set_interest(link, !link->is_paused, wants))
        link->wants_write = wants;
}

void link_pause(struct link *link, bool paused)
{
    if (paused == link->is_paused)
        return;
    link->is_paused = paused;
    link->last_read_ms = clock_now_ms(); /* not to have listened is not silence of the broker */
    if (link_is_connected(link))
        (void)set_interest(link, !paused, link->wants_write);
}

void link_flush(struct link *link)
{
    ssize_t sent = 1;

    if (!link_is_connected(link) || link->broken.code != OBX_OK)
        return;
    while (sent > 0 && outbuf_pending(&link->out) > 0) {
        sent = link_write(link);
        if (sent > 0)
            link->last_write_ms = clock_now_ms();
    }
    if (sent < 0)
        (void)obx_fail_sys(&link->broken, OBX_E_MQ_GONE, errno, "write: %s", strerror(errno));
    link_want_write(link);
}

enum obx_code link_send_method(struct link *link, amqp_channel_t channel, amqp_method_number_t id,
                               void *decoded, struct obx_err *err)
{
    enum obx_code rc;

    if (!link_is_connected(link))
        return obx_fail(err, OBX_E_MQ_GONE, "not connected");
    rc = outbuf_method(&link->out, link->frame_max, channel, id, decoded);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "frame for the broker");
    link_want_write(link);
    return OBX_OK;
}

/* method: connection.blocked; NULL: it has ended. One that changes nothing is passed over. */
static void set_blocked(struct link *link, const amqp_connection_blocked_t *method)
{
    const bool blocked = method != NULL;

    if (link->state != (blocked ? LINK_OPEN : LINK_BLOCKED))
        return;
    if (blocked)
        (void)amqp_fail_blocked(&link->trouble, method->reason);
    else
        obx_err_clear(&link->trouble);
    set_state(link, blocked ? LINK_BLOCKED : LINK_OPEN, blocked ? LOG_LVL_WARN : LOG_LVL_INFO);
    if (link->ops->blocked != NULL)
        link->ops->blocked(link->ctx, blocked);
}

static enum obx_code on_channel_0(struct link *link, const amqp_frame_t *frame, struct obx_err *err)
{
    const amqp_connection_close_t *close = frame->payload.method.decoded;
    amqp_connection_close_ok_t close_ok = {0};

    if (frame->frame_type != AMQP_FRAME_METHOD)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "content on channel 0");
    switch (frame->payload.method.id) {
    case AMQP_CONNECTION_CLOSE_METHOD:
        /* Answered at once if that goes; the broker closes its side in any case. */
        if (link_send_method(link, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &close_ok, NULL) == OBX_OK)
            link_flush(link);
        return amqp_fail_close(err, close->reply_code, close->reply_text, AMQP_WORKING,
                               "connection closed by the broker");
    case AMQP_CONNECTION_BLOCKED_METHOD:
        set_blocked(link, frame->payload.method.decoded);
        return OBX_OK;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        set_blocked(link, NULL);
        return OBX_OK;
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x on channel 0",
                        (unsigned)frame->payload.method.id);
    }
}

/* The connection can be gone in between only by an error, which ends the loop. */
static enum obx_code read_frames(struct link *link, struct obx_err *err)
{
    amqp_frame_t frame;
    bool has = true;

    for (int budget = READ_BUDGET; budget > 0 && !link->is_paused; budget--) {
        enum obx_code rc = link_read(link, &frame, &has, err);

        if (rc == OBX_OK && has && frame.channel == 0 && frame.frame_type != AMQP_FRAME_HEARTBEAT)
            rc = on_channel_0(link, &frame, err);
        else if (rc == OBX_OK && has && frame.frame_type != AMQP_FRAME_HEARTBEAT)
            rc = link->ops->frame(link->ctx, &frame, err);
        if (rc != OBX_OK || !has) {
            link->has_input = false;
            return rc;
        }
    }
    link->has_input = true;
    return OBX_OK;
}

/* What is read was read before this, so a stay of our own does not look like silence of the broker.
 */
static enum obx_code keep_heartbeats(struct link *link, struct obx_err *err)
{
    const uint64_t now = clock_now_ms();

    if (link->heartbeat_ms == 0)
        return OBX_OK;
    if (!link->is_paused && now - link->last_read_ms >= BEATS_MISSED * link->heartbeat_ms)
        return obx_fail(err, OBX_E_MQ_GONE, "nothing heard from the broker for %llu ms",
                        (unsigned long long)(now - link->last_read_ms));
    if (now - link->last_write_ms < link->heartbeat_ms / 2 || outbuf_pending(&link->out) > 0)
        return OBX_OK;
    if (outbuf_heartbeat(&link->out) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "heartbeat");
    link->last_write_ms = now;
    return OBX_OK;
}

static enum obx_code work(struct link *link, struct obx_err *err)
{
    struct pollfd socket = {.fd = amqp_get_sockfd(link->conn)};
    enum obx_code rc;

    link_flush(link);
    /* A reset connection makes poll return at once for ever, and a paused link would not read of
     * it. */
    if (link->is_paused && poll(&socket, 1, 0) > 0 && (socket.revents & (POLLERR | POLLHUP)) != 0)
        return obx_fail(err, OBX_E_MQ_GONE, "connection lost while reading was paused");
    rc = read_frames(link, err);
    if (rc == OBX_OK)
        rc = keep_heartbeats(link, err);
    if (rc != OBX_OK)
        return rc;
    link_flush(link);
    if (link->broken.code != OBX_OK) {
        *err = link->broken;
        return err->code;
    }
    return OBX_OK;
}

void link_service(struct link *link)
{
    struct obx_err err = {0};

    if (link->state == LINK_WAITING && clock_now_ms() >= link->due_ms)
        connect_next(link);
    if (link_is_connected(link) && work(link, &err) != OBX_OK)
        link_give_up(link, &err);
}

int link_fd(const struct link *link)
{
    return link_is_connected(link) ? link->epoll_fd : -1;
}

uint64_t link_next_due_ms(const struct link *link)
{
    uint64_t due;

    if (link->state == LINK_WAITING)
        return link->due_ms;
    if (link->state == LINK_CLOSED || link->heartbeat_ms == 0)
        return link->broken.code != OBX_OK ? 0 : UINT64_MAX;
    if (link->broken.code != OBX_OK || (link->has_input && !link->is_paused))
        return 0; /* read from the socket already, so that no event of it will say so */
    due = link->is_paused ? UINT64_MAX : link->last_read_ms + BEATS_MISSED * link->heartbeat_ms;
    if (outbuf_pending(&link->out) == 0 && link->last_write_ms + link->heartbeat_ms / 2 < due)
        due = link->last_write_ms + link->heartbeat_ms / 2;
    return due;
}

const char *bridge_state_name(enum bridge_state state)
{
    switch (state) {
    case BRIDGE_DOWN:
        return "down";
    case BRIDGE_UP:
        return "up";
    case BRIDGE_BLOCKED:
        return "blocked";
    case BRIDGE_CLOSED:
        return "closed";
    default:
        return "unknown";
    }
}

enum bridge_state link_bridge_state(const struct link *link)
{
    switch (link->state) {
    case LINK_OPEN:
        return BRIDGE_UP;
    case LINK_BLOCKED:
        return BRIDGE_BLOCKED;
    case LINK_CLOSED:
        return BRIDGE_CLOSED;
    case LINK_WAITING:
    case LINK_CONNECTING:
    default:
        return BRIDGE_DOWN;
    }
}

void link_fini(struct link *link)
{
    if (link->ops == NULL) /* never made */
        return;
    /* While blocked the broker does not read, so it would not hear it. */
    if (link->state == LINK_OPEN)
        link_say_goodbye(link, clock_now_ms() + GOODBYE_MS);
    drop_connection(link);
    if (link->state != LINK_CLOSED)
        set_state(link, LINK_CLOSED, LOG_LVL_INFO);
    outbuf_fini(&link->out);
    inbuf_fini(&link->in);
    empty_amqp_pool(&link->pool);
    options_fini(&link->options);
    (void)close(link->epoll_fd);
    link->ops = NULL;
}
