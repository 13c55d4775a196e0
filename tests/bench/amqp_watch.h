/*
 * Reads one direction of an AMQP 0-9-1 connection from a stream of bytes, just far enough to see
 * publishes, the beginning of their bodies, and confirms. No memory but the struct; bytes may come
 * in pieces of any size.
 */
#ifndef BENCH_AMQP_WATCH_H
#define BENCH_AMQP_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AMQP_WATCH_KEPT = 32 /* bytes kept of each frame's payload */
};

enum amqp_seen {
    AMQP_SEEN_PUBLISH, /* basic.publish */
    AMQP_SEEN_BODY,    /* a body frame; head holds its beginning */
    AMQP_SEEN_ACK      /* basic.ack with tag and is_multiple */
};

struct amqp_event {
    enum amqp_seen what;
    uint64_t tag;
    bool is_multiple;
    const uint8_t *head;
    size_t head_len;
};

typedef void amqp_watch_fn(const struct amqp_event *event, void *ctx);

struct amqp_watch {
    size_t skip; /* bytes to pass over before the next frame: the protocol header of a client */
    uint8_t header[7]; /* type, channel, size */
    size_t header_len;
    uint32_t left; /* bytes of payload and frame end still to come */
    uint8_t kept[AMQP_WATCH_KEPT];
    size_t kept_len;
};

/** is_client: the stream begins with the eight bytes of the protocol header. */
void amqp_watch_init(struct amqp_watch *watch, bool is_client);
void amqp_watch_feed(struct amqp_watch *watch, const uint8_t *bytes, size_t len,
                     amqp_watch_fn *on_event, void *ctx);

#endif
