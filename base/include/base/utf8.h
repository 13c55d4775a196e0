/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Any thread.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"

/** Length of the character that b starts with, and the character in *cp; 0 when b is empty or
 * starts wrongly. */
size_t utf8_next(struct obx_bytes b, uint32_t *cp);
/** Whether all of b is UTF-8. NUL is a character like any other. */
bool utf8_is_valid(struct obx_bytes b);
/** The greatest length of at most max bytes of b that does not split a character; bytes that are no
 * UTF-8 count alone. */
size_t utf8_cut(struct obx_bytes b, size_t max);

/** Put a '?' in the place of each byte of text that is no UTF-8: what comes from outside and is to
 * be stored as text. */
void utf8_make_valid(char *text);

#endif
