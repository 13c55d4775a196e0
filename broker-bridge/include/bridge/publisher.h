/*
 * A publisher with confirms and a bounded window, on its own connection, for use by one thread with
 * its own poll loop:
 *
 *     for (;;) {
 *         bridge_publisher_service(pub);   connects when due, reads frames, runs on_result
 *         while (there is work && bridge_publisher_room(pub) > 0)
 *             bridge_publisher_publish(pub, &msg, token, &err);
 *         poll() on bridge_publisher_fd() for POLLIN
 *             until min(own timers, bridge_publisher_next_due_ms())
 *     }
 *
 * Every message is mandatory and persistent. A basic.return carries no delivery tag and precedes
 * its ack, so each message carries its tag itself, in the header x-obx-tag: by that a return is
 * matched, and the ack that follows is reported as PUB_RETURNED. A return that matches nothing in
 * flight ends the connection, because an ack after it could be believed no more. Proved by
 * tests/unit/window_test.c and tests/system/publisher_test.c.
 */
#ifndef BRIDGE_PUBLISHER_H
#define BRIDGE_PUBLISHER_H

#include "bridge/bridge.h"

struct bridge_publisher;

enum pub_outcome {
    PUB_CONFIRMED, /* stored by at least one queue */
    PUB_NACKED,    /* refused (queue full with reject-publish, internal error): try again later */
    PUB_RETURNED,  /* no queue is bound, or there is no such exchange: stored nowhere */
    PUB_DENIED,    /* the user may not write this routing key (topic permission): stored nowhere */
    PUB_UNKNOWN /* connection or channel lost, or no confirm in time: may be stored or not; publish
                   again, same id */
};
const char *pub_outcome_name(enum pub_outcome outcome);

/**
 * The fate of one published message; exactly one call for each successful bridge_publisher_publish,
 * at the latest from bridge_publisher_destroy. why: reply text or error text, borrowed, for logs
 * and reasons. Runs inside bridge_publisher_service or _destroy only, never inside _publish; may
 * call _publish, must not destroy the publisher. After a channel or connection loss the outcomes
 * come in publish order.
 */
typedef void bridge_result_fn(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx);

struct bridge_publisher_opts {
    struct bridge_opts bridge;
    uint32_t window;             /* unconfirmed messages at most; 0: 2000 */
    uint32_t confirm_timeout_ms; /* oldest unconfirmed older than this: connection is given up; 0:
                                    30000. Not while blocked */
    uint32_t max_body_bytes;     /* 0: 16 MiB (RabbitMQ's own limit) */
    bridge_result_fn *on_result;
    void *ctx;
};

/** Make a publisher; connects in the first _service, not here. On failure *out is NULL.
 * OBX_E_NOMEM, OBX_E_INVALID, OBX_E_CONFIG (addresses). */
OBX_NODISCARD enum obx_code bridge_publisher_create(const struct bridge_publisher_opts *opts,
                                                    struct bridge_publisher **out,
                                                    struct obx_err *err);
/** Close; everything unconfirmed is reported PUB_UNKNOWN first. NULL is fine. */
void bridge_publisher_destroy(struct bridge_publisher *pub);

/** The same at once: nothing that has not been written yet is sent any more, for an owner that lost
 * the right to publish. NULL is fine. */
void bridge_publisher_drop(struct bridge_publisher *pub);

/**
 * Send one message. Success means handed to the operating system only; the fate comes by on_result
 * with the same token. Nothing is kept but the token. On failure nothing was
 * sent as far as the caller is concerned and on_result is not called for it.
 * @return OBX_OK; OBX_E_FULL - window full; OBX_E_MQ_GONE - not connected (service it);
 * OBX_E_MQ_BLOCKED - alarm; OBX_E_TOO_LARGE, OBX_E_FORMAT (name over 255 bytes, no message id,
 * headers too large) - this message can never be sent
 */
OBX_NODISCARD enum obx_code bridge_publisher_publish(struct bridge_publisher *pub,
                                                     const struct bridge_message *msg,
                                                     uint64_t token, struct obx_err *err);
/** Do what is due: connect, read all frames there are without waiting, check deadlines, reconnect.
 * Blocks only for a connect (connect_timeout). */
void bridge_publisher_service(struct bridge_publisher *pub);
/** How many more can be published now; 0 when down or blocked. */
uint32_t bridge_publisher_room(const struct bridge_publisher *pub);
uint32_t bridge_publisher_inflight(const struct bridge_publisher *pub);
/** For poll(2); -1 when not connected. Changes with every reconnect. */
int bridge_publisher_fd(const struct bridge_publisher *pub);
/** Monotonic milliseconds (clock_now_ms) at which _service has to run even without input. */
uint64_t bridge_publisher_next_due_ms(const struct bridge_publisher *pub);
enum bridge_state bridge_publisher_state(const struct bridge_publisher *pub);
/** Why it is not up (last failure, or the broker's reason for blocking); code OBX_OK when there is
 * none. Borrowed. */
const struct obx_err *bridge_publisher_trouble(const struct bridge_publisher *pub);

struct bridge_publisher_stats {
    uint64_t published, confirmed, nacked, returned, denied, unknown;
    uint64_t connects, disconnects, blocked;
};
void bridge_publisher_get_stats(const struct bridge_publisher *pub,
                                struct bridge_publisher_stats *out);

#endif
