/* What tests look up in a message of the bridge. */
#ifndef SUPPORT_MESSAGE_HEADER_H
#define SUPPORT_MESSAGE_HEADER_H

#include <stddef.h>

#include "base/bytes.h"
#include "bridge/bridge.h"

/** A header by its name; NULL when absent. */
static inline const struct obx_header *message_header(const struct bridge_message *msg,
                                                      const char *name)
{
    for (size_t i = 0; i < msg->header_count; i++)
        if (bytes_is(msg->headers[i].name, name))
            return &msg->headers[i];
    return NULL;
}

#endif
