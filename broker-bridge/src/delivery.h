/* Puts a delivery together from its frames, into one block of the heap. See delivery.c. */
#ifndef BRIDGE_DELIVERY_H
#define BRIDGE_DELIVERY_H

#include "amqp_include.h"
#include "base/bytes.h"
#include "bridge/consumer.h"

enum { DELIVERY_NAME_MAX = 255 };

/** What is half-received. Zero-initialise; at most one delivery at a time. */
struct delivery_builder {
    enum { BUILD_NONE, BUILD_HEADER, BUILD_BODY } state;
    struct bridge_delivery *delivery; /* from the header on */
    uint64_t body_max;                /* larger ones are not kept; 0: none is too large */
    uint64_t body_left;
    uint64_t tag;
    bool redelivered;
    struct obx_buf names; /* exchange and routing key, until the header comes */
    size_t exchange_len;
    struct obx_buf scratch; /* text of nested header values */
};

/** Forget what is half-received. */
void delivery_reset(struct delivery_builder *builder);
void delivery_fini(struct delivery_builder *builder);

/** A basic.deliver has come. */
OBX_NODISCARD enum obx_code delivery_begin(struct delivery_builder *builder,
                                           const amqp_basic_deliver_t *method, struct obx_err *err);
/** A header or body frame has come. When that was the last one *out is the delivery, owned by the
 * caller; otherwise NULL. */
OBX_NODISCARD enum obx_code delivery_frame(struct delivery_builder *builder,
                                           const amqp_frame_t *frame, struct bridge_delivery **out,
                                           struct obx_err *err);

#endif
