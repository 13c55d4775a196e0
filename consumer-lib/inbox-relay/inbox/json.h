/* The JSON that inbox-relay writes: a message's headers, and receipts. */
#ifndef INBOX_JSON_H
#define INBOX_JSON_H

#include "base/bytes.h"
#include "obx/consumer.h"

/** A string in quotes. Bytes that are no UTF-8 become U+FFFD. Failures stick to the buffer. */
void json_add_string(struct obx_buf *out, struct obx_bytes text);
/** The headers as one object, without those of the receipt, which are not the service's. */
void json_add_headers(struct obx_buf *out, const struct obx_message *msg);

#endif
