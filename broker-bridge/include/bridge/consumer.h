/*
 * A consumer on its own connection and channel, for use by one thread with its own poll loop (as
 * the publisher). Deliveries are handed over whole and may be worked on by other threads; only
 * their answers (ack, reject) come back to this thread.
 */
#ifndef BRIDGE_CONSUMER_H
#define BRIDGE_CONSUMER_H

#include "bridge/bridge.h"

struct bridge_consumer;

/**
 * One delivery, on the heap, independent of the connection: msg's bytes live inside it.
 * (epoch, tag) name it to _ack and _reject; after a reconnect an old epoch is ignored, since the
 * broker delivers it again.
 */
struct bridge_delivery {
    uint32_t epoch;
    uint64_t tag;
    bool redelivered;
    struct bridge_message msg;
    /* Above 0: the body is larger than body_max, was not kept, and is empty here. */
    uint64_t too_large_bytes;
    size_t memory_bytes; /* what it costs, for limits */
};
void bridge_delivery_free(struct bridge_delivery *delivery);

/** The receiver owns the delivery. Runs inside bridge_consumer_service. */
typedef void bridge_delivery_fn(struct bridge_delivery *delivery, void *ctx);
/**
 * BRIDGE_UP: subscribed, deliveries of this epoch follow. BRIDGE_DOWN: connection, channel or
 * subscription lost or refused, for why; epoch is the one to come, and whatever is unacked of
 * earlier ones comes again. BRIDGE_CLOSED: after _cancel no more deliveries come; answers still go
 * out. Runs inside _service only. why is borrowed and NULL unless down.
 */
typedef void bridge_consumer_state_fn(enum bridge_state state, uint32_t epoch,
                                      const struct obx_err *why, void *ctx);

struct bridge_consumer_opts {
    struct bridge_opts bridge;
    const char *queue;
    const char *consumer_tag; /* NULL: the broker makes one */
    uint16_t prefetch;        /* 0: 1000 */
    bool exclusive;
    /* Bodies above this are read and thrown away, so that who may write to the queue cannot fill
     * our memory; the delivery still comes, for its receiver to answer. 0: what the broker allows. */
    uint64_t body_max;
    bridge_delivery_fn *on_delivery;
    bridge_consumer_state_fn *on_state; /* may be NULL */
    void *ctx;
};

OBX_NODISCARD enum obx_code bridge_consumer_create(const struct bridge_consumer_opts *opts,
                                                   struct bridge_consumer **out,
                                                   struct obx_err *err);
/** Close at once; the broker puts what is unacked back. NULL is fine. */
void bridge_consumer_destroy(struct bridge_consumer *consumer);
/** As bridge_publisher_service. A cancelled consumer or a missing queue is retried under the same
 * backoff as a lost connection. */
void bridge_consumer_service(struct bridge_consumer *consumer);
int bridge_consumer_fd(const struct bridge_consumer *consumer);
uint64_t bridge_consumer_next_due_ms(const struct bridge_consumer *consumer);
enum bridge_state bridge_consumer_state(const struct bridge_consumer *consumer);
const struct obx_err *bridge_consumer_trouble(const struct bridge_consumer *consumer);
/**
 * Stop reading from the connection, or go on; for an owner whose memory is full, since the broker's
 * window counts messages and not bytes. Answers still go out. Also from on_delivery: then it is the
 * last one. Not to be kept up while waiting for an answer of the broker (a new subscription, a
 * cancel): resume when the state changes.
 */
void bridge_consumer_pause(struct bridge_consumer *consumer, bool paused);
/** The broker does not keep to what was agreed, for instance sends more than the prefetch allows:
 * give the connection up at the end of the present or the next _service. Also from on_delivery. */
void bridge_consumer_distrust(struct bridge_consumer *consumer, const char *why);
/** Stop new deliveries (basic.cancel); answers still go out. For draining. */
void bridge_consumer_cancel(struct bridge_consumer *consumer);
/** Acknowledge one, or with multiple all up to tag. An old epoch is ignored (OBX_OK).
 * OBX_E_MQ_GONE: will come again. */
OBX_NODISCARD enum obx_code bridge_consumer_ack(struct bridge_consumer *consumer, uint32_t epoch,
                                                uint64_t tag, bool multiple, struct obx_err *err);

#endif
