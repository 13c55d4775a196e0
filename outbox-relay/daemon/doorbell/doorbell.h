/*
 * The relay's end of the doorbell: a Unix datagram socket, a UDP socket, or both, and the sending
 * of rings that are passed on. It never blocks, reads a bounded number of datagrams at a time, and
 * ignores what it does not understand. Belongs to the thread that runs the event base.
 */
#ifndef DAEMON_DOORBELL_H
#define DAEMON_DOORBELL_H

#include <stdbool.h>

#include "daemon/relay_view.h"
#include "obx/err.h"
#include "outbox/bell_msg.h"

struct doorbell;
struct event_base;

struct doorbell_opts {
    struct event_base *base; /* borrowed: outlives the doorbell */
    const char *socket_path; /* NULL: no Unix socket. Borrowed: outlives the doorbell */
    const char *udp_address; /* numeric host:port; NULL: no UDP */
    /** One understood datagram. False: nobody here knows the lane it names. */
    bool (*on_ring)(const struct bell_msg *msg, void *ctx);
    /** After the datagrams of one turn. */
    void (*on_turn_end)(void *ctx);
    void *ctx;
};

/**
 * Open the sockets. A socket file that nobody listens on any more is replaced. On failure *out is
 * NULL.
 * @return OBX_OK; OBX_E_CONFIG - another process listens on that path or address, or it is no
 * socket; OBX_E_SYSTEM - not allowed, folder missing; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code doorbell_create(const struct doorbell_opts *opts, struct doorbell **out,
                                            struct obx_err *err);
/** Close, and remove the socket's file if it is still ours. NULL is fine. */
void doorbell_destroy(struct doorbell *doorbell);
/** Pass a ring on to the relay at a numeric address. False when it could not be sent; nothing is
 * kept then. */
bool doorbell_pass_on(struct doorbell *doorbell, const char *address, const char *source,
                      const char *outbox);
/** Rings, malformed and unknown; the rest stays untouched. */
void doorbell_get_stats(const struct doorbell *doorbell, struct bell_stats *out);

#endif
