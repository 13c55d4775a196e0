/*
 * Owns what was read from the socket and not looked at yet.
 *
 * The library would keep frames of any channel, of any type, and decode whatever they hold by
 * recursion; so it is given nothing to read. Here a frame is looked at before anything is kept for
 * it. Frames larger than those negotiated are taken up to INBUF_FRAME_MAX, because RabbitMQ adds
 * headers to a message when it delivers it again and never splits a content header. Of a header
 * larger still the part that says how long the body is is handed on, and the rest passed over: one
 * message that cannot be read must not cost the connection, again and again.
 *
 * Invariant: start <= end <= cap. Memory is taken for bytes that have come, not for those that a
 * frame promises.
 */
#include "inbuf.h"

#include <string.h>

#include "base/alloc.h"

enum {
    HEADER_LEN = 7,
    OVERHEAD = 8, /* header and end mark */
    READ_AT_LEAST = 16 * 1024,
    INITIAL_CAP = 256 * 1024, /* a frame as negotiated, and what follows it */
    TLS_ALERT = 21,           /* how a TLS record begins that refuses what was said in clear */
};

void inbuf_fini(struct inbuf *in)
{
    obx_free(in->data);
    memset(in, 0, sizeof(*in));
}

void inbuf_reset(struct inbuf *in)
{
    if (in->cap > INITIAL_CAP)
        inbuf_fini(in);
    in->start = in->end = 0;
    in->skip = 0;
}

/* A frame is at most INBUF_FRAME_MAX long, and what is whole is taken before more is read; so the
 * buffer never grows beyond twice that. */
uint8_t *inbuf_room(struct inbuf *in, size_t *room)
{
    size_t cap;
    uint8_t *data;

    if (in->start > 0) {
        memmove(in->data, in->data + in->start, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
    if (in->end == 0 && in->cap > INITIAL_CAP)
        inbuf_fini(in); /* one large frame must not cost its memory for ever */
    if (in->cap - in->end < READ_AT_LEAST) {
        cap = in->cap == 0 ? INITIAL_CAP : in->cap * 2;
        data = obx_realloc(in->data, cap);
        if (data == NULL)
            return NULL;
        in->data = data;
        in->cap = cap;
    }
    *room = in->cap - in->end;
    return in->data + in->end;
}

void inbuf_added(struct inbuf *in, size_t len)
{
    in->end += len;
}

static enum obx_code check_type(const uint8_t *p, struct obx_err *err)
{
    switch (p[0]) {
    case AMQP_FRAME_METHOD:
    case AMQP_FRAME_HEADER:
    case AMQP_FRAME_BODY:
    case AMQP_FRAME_HEARTBEAT:
        return OBX_OK;
    case TLS_ALERT:
        return obx_fail(err, OBX_E_MQ_CONNECT, "the port speaks TLS");
    case 'A': /* "AMQP" and a version: it does not want ours */
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "the server does not speak AMQP 0-9-1");
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame of type %u", (unsigned)p[0]);
    }
}

enum obx_code inbuf_next(struct inbuf *in, struct raw_frame *frame, bool *has, struct obx_err *err)
{
    uint8_t *p;
    enum obx_code rc;
    size_t there = in->end - in->start;
    size_t skipped = in->skip < there ? (size_t)in->skip : there;
    size_t len;

    *has = false;
    if (in->data == NULL)
        return OBX_OK;
    in->start += skipped; /* of a header that was cut */
    in->skip -= skipped;
    p = in->data + in->start;
    there -= skipped;
    rc = there > 0 ? check_type(p, err) : OBX_OK;
    if (rc != OBX_OK || there < HEADER_LEN)
        return rc;
    len = (size_t)p[3] << 24 | (size_t)p[4] << 16 | (size_t)p[5] << 8 | p[6];
    *frame = (struct raw_frame){.type = p[0],
                                .channel = (amqp_channel_t)((unsigned)p[1] << 8 | p[2]),
                                .payload = p + HEADER_LEN,
                                .len = len};
    if (len > INBUF_FRAME_MAX && frame->type != AMQP_FRAME_HEADER)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a frame of %zu bytes", len);
    if (len > INBUF_FRAME_MAX) { /* the rest and the end mark are passed over as they come */
        *has = there >= HEADER_LEN + INBUF_CUT_LEN;
        if (*has) {
            frame->len = INBUF_CUT_LEN;
            frame->is_cut = true;
            in->start += HEADER_LEN + INBUF_CUT_LEN;
            in->skip = (uint64_t)len - INBUF_CUT_LEN + 1;
        }
        return OBX_OK;
    }
    *has = there - HEADER_LEN > len;
    if (*has && frame->payload[len] != AMQP_FRAME_END) {
        *has = false;
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a frame of %zu bytes without its end mark", len);
    }
    if (*has)
        in->start += OVERHEAD + len;
    return OBX_OK;
}
