/*
 * The frame reader of the tap: see amqp_watch.h. A frame is a header of seven bytes, the payload,
 * and one end byte.
 */
#include "bench/amqp_watch.h"

#include <string.h>

enum {
    PROTOCOL_HEADER = 8,
    FRAME_METHOD = 1,
    FRAME_BODY = 3,
    CLASS_BASIC = 60,
    METHOD_PUBLISH = 40,
    METHOD_ACK = 80,
    METHOD_HEAD = 4,               /* class and method */
    ACK_LEN = METHOD_HEAD + 8 + 1, /* tag, multiple */
    SIZE_AT = 3                    /* place of the size in a frame's header */
};

static uint64_t big_endian(const uint8_t *p, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++)
        value = value << 8 | p[i];
    return value;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void amqp_watch_init(struct amqp_watch *watch, bool is_client)
{
    memset(watch, 0, sizeof(*watch));
    watch->skip = is_client ? PROTOCOL_HEADER : 0;
}

static void report_method(const struct amqp_watch *watch, amqp_watch_fn *on_event, void *ctx)
{
    const uint8_t *p = watch->kept;
    struct amqp_event event = {0};

    if (watch->kept_len < METHOD_HEAD || big_endian(p, 2) != CLASS_BASIC)
        return;
    if (big_endian(p + 2, 2) == METHOD_PUBLISH) {
        event.what = AMQP_SEEN_PUBLISH;
        on_event(&event, ctx);
    } else if (big_endian(p + 2, 2) == METHOD_ACK && watch->kept_len >= ACK_LEN) {
        event.what = AMQP_SEEN_ACK;
        event.tag = big_endian(p + METHOD_HEAD, 8);
        event.is_multiple = (p[ACK_LEN - 1] & 1) != 0;
        on_event(&event, ctx);
    }
}

static void report_frame(const struct amqp_watch *watch, amqp_watch_fn *on_event, void *ctx)
{
    const struct amqp_event body = {
        .what = AMQP_SEEN_BODY, .head = watch->kept, .head_len = watch->kept_len};

    if (watch->header[0] == FRAME_METHOD)
        report_method(watch, on_event, ctx);
    else if (watch->header[0] == FRAME_BODY)
        on_event(&body, ctx);
}

static size_t feed_header(struct amqp_watch *watch, const uint8_t *bytes, size_t len)
{
    size_t part = smaller(sizeof(watch->header) - watch->header_len, len);

    memcpy(watch->header + watch->header_len, bytes, part);
    watch->header_len += part;
    if (watch->header_len == sizeof(watch->header)) {
        watch->left = (uint32_t)big_endian(watch->header + SIZE_AT, 4) + 1;
        watch->kept_len = 0;
    }
    return part;
}

/* The last byte of `left` is the frame's end, which is not kept. */
static size_t feed_payload(struct amqp_watch *watch, const uint8_t *bytes, size_t len)
{
    size_t part = smaller(watch->left, len);
    size_t payload = part == watch->left ? part - 1 : part;
    size_t kept = smaller(sizeof(watch->kept) - watch->kept_len, payload);

    memcpy(watch->kept + watch->kept_len, bytes, kept);
    watch->kept_len += kept;
    watch->left -= (uint32_t)part;
    return part;
}

void amqp_watch_feed(struct amqp_watch *watch, const uint8_t *bytes, size_t len,
                     amqp_watch_fn *on_event, void *ctx)
{
    size_t at = smaller(watch->skip, len);

    watch->skip -= at;
    while (at < len) {
        if (watch->header_len < sizeof(watch->header)) {
            at += feed_header(watch, bytes + at, len - at);
            continue;
        }
        at += feed_payload(watch, bytes + at, len - at);
        if (watch->left == 0) {
            report_frame(watch, on_event, ctx);
            watch->header_len = 0;
        }
    }
}
