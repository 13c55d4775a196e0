/* Values of the database in JSON. */
#ifndef OPS_JSON_VALUE_H
#define OPS_JSON_VALUE_H

#include <jansson.h>

#include "obx/bytes.h"

/** Set a text; absent: null. Bytes that are no UTF-8 become NAME_hex, so that nobody takes their
 * digits for the text. */
void json_set_text(json_t *object, const char *name, struct obx_bytes text);
/** Set the database's "2026-11-22 11:58:01.123456" as RFC 3339 in UTC; absent: null. */
void json_set_time(json_t *object, const char *name, struct obx_bytes datetime);

#endif
