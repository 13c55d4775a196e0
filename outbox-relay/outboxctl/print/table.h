/*
 * A table of text with aligned columns. Cells come from the outside (topics, keys, servers'
 * messages): control characters are shown as '?', so that no cell can move the cursor of a
 * terminal.
 */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <stdio.h>

#include "base/bytes.h"

enum { TABLE_COLUMNS_MAX = 12 };

struct table {
    const char *const *heads; /* a leading '>' aligns the column to the right and is not printed */
    size_t columns;
    size_t cells;
    size_t widths[TABLE_COLUMNS_MAX];
    struct obx_buf text; /* every cell with a NUL after it, head cells not included */
};

/** heads is borrowed: outlives the table. */
void table_init(struct table *table, const char *const *heads, size_t columns);
void table_fini(struct table *table);
/** Add the next cell, row by row. Absent bytes are shown as "-". */
void table_add(struct table *table, struct obx_bytes cell);
void table_addf(struct table *table, const char *fmt, ...) OBX_PRINTF(2, 3);
/** Print the heads and every whole row. OBX_E_NOMEM when a cell could not be added; nothing is
 * printed then. */
OBX_NODISCARD enum obx_code table_print(const struct table *table, FILE *file);
/** Append text with control characters and what is not UTF-8 replaced by '?'. */
void text_add_clean(struct obx_buf *buf, struct obx_bytes text);
/** Print it so. For every text that somebody else has said: a server, a relay, any peer. */
void text_print_clean(FILE *file, const char *text);

#endif
