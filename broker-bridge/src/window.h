/*
 * The publish window: what has been sent and not yet confirmed. Pure logic, no I/O; see window.c.
 * Tags are those of the broker's confirms: the nth message on a channel has tag n, from 1.
 */
#ifndef BRIDGE_WINDOW_H
#define BRIDGE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/publisher.h"

struct window_slot;

struct window {
    struct window_slot *slots; /* capacity of them, in use or on the free list */
    uint32_t *buckets;         /* tag & bucket_mask to the first slot of that bucket */
    uint32_t bucket_mask;
    uint32_t capacity;
    uint32_t count;
    uint32_t first; /* oldest in use: the list is in publish order */
    uint32_t last;
    uint32_t free; /* first of the free list */
    uint64_t next_tag;
    uint64_t floor_ms; /* no message counts as sent before this */
};

/** What a message needs to be known by later. */
struct window_entry {
    uint64_t token;
    uint64_t exchange_hash;
    uint64_t route_hash; /* of exchange and routing key together: window_route_hash */
    uint64_t body_len;
    uint64_t now_ms;
};

/** A message that left the window. why is borrowed for the call and may be NULL. */
typedef void window_settled_fn(uint64_t token, enum pub_outcome outcome, const char *why,
                               void *ctx);

OBX_NODISCARD enum obx_code window_init(struct window *window, uint32_t capacity,
                                        struct obx_err *err);
void window_fini(struct window *window);

/** How many more fit. */
uint32_t window_room(const struct window *window);
/** The tag that the next message gets. */
uint64_t window_next_tag(const struct window *window);
/** What names an exchange and a routing key together. */
uint64_t window_route_hash(struct obx_bytes exchange, struct obx_bytes routing_key);
/** Take a message in under the next tag. OBX_E_FULL. */
OBX_NODISCARD enum obx_code window_push(struct window *window, const struct window_entry *entry);
/** Take the message back that was pushed last; only directly after window_push. */
void window_pop(struct window *window);

/** Note a basic.return of the message with this tag, which carried it as its token; why is copied
 * for its outcome and may be NULL. False when no such message is in flight: then nothing that the
 * channel says can be believed. */
bool window_return(struct window *window, uint64_t tag, uint16_t reply_code, const char *why);
/** A basic.ack (or basic.nack): settles one, or with multiple all up to tag, 0 meaning all. Returns
 * how many. */
uint32_t window_confirm(struct window *window, uint64_t tag, bool multiple, bool acked,
                        window_settled_fn *settled, void *ctx);

/** Mark all messages to one exchange as returned: the broker said that it does not exist. Returns
 * how many. */
uint32_t window_return_exchange(struct window *window, uint64_t exchange_hash, uint16_t reply_code);
/** Mark all messages of one exchange and routing key as denied: the broker said that the user may
 * not write there. Returns how many. */
uint32_t window_deny_route(struct window *window, uint64_t route_hash);
/** Mark the oldest message with a body of this size as refused. False when there is none. */
bool window_refuse_size(struct window *window, uint64_t body_len);
/** The channel is gone: all are settled in publish order, marked ones as marked, the others
 * PUB_UNKNOWN. Tags start at 1 again. */
void window_lose(struct window *window, const char *why, window_settled_fn *settled, void *ctx);

/** When the oldest message was sent, not before the floor; UINT64_MAX when the window is empty. */
uint64_t window_oldest_ms(const struct window *window);
/** Do not count the time before now against any message (the broker was blocked). */
void window_set_floor(struct window *window, uint64_t now_ms);

#endif
