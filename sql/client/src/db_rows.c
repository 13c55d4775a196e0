/*
 * A result kept whole on the client: one block that grows by doubling. A row in it is the lengths
 * of its columns followed by their bytes, each with a NUL after it, and starts at a multiple of
 * eight; there is no pointer in the block, so it may move while it grows. Filled by db_text.c and
 * db_stmt.c, read through the functions of db.h.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "db_private.h"

enum {
    BLOCK_FIRST = 4096,
    NUMBER_TEXT_MAX = 32, /* the longest text that db_rows_u64 and db_rows_i64 look at */
    ROW_ALIGN = sizeof(uint64_t),
    DECIMAL = 10,
};

struct db_rows {
    char *block;
    size_t len;
    size_t cap;
    size_t last; /* where the row added last begins */
    size_t next; /* where the row that db_rows_next goes to begins */
    size_t count;
    unsigned columns;
    bool on_row;
    struct obx_bytes cells[]; /* the current row */
};

struct db_rows *db_rows_create(unsigned columns)
{
    struct db_rows *rows =
        obx_calloc(1, sizeof(struct db_rows) + columns * sizeof(struct obx_bytes));

    if (rows != NULL)
        rows->columns = columns;
    return rows;
}

void db_rows_free(struct db_rows *rows)
{
    if (rows == NULL)
        return;
    obx_free(rows->block);
    obx_free(rows);
}

static bool reserve(struct db_rows *rows, size_t extra)
{
    size_t cap = rows->cap == 0 ? BLOCK_FIRST : rows->cap;
    char *block = NULL;

    if (rows->cap - rows->len >= extra)
        return true;
    while (cap - rows->len < extra) {
        if (cap > SIZE_MAX / 2)
            return false;
        cap *= 2;
    }
    block = obx_realloc(rows->block, cap);
    if (block == NULL)
        return false;
    rows->block = block;
    rows->cap = cap;
    return true;
}

bool db_rows_add(struct db_rows *rows, const uint64_t *lengths)
{
    const size_t head = rows->columns * sizeof(uint64_t);
    size_t size = head;

    for (unsigned i = 0; i < rows->columns; i++) {
        uint64_t len = lengths[i] == DB_LEN_NULL ? 0 : lengths[i];

        if (len > SIZE_MAX - size - 2 * (size_t)ROW_ALIGN)
            return false;
        size += (size_t)len + 1;
    }
    size = (size + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
    if (!reserve(rows, size))
        return false;
    rows->last = rows->len;
    memcpy(rows->block + rows->last, lengths, head);
    rows->len += size;
    rows->count++;
    return true;
}

char *db_rows_slot(struct db_rows *rows, const uint64_t *lengths, unsigned column, size_t *at)
{
    const size_t len = lengths[column] == DB_LEN_NULL ? 0 : (size_t)lengths[column];
    char *slot = rows->block + rows->last + rows->columns * sizeof(uint64_t) + *at;

    slot[len] = '\0';
    *at += len + 1;
    return slot;
}

bool db_rows_add_text(struct db_rows *rows, MYSQL_ROW row, const unsigned long *lengths)
{
    uint64_t *own = NULL;
    size_t at = 0;

    /* The lengths as 64-bit numbers, in memory of the right alignment: the cells are not in use
     * while rows are added. */
    _Static_assert(sizeof(struct obx_bytes) >= sizeof(uint64_t), "a cell holds a length");
    own = (uint64_t *)(void *)rows->cells;
    for (unsigned i = 0; i < rows->columns; i++)
        own[i] = row[i] == NULL ? DB_LEN_NULL : lengths[i];
    if (!db_rows_add(rows, own))
        return false;
    for (unsigned i = 0; i < rows->columns; i++) {
        char *slot = db_rows_slot(rows, own, i, &at);

        if (row[i] != NULL)
            memcpy(slot, row[i], lengths[i]);
    }
    return true;
}

bool db_rows_next(struct db_rows *rows)
{
    const char *row = NULL;
    size_t at = rows->columns * sizeof(uint64_t);

    rows->on_row = rows->next < rows->len;
    if (!rows->on_row)
        return false;
    row = rows->block + rows->next;
    for (unsigned i = 0; i < rows->columns; i++) {
        uint64_t len = 0;

        memcpy(&len, row + i * sizeof(len), sizeof(len));
        rows->cells[i].p = len == DB_LEN_NULL ? NULL : row + at;
        rows->cells[i].len = len == DB_LEN_NULL ? 0 : (size_t)len;
        at += rows->cells[i].len + 1;
    }
    rows->next += (at + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
    return true;
}

size_t db_rows_count(const struct db_rows *rows)
{
    return rows->count;
}

struct obx_bytes db_rows_bytes(const struct db_rows *rows, unsigned column)
{
    if (!rows->on_row || column >= rows->columns)
        return (struct obx_bytes){NULL, 0};
    return rows->cells[column];
}

bool db_rows_is_null(const struct db_rows *rows, unsigned column)
{
    return db_rows_bytes(rows, column).p == NULL;
}

/* The text of a number is short and has a NUL after it; anything with a NUL inside or longer is
 * not one. */
static const char *number_text(const struct db_rows *rows, unsigned column)
{
    struct obx_bytes cell = db_rows_bytes(rows, column);

    if (cell.p == NULL || cell.len == 0 || cell.len > NUMBER_TEXT_MAX)
        return NULL;
    return memchr(cell.p, '\0', cell.len) == NULL ? cell.p : NULL;
}

uint64_t db_rows_u64(const struct db_rows *rows, unsigned column)
{
    const char *text = number_text(rows, column);
    char *end = NULL;
    uint64_t value = 0;

    if (text == NULL || *text < '0' || *text > '9')
        return 0;
    value = strtoull(text, &end, DECIMAL);
    return *end == '\0' || *end == '.' ? value : 0;
}

int64_t db_rows_i64(const struct db_rows *rows, unsigned column)
{
    const char *text = number_text(rows, column);
    char *end = NULL;
    int64_t value = 0;

    if (text == NULL || (*text != '-' && (*text < '0' || *text > '9')))
        return 0;
    value = strtoll(text, &end, DECIMAL);
    return *end == '\0' || *end == '.' ? value : 0;
}
