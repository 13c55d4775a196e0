/*
 * One connection to the broker that comes back by itself: what publisher, consumer and topology
 * stand on. See link.c. All functions run on the owner's thread; none of them waits, but
 * link_service when a connect is due.
 */
#ifndef BRIDGE_LINK_H
#define BRIDGE_LINK_H

#include "amqp_include.h"
#include "base/backoff.h"
#include "bridge/bridge.h"
#include "inbuf.h"
#include "options.h"
#include "outbuf.h"
#include "tls.h"

enum link_state {
    LINK_WAITING, /* no connection; the next try is due at due_ms.       next: CONNECTING, CLOSED */
    LINK_CONNECTING, /* inside link_service only.                           next: OPEN, WAITING */
    LINK_OPEN, /* logged in.                                          next: BLOCKED, WAITING, CLOSED
                */
    LINK_BLOCKED, /* connection.blocked: reads go on, writes stay here.  next: OPEN, WAITING, CLOSED
                   */
    LINK_CLOSED   /* the end.                                            next: none               */
};

/** What the owner does with a connection. All run inside link_service or link_give_up, with ctx of
 * link_init. */
struct link_ops {
    const char *module; /* for log lines: "publisher", "consumer" */
    /** Logged in: open the channel. */
    void (*opened)(void *ctx);
    /** A frame of a channel other than 0; borrowed. Anything but OBX_OK gives the connection up
     * with err. */
    enum obx_code (*frame)(void *ctx, const amqp_frame_t *frame, struct obx_err *err);
    /** The connection is gone, and with it all channels. why is borrowed. */
    void (*lost)(void *ctx, const struct obx_err *why);
    /** connection.blocked and its end. NULL for an owner that never publishes: the broker blocks
     * only those that do. */
    void (*blocked)(void *ctx, bool blocked);
};

struct link {
    const struct link_ops *ops;
    void *ctx;
    struct options options;
    enum link_state state;
    struct obx_err trouble; /* why it is not open, or why it is blocked */
    struct obx_err broken;  /* a write failed outside of link_service: given up in the next one */
    amqp_connection_state_t conn;
    struct tls tls;
    struct outbuf out;
    struct inbuf in;
    amqp_pool_t pool; /* of the frame that is being looked at */
    bool has_input;   /* a turn ended before all was read */
    int epoll_fd;     /* always there; the socket is in it while connected */
    bool wants_write; /* what the socket is registered for in epoll_fd */
    bool is_paused;   /* the owner takes nothing more for now */
    uint32_t frame_max;
    uint64_t heartbeat_ms; /* as negotiated; 0: none */
    uint64_t last_read_ms;
    uint64_t last_write_ms;
    uint64_t up_since_ms;
    uint64_t due_ms; /* next connect while WAITING */
    size_t next_address;
    size_t tried; /* addresses tried in this round */
    struct backoff backoff;
    uint64_t connects, disconnects;
};

OBX_NODISCARD enum obx_code link_init(struct link *link, const struct bridge_opts *opts,
                                      const struct link_ops *ops, void *ctx, struct obx_err *err);
/** Close in good order if that goes without waiting long, and free. No callback runs. Zeroed memory
 * is fine. */
void link_fini(struct link *link);

/** Connect when due, flush, read what is there, keep heartbeats. */
void link_service(struct link *link);
/** Drop the connection; the next try follows after the backoff. Only from inside link_service or
 * the owner's service. */
void link_give_up(struct link *link, const struct obx_err *why);

/** Close the socket without another byte; no callback runs. To be followed by link_fini. */
void link_abandon(struct link *link);

/** Do not connect again; for an owner that is done while there is no connection. */
void link_close(struct link *link);

/** Whether frames may be appended to out. */
bool link_is_connected(const struct link *link);
/** Encode a method into out; written by link_flush or the next link_service. OBX_E_MQ_GONE,
 * OBX_E_NOMEM, OBX_E_TOO_LARGE */
OBX_NODISCARD enum obx_code link_send_method(struct link *link, amqp_channel_t channel,
                                             amqp_method_number_t id, void *decoded,
                                             struct obx_err *err);
/** Write as much of out as the kernel takes. A failure is kept and acted upon by the next
 * link_service. */
void link_flush(struct link *link);

/** Something was appended to out: wake the owner's poll, so that the next link_service writes it.
 */
void link_want_write(struct link *link);

/**
 * Stop reading, or go on: the broker is held back by TCP, heartbeats of our own go on, the broker's
 * are not missed. From inside the frame callback it takes effect with the next frame. Holds across
 * connections.
 */
void link_pause(struct link *link, bool paused);

/** For poll: readable when link_service has something to do; -1 when not connected. */
int link_fd(const struct link *link);
/** When link_service has to run even without input. */
uint64_t link_next_due_ms(const struct link *link);
enum bridge_state link_bridge_state(const struct link *link);

/* link_io.c: bytes and frames. Callers see to it that there is a connection. */

/** Write some of out: how many bytes, 0: none now, -1: the connection is broken (errno). */
ssize_t link_write(struct link *link);
/** The next frame, from the buffer or the socket, without waiting; it is borrowed until the next
 * call. *has is false when none is there now. A heartbeat also stands for "not yet, go on". */
OBX_NODISCARD enum obx_code link_read(struct link *link, amqp_frame_t *frame, bool *has,
                                      struct obx_err *err);
/** Write all of out and read the next frame but heartbeats, by due_ms. OBX_E_TIMEOUT. */
OBX_NODISCARD enum obx_code link_exchange(struct link *link, uint64_t due_ms, amqp_frame_t *frame,
                                          struct obx_err *err);
/** Close in good order by due_ms; errors do not matter any more. */
void link_say_goodbye(struct link *link, uint64_t due_ms);

/* link_open.c: one try to connect to one address, at most connect_timeout long. On success
 * link->conn is logged in. */
OBX_NODISCARD enum obx_code link_open(struct link *link, const struct address *address,
                                      struct obx_err *err);

#endif
