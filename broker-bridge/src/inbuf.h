/*
 * Bytes that have come from the broker, cut into frames. Owned by a link; see inbuf.c.
 */
#ifndef BRIDGE_INBUF_H
#define BRIDGE_INBUF_H

#include <stdbool.h>

#include "amqp_include.h"
#include "obx/err.h"

enum {
    INBUF_FRAME_MAX = 1024 * 1024, /* payload of a frame that is kept whole */
    INBUF_CUT_LEN = 12,            /* what is kept of a content header larger than that */
};

struct inbuf {
    uint8_t *data;
    size_t start; /* first byte not used yet */
    size_t end;
    size_t cap;
    uint64_t skip; /* bytes still to be passed over: the rest of a frame that was cut */
};

/** One frame; its payload lies in the buffer until the next call, and may be written to. */
struct raw_frame {
    uint8_t type;
    amqp_channel_t channel;
    uint8_t *payload;
    size_t len;
    bool is_cut; /* a content header of which only the first INBUF_CUT_LEN bytes are here */
};

void inbuf_fini(struct inbuf *in);
/** Forget everything, as at a new connection. */
void inbuf_reset(struct inbuf *in);
/** Room for the next bytes: at least one. *room is how many. NULL: out of memory. */
uint8_t *inbuf_room(struct inbuf *in, size_t *room);
/** So many bytes were put there. */
void inbuf_added(struct inbuf *in, size_t len);
/**
 * The next whole frame. *has is false when more bytes are needed first.
 * @return OBX_OK; OBX_E_MQ_PROTOCOL: what came is no frame, or one too large; OBX_E_MQ_CONNECT: it
 * is TLS
 */
OBX_NODISCARD enum obx_code inbuf_next(struct inbuf *in, struct raw_frame *frame, bool *has,
                                       struct obx_err *err);

#endif
