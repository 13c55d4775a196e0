/*
 * The JSON that consumers write: strings, and the body of a message of receipts (docs/receipts.md),
 * for the library and for inbox-relay. Failures stick to the buffer. Proved by
 * tests/unit/receipt_body_test.c, with the relay's own reader.
 */
#ifndef CONSUMER_CORE_JSON_H
#define CONSUMER_CORE_JSON_H

#include <stdbool.h>

#include "base/bytes.h"

/** A string in quotes. Bytes that are no UTF-8 become U+FFFD. */
void json_add_string(struct obx_buf *out, struct obx_bytes text);

struct receipt_line {
    struct obx_bytes message_id, group, token;
    struct obx_bytes reason; /* of a rejection; may be any bytes */
    bool is_rejected;
};

/** One receipt more. On failure the body is as it was before. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code receipt_body_add(struct obx_buf *body, const struct receipt_line *line);
/** After the last one. OBX_E_NOMEM; the body is as it was then. */
OBX_NODISCARD enum obx_code receipt_body_end(struct obx_buf *body);

#endif
