/*
 * What all users of the bridge share: names of states and outcomes, and the search for a header.
 */
#include "bridge/bridge.h"

#include <stddef.h>

#include "base/bytes.h"
#include "bridge/publisher.h"

const char *bridge_state_name(enum bridge_state state)
{
    switch (state) {
    case BRIDGE_DOWN:
        return "down";
    case BRIDGE_UP:
        return "up";
    case BRIDGE_BLOCKED:
        return "blocked";
    case BRIDGE_CLOSED:
        return "closed";
    default:
        return "unknown";
    }
}

const char *pub_outcome_name(enum pub_outcome outcome)
{
    switch (outcome) {
    case PUB_CONFIRMED:
        return "confirmed";
    case PUB_NACKED:
        return "nacked";
    case PUB_RETURNED:
        return "returned";
    case PUB_DENIED:
        return "denied";
    case PUB_UNKNOWN:
        return "unknown";
    default:
        return "invalid";
    }
}

const struct bridge_header *bridge_message_header(const struct bridge_message *msg,
                                                  const char *name)
{
    for (size_t i = 0; i < msg->header_count; i++) {
        if (bytes_is(msg->headers[i].name, name))
            return &msg->headers[i];
    }
    return NULL;
}
