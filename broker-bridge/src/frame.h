/* What a frame from the broker says, decoded within bounds. See frame.c. */
#ifndef BRIDGE_FRAME_H
#define BRIDGE_FRAME_H

#include "inbuf.h"

enum {
    FRAME_DEPTH_MAX = 33,       /* tables and arrays within each other; what is deeper is bytes */
    FRAME_ELEMENTS_MAX = 65536, /* values in all of a message's headers */
};

/**
 * Decode one frame into what the library's own reader would give. Memory comes from the pool, which
 * the caller recycles; bytes are borrowed from raw. The properties of a message that cannot be
 * decoded are NULL (payload.properties.decoded): the message is there, and so is its body size.
 * Headers nested deeper than FRAME_DEPTH_MAX come as bytes (AMQP_FIELD_KIND_BYTES).
 * @return OBX_OK; OBX_E_MQ_PROTOCOL: no frame that a broker sends; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code frame_decode(const struct raw_frame *raw, amqp_pool_t *pool,
                                         amqp_frame_t *frame, struct obx_err *err);

/**
 * Walk a table's content (what stands after its length) without recursion: true when it is well
 * formed and within the bounds. Values nested too deep are turned into bytes in place.
 */
bool frame_flatten_table(uint8_t *table, size_t len);

#endif
