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
/** Fill out from msg; it borrows from msg and scratch. Persistent always. OBX_OK; OBX_E_NOMEM */
OBX_NODISCARD enum obx_code props_encode(struct props_scratch *scratch,
                                         const struct bridge_message *msg,
                                         amqp_basic_properties_t *out);

#endif
