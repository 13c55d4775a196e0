/* AMQP field values as JSON text, for header types that the bridge's five types do not cover. See
 * field_text.c. */
#ifndef BRIDGE_FIELD_TEXT_H
#define BRIDGE_FIELD_TEXT_H

#include "amqp_include.h"
#include "base/bytes.h"

/** Append value as JSON. Whatever it holds; nested deeper than 32 it becomes null. OBX_E_NOMEM */
OBX_NODISCARD enum obx_code field_text(struct obx_buf *buf, const amqp_field_value_t *value);

/** A decimal's value: unsigned by the protocol, but RabbitMQ and others use it signed. */
double field_decimal(amqp_decimal_t decimal);

#endif
