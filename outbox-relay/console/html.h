/*
 * Text of the outside in a page, an address, a CSV cell: the one place that escapes. Nothing of it
 * reaches a page by another way. A failure sticks to the buffer. Proved by
 * tests/unit/console_parts_test.c, with everything a hostile producer can put into a row.
 */
#ifndef CONSOLE_HTML_H
#define CONSOLE_HTML_H

#include "base/bytes.h"

/** As text or as the value of a quoted attribute: & < > " ' as entities; control characters, what
 * turns the direction of text, and what is no UTF-8 as U+FFFD. */
void html_add(struct obx_buf *out, struct obx_bytes text);
void html_add_text(struct obx_buf *out, const char *text);
/** As a part of a path or the value of a query: everything but letters, digits and -._~ as %XX. */
void url_add(struct obx_buf *out, const char *text);
/** As a cell of CSV, quoted; what a spreadsheet would take for a formula gets a ' before it. */
void csv_add(struct obx_buf *out, struct obx_bytes text);

#endif
