/*
 * Fuzz target of the application's headers: the input is what stands in the column. Whatever it is,
 * the answer is a message or a reason; names keep to AMQP's limit, none is one of ours twice, and
 * the reason can be stored as text.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "outbox/envelope.h"

static void check_message(const struct bridge_message *msg)
{
    size_t own = 0;

    for (size_t i = 0; i < msg->header_count; i++) {
        const struct obx_header *header = &msg->headers[i];

        FUZZ_CHECK(header->name.len > 0 && header->name.len <= 255);
        FUZZ_CHECK(memchr(header->name.p, '\0', header->name.len) == NULL);
        own += bytes_is(header->name, "x-obx-outbox-id");
        if (header->type == OBX_H_TEXT)
            FUZZ_CHECK(utf8_is_valid(header->v.text));
    }
    FUZZ_CHECK(own == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct outbox_row row = {.id = 1,
                                   .is_full = true,
                                   .message_id = bytes_of("id"),
                                   .topic = bytes_of("topic"),
                                   .headers = {.p = data, .len = size},
                                   .payload = bytes_of("body")};
    struct envelope *envelope = NULL;
    struct bridge_message msg;
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    FUZZ_CHECK(envelope_create("shop", "outbox", &envelope, NULL) == OBX_OK);
    for (int twice = 0; twice < 2; twice++) {
        rc = envelope_build(envelope, &row, &msg, &err);
        FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_FORMAT);
        if (rc == OBX_OK)
            check_message(&msg);
        else
            FUZZ_CHECK(err.text[0] != '\0' && utf8_is_valid(bytes_of(err.text)));
    }
    envelope_destroy(envelope);
    return 0;
}
