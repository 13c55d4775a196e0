/* The one way in which outboxctl prints JSON. */
#ifndef CTL_JSON_PRINT_H
#define CTL_JSON_PRINT_H

#include <jansson.h>

#include "obx/bytes.h"

/** Set a text; absent: null. Bytes that are no UTF-8 become NAME_hex, so that nobody takes their
 * digits for the text. */
void json_set_text(json_t *object, const char *name, struct obx_bytes text);
/** Set the database's "2026-11-22 11:58:01.123456" as RFC 3339 in UTC; absent: null. */
void json_set_time(json_t *object, const char *name, struct obx_bytes datetime);

/** Print it to the standard output with a line end after it: ASCII, every control character escaped
 * (DEL, too), so that a text from outside cannot move the cursor of a terminal. */
void json_print(const json_t *json);
/** The same on one line, without its end: a part of something longer. */
void json_print_part(const json_t *json);
/** {"items": [...], "next": "..."}: a page of a list; next is what --after takes, NULL on the last. */
void json_print_page(json_t *items, const char *next);

#endif
