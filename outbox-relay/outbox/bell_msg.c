/*
 * Reads and writes doorbell datagrams. They come from anybody who may reach the socket, so nothing
 * in them is trusted: a datagram is either exactly one of the forms in bell_msg.h or it is refused.
 * Called by doorbell.c and the fuzz target.
 */
#include "bell_msg.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

enum { NAME_MAX_LEN = 64 };

bool bell_name_is_valid(struct obx_bytes name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-$";

    if (name.p == NULL || name.len == 0 || name.len > NAME_MAX_LEN)
        return false;
    /* memchr(3) over the letters alone: strchr(3) would find a NUL of the datagram in the list. */
    for (size_t i = 0; i < name.len; i++) {
        if (memchr(allowed, ((const char *)name.p)[i], sizeof(allowed) - 1) == NULL)
            return false;
    }
    return true;
}

/* Fills source and outbox from "SOURCE/OUTBOX" or "OUTBOX". */
static bool parse_names(struct obx_bytes text, struct bell_msg *out)
{
    const char *start = text.p;
    const char *slash = memchr(text.p, '/', text.len);

    if (slash == NULL) {
        out->outbox = text;
        return bell_name_is_valid(out->outbox);
    }
    out->source = (struct obx_bytes){.p = start, .len = (size_t)(slash - start)};
    out->outbox = (struct obx_bytes){.p = slash + 1, .len = text.len - out->source.len - 1};
    return bell_name_is_valid(out->source) && bell_name_is_valid(out->outbox);
}

bool bell_msg_parse(struct obx_bytes datagram, struct bell_msg *out)
{
    struct bell_msg msg = {0};
    const char *p = datagram.p;
    struct obx_bytes text;

    *out = (struct bell_msg){0};
    if (datagram.len > BELL_MSG_MAX)
        return false;
    if (datagram.len == 0)
        return true;
    text = datagram;
    if (p[text.len - 1] == '\n') /* echo, in a shell, ends what it sends with one */
        text.len--;
    if (text.len == 0)
        return true;
    if (p[0] == '>') {
        msg.forwarded = true;
        text = (struct obx_bytes){.p = p + 1, .len = text.len - 1};
    }
    /* A relay passes a ring on with both names. One without a source would ring every lane of that
     * name, and be passed on again by each of them. */
    if (!parse_names(text, &msg) || (msg.forwarded && bytes_is_absent(msg.source)))
        return false;
    *out = msg;
    return true;
}

bool bell_msg_is_for(const struct bell_msg *msg, const char *source, const char *outbox)
{
    if (!bytes_is_absent(msg->outbox) && !bytes_is(msg->outbox, outbox))
        return false;
    return bytes_is_absent(msg->source) || bytes_is(msg->source, source);
}

size_t bell_msg_forward(char *dst, size_t dst_size, const char *source, const char *outbox)
{
    int n;

    if (!bell_name_is_valid(bytes_of(source)) || !bell_name_is_valid(bytes_of(outbox)))
        return 0;
    n = snprintf(dst, dst_size, ">%s/%s", source, outbox);
    return n > 0 && (size_t)n < dst_size ? (size_t)n : 0;
}
