/*
 * Rows of an outbox in memory, and batches of them. Used by the store that reads them, the reader
 * and the flight table.
 */
#include "outbox_row.h"

#include <string.h>

#include "base/alloc.h"

enum { BATCH_MIN = 64 };

/* Copies one value to *at and returns the copy; absent stays absent. */
static struct obx_bytes place(char **at, struct obx_bytes from)
{
    struct obx_bytes to = {.p = NULL, .len = 0};

    if (from.p == NULL)
        return to;
    to.p = *at;
    to.len = from.len;
    if (from.len > 0)
        memcpy(*at, from.p, from.len);
    *at += from.len;
    return to;
}

struct outbox_row *outbox_row_copy(const struct outbox_row *src)
{
    size_t size = sizeof(*src) + src->message_id.len + src->topic.len + src->key.len +
                  src->headers.len + src->content_type.len + src->receipt_from.len +
                  src->payload.len;
    struct outbox_row *row = obx_malloc(size);
    char *at = NULL;

    if (row == NULL)
        return NULL;
    *row = *src;
    row->size = size;
    at = (char *)(row + 1);
    row->message_id = place(&at, src->message_id);
    row->topic = place(&at, src->topic);
    row->key = place(&at, src->key);
    row->headers = place(&at, src->headers);
    row->content_type = place(&at, src->content_type);
    row->receipt_from = place(&at, src->receipt_from);
    row->payload = place(&at, src->payload);
    return row;
}

enum obx_code row_batch_add_take(struct row_batch *batch, struct outbox_row *row)
{
    if (batch->count == batch->cap) {
        size_t cap = batch->cap == 0 ? BATCH_MIN : batch->cap * 2;
        struct outbox_row **rows = obx_realloc(batch->rows, cap * sizeof(struct outbox_row *));

        if (rows == NULL)
            return OBX_E_NOMEM;
        batch->rows = rows;
        batch->cap = cap;
    }
    batch->rows[batch->count++] = row;
    return OBX_OK;
}

struct outbox_row *row_batch_take(struct row_batch *batch, size_t i)
{
    struct outbox_row *row = batch->rows[i];

    batch->rows[i] = NULL;
    return row;
}

void row_batch_clear(struct row_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        obx_free(batch->rows[i]);
    batch->count = 0;
}

void row_batch_fini(struct row_batch *batch)
{
    row_batch_clear(batch);
    obx_free(batch->rows);
    *batch = (struct row_batch){.rows = NULL, .count = 0, .cap = 0};
}

int ids_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}
