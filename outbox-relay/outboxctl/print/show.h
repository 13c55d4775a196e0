/* A row shown in full: fields under each other, the beginning of a payload. To standard output. */
#ifndef CTL_SHOW_H
#define CTL_SHOW_H

#include "obx/bytes.h"

/** One line; none when the value is absent. What a terminal might take for orders is shown as '?'.
 */
void show_field(const char *name, struct obx_bytes value);
/** Size and beginning: text as text, line by line; anything else in hexadecimal. */
void show_preview(struct obx_bytes payload);

#endif
