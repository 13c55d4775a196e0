/*
 * Bytes on their way to the broker: frames are encoded straight into it, and it is written without
 * ever blocking. Owned by a link; see outbuf.c.
 */
#ifndef BRIDGE_OUTBUF_H
#define BRIDGE_OUTBUF_H

#include "amqp_include.h"
#include "obx/err.h"

struct outbuf {
    uint8_t *data;
    size_t start; /* first byte not written yet */
    size_t end;
    size_t cap;
};

void outbuf_fini(struct outbuf *out);
/** Forget everything, as at a new connection; keeps a reasonable amount of memory. */
void outbuf_reset(struct outbuf *out);
size_t outbuf_pending(const struct outbuf *out);
/** Drop what was appended last, so that pending bytes are left; the same number as outbuf_pending
 * gave before. */
void outbuf_truncate(struct outbuf *out, size_t pending);
/** Room for extra more bytes at the end. */
OBX_NODISCARD enum obx_code outbuf_reserve(struct outbuf *out, size_t extra);
/** The first len bytes have been written. */
void outbuf_consume(struct outbuf *out, size_t len);

/*
 * Append one frame. frame_max is the negotiated limit for a whole frame. On failure nothing is
 * appended. OBX_E_NOMEM; OBX_E_TOO_LARGE when it does not fit into frame_max.
 */
OBX_NODISCARD enum obx_code outbuf_method(struct outbuf *out, uint32_t frame_max,
                                          amqp_channel_t channel, amqp_method_number_t id,
                                          void *decoded);
OBX_NODISCARD enum obx_code outbuf_header(struct outbuf *out, uint32_t frame_max,
                                          amqp_channel_t channel,
                                          const amqp_basic_properties_t *properties,
                                          uint64_t body_len);
/** The body in as many frames as it needs; none for an empty one. */
OBX_NODISCARD enum obx_code outbuf_body(struct outbuf *out, uint32_t frame_max,
                                        amqp_channel_t channel, struct obx_bytes body);
OBX_NODISCARD enum obx_code outbuf_heartbeat(struct outbuf *out);

#endif
