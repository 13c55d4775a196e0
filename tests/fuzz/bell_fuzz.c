/*
 * Fuzz target of the doorbell: the input is a datagram, which anybody may send who reaches the
 * address. What is read of it lies within it, says the same when it is passed on, and means only
 * lanes with its names.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "fuzz.h"
#include "outbox/bell_msg.h"

static bool is_within(struct obx_bytes part, struct obx_bytes whole)
{
    const char *begin = whole.p;
    const char *at = part.p;

    return bytes_is_absent(part) ||
           (bell_name_is_valid(part) && at >= begin && at + part.len <= begin + whole.len);
}

static void pass_on(const struct bell_msg *msg)
{
    char source[BELL_MSG_MAX], outbox[BELL_MSG_MAX], text[BELL_MSG_MAX];
    struct bell_msg again;
    size_t len;

    FUZZ_CHECK(bytes_to_text(msg->source, source, sizeof(source)));
    FUZZ_CHECK(bytes_to_text(msg->outbox, outbox, sizeof(outbox)));
    FUZZ_CHECK(bell_msg_is_for(msg, source, outbox));
    FUZZ_CHECK(!bell_msg_is_for(msg, "another", outbox) || strcmp(source, "another") == 0);
    len = bell_msg_forward(text, sizeof(text), source, outbox);
    FUZZ_CHECK(len > 0 && len <= sizeof(text));
    FUZZ_CHECK(bell_msg_parse((struct obx_bytes){.p = text, .len = len}, &again));
    FUZZ_CHECK(again.forwarded && bytes_equal(again.source, msg->source));
    FUZZ_CHECK(bytes_equal(again.outbox, msg->outbox));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct obx_bytes datagram = {.p = size == 0 ? (const void *)"" : data, .len = size};
    struct bell_msg msg;

    if (!bell_msg_parse(datagram, &msg)) {
        FUZZ_CHECK(bytes_is_absent(msg.source) && bytes_is_absent(msg.outbox));
        return 0;
    }
    FUZZ_CHECK(size <= BELL_MSG_MAX);
    FUZZ_CHECK(is_within(msg.source, datagram) && is_within(msg.outbox, datagram));
    FUZZ_CHECK(bytes_is_absent(msg.source) || !bytes_is_absent(msg.outbox));
    if (!bytes_is_absent(msg.source))
        pass_on(&msg);
    return 0;
}
