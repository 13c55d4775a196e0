/* The one way in which outboxctl prints JSON. */
#ifndef CTL_JSON_PRINT_H
#define CTL_JSON_PRINT_H

#include <jansson.h>

#include "ops/json_value.h"

/** Print it to the standard output with a line end after it: ASCII, every control character escaped
 * (DEL, too), so that a text from outside cannot move the cursor of a terminal. */
void json_print(const json_t *json);
/** The same on one line, without its end: a part of something longer. */
void json_print_part(const json_t *json);
/** {"items": [...], "next": "..."}: a page of a list; next is what --after takes, NULL on the last. */
void json_print_page(json_t *items, const char *next);

#endif
