/* A message's headers as the JSON that the table has. */
#ifndef INBOX_JSON_H
#define INBOX_JSON_H

#include "base/bytes.h"
#include "obx/consumer.h"

/** The headers as one object, without those of the receipt, which are not the service's. Failures
 * stick to the buffer. */
void json_add_headers(struct obx_buf *out, const struct obx_message *msg);

#endif
