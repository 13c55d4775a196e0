/*
 * Collects cells, then prints them. A column is as wide as its widest cell, counted in characters.
 */
#include "table.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "base/utf8.h"

enum { GAP = 2, CELL_MAX = 512, SPACE = 0x20, DELETE = 0x7F, LAST_C1 = 0x9F };

static bool is_right(const char *head)
{
    return head[0] == '>';
}

static const char *head_text(const char *head)
{
    return is_right(head) ? head + 1 : head;
}

/* In characters, not bytes. Wide ones count as one: the table is then out of line, and right. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0U) != 0x80U;
    return width;
}

void table_init(struct table *table, const char *const *heads, size_t columns)
{
    assert(columns > 0);
    memset(table, 0, sizeof(*table));
    table->heads = heads;
    table->columns = columns;
    for (size_t i = 0; i < columns; i++)
        table->widths[i] = width_of(head_text(heads[i]));
}

void table_fini(struct table *table)
{
    buf_fini(&table->text);
}

void text_add_clean(struct obx_buf *buf, struct obx_bytes text)
{
    const char *p = text.p;

    for (size_t at = 0; at < text.len;) {
        uint32_t cp = 0;
        size_t len = utf8_next((struct obx_bytes){p + at, text.len - at}, &cp);

        /* C0 and C1 are orders for a terminal. */
        if (len > 0 && cp >= SPACE && (cp < DELETE || cp > LAST_C1))
            buf_add(buf, p + at, len);
        else
            buf_add_text(buf, "?");
        at += len == 0 ? 1 : len;
    }
}

void text_print_clean(FILE *file, const char *text)
{
    struct obx_buf clean = {0};

    text_add_clean(&clean, bytes_of(text));
    if (clean.len > 0)
        (void)fwrite(clean.data, 1, clean.len, file);
    buf_fini(&clean);
}

void table_add(struct table *table, struct obx_bytes cell)
{
    size_t start = table->text.len;
    size_t column = table->cells % table->columns;
    size_t width;

    text_add_clean(&table->text, bytes_is_absent(cell) ? bytes_of("-") : cell);
    if (buf_add(&table->text, "", 1) != OBX_OK)
        return;
    width = width_of(table->text.data + start);
    if (width > table->widths[column])
        table->widths[column] = width;
    table->cells++;
}

void table_addf(struct table *table, const char *fmt, ...)
{
    char cell[CELL_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(cell, sizeof(cell), fmt, args);
    va_end(args);
    table_add(table, bytes_of(cell));
}

static void pad(FILE *file, size_t count)
{
    while (count-- > 0)
        fputc(' ', file);
}

/* The last column is not filled up, so that lines do not end in blanks. */
static void print_cell(const struct table *table, size_t column, const char *cell, FILE *file)
{
    size_t missing = table->widths[column] - width_of(cell);
    bool is_last = column + 1 == table->columns;

    if (is_right(table->heads[column]))
        pad(file, missing);
    fputs(cell, file);
    if (!is_right(table->heads[column]) && !is_last)
        pad(file, missing);
    if (is_last)
        fputc('\n', file);
    else
        pad(file, GAP);
}

enum obx_code table_print(const struct table *table, FILE *file)
{
    const char *cell = table->text.data;

    assert(table->columns > 0);
    if (table->text.rc != OBX_OK)
        return table->text.rc;
    for (size_t i = 0; i < table->columns; i++)
        print_cell(table, i, head_text(table->heads[i]), file);
    for (size_t i = 0; i < table->cells - table->cells % table->columns; i++) {
        print_cell(table, i % table->columns, cell, file);
        cell += strlen(cell) + 1;
    }
    return OBX_OK;
}
