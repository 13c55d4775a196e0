/*
 * Fuzz target of packs: the first byte tells how many messages the pack says that it has, the rest
 * is its body. Whatever it is, the answer is messages or a reason; and messages that were read can
 * be packed again, and come out as they were.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "bridge/pack.h"
#include "fuzz.h"
#include "memory.h"

static struct pack_writer writer;

static bool is_same(const struct bridge_message *a, const struct bridge_message *b)
{
    return bytes_equal(a->message_id, b->message_id) && bytes_equal(a->type, b->type) &&
           bytes_equal(a->content_type, b->content_type) && bytes_equal(a->body, b->body) &&
           a->header_count == b->header_count;
}

static void free_all(struct bridge_delivery **events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bridge_delivery_free(events[i]);
    obx_free(events);
}

/* Not every message that is read is one that would be packed: others may have what we never write. */
static void pack_again(const struct bridge_delivery *event)
{
    struct bridge_delivery pack = *event;
    struct bridge_delivery **events = NULL;
    size_t count = 0;

    pack_begin(&writer, 1, PACK_BYTES_MAX);
    if (pack_add(&writer, &event->msg) != PACK_ADDED)
        return;
    FUZZ_CHECK(pack_end(&writer, &pack.msg) == OBX_OK);
    FUZZ_CHECK(pack_read(&pack, &events, &count, NULL) == OBX_OK && count == 1);
    FUZZ_CHECK(is_same(&events[0]->msg, &event->msg));
    free_all(events, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct obx_header told = {.name = bytes_of(PACK_COUNT_HEADER),
                                    .type = OBX_H_I64,
                                    .v.i64 = size == 0 ? 0 : data[0] % 16};
    const struct bridge_delivery pack = {
        .msg = {.content_type = bytes_of(PACK_CONTENT_TYPE),
                .app_id = bytes_of("rowpost"),
                .headers = &told,
                .header_count = 1,
                .body = {.p = size == 0 ? (const void *)"" : data + 1,
                         .len = size == 0 ? 0 : size - 1}}};
    struct bridge_delivery **events = NULL;
    struct obx_err err = {0};
    size_t count = 0;
    const size_t before = fuzz_memory();
    const enum obx_code rc = pack_read(&pack, &events, &count, &err);

    FUZZ_MEMORY(before, size, 4096, 16);
    FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_FORMAT || rc == OBX_E_TOO_LARGE);
    FUZZ_CHECK(rc == OBX_OK || (err.text[0] != '\0' && utf8_is_valid(bytes_of(err.text))));
    FUZZ_CHECK((rc == OBX_OK) == (count == (size_t)told.v.i64 && count > 0));
    for (size_t i = 0; i < count; i++)
        pack_again(events[i]);
    free_all(events, count);
    return 0;
}
