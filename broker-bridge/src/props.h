/* The properties and headers of a message, to AMQP and back. See props.c. */
#ifndef BRIDGE_PROPS_H
#define BRIDGE_PROPS_H

#include "amqp_include.h"
#include "bridge/bridge.h"

/** Memory that is used again for each message's header table. Zero-initialise; free with
 * props_fini. */
struct props_scratch {
    amqp_table_entry_t *entries;
    size_t cap;
};
void props_fini(struct props_scratch *scratch);

/** Check names and limits of a message that goes out. OBX_OK; OBX_E_FORMAT, OBX_E_TOO_LARGE, with a
 * reason. */
OBX_NODISCARD enum obx_code props_check(const struct bridge_message *msg, uint64_t max_body_bytes,
                                        struct obx_err *err);
/**
 * Fill out from msg and the tag under which it is published; it borrows from msg and scratch.
 * Persistent always. A header that msg has under the tag's own name is left out. OBX_OK;
 * OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code props_encode(struct props_scratch *scratch,
                                         const struct bridge_message *msg, uint64_t tag,
                                         amqp_basic_properties_t *out);

/** The header that carries the tag; consumers of the bridge do not see it. */
#define PROPS_TAG_HEADER "x-obx-tag"
/** The tag that a returned message carries; 0 when it has none, which is no tag. */
uint64_t props_tag(const amqp_basic_properties_t *properties);

#endif
