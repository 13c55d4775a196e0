/*
 * The form in which inbox_parked keeps what came with a message besides body, id and routing: one
 * "name=value" a line, readable in any client. A property stands under its AMQP name, a header as
 * "header.<type>.<name>". Bytes that would end a line or a name, and percent signs, are %XX.
 */
#ifndef CONSUMER_PROPS_H
#define CONSUMER_PROPS_H

#include "base/bytes.h"
#include "bridge/bridge.h"

/** Append the properties and headers of msg. OBX_E_NOMEM. Any thread. */
OBX_NODISCARD enum obx_code props_write(const struct bridge_message *msg, struct obx_buf *out);
/** How many headers a text has. */
size_t props_header_count(struct obx_bytes text);
/**
 * Read a text back into msg. scratch (text.len bytes, the caller's) gets the decoded bytes that msg
 * then borrows; headers has room for props_header_count. Lines of no known meaning are left out:
 * they are a later version's.
 */
void props_read(struct obx_bytes text, char *scratch, struct obx_header *headers,
                struct bridge_message *msg);

#endif
