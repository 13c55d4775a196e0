/*
 * One row of an outbox in memory: a single allocation, the bytes after the struct. A light row has
 * id, topic and key only; a full row has everything, the payload only when it was small enough to
 * come with the batch.
 */
#ifndef RELAY_OUTBOX_ROW_H
#define RELAY_OUTBOX_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

struct outbox_row {
    uint64_t id;
    uint64_t created_us;  /* microseconds since 1970 UTC */
    uint64_t payload_len; /* also when payload is absent */
    uint64_t blocked_by;  /* id of the parked row that freezes its key; 0: not frozen */
    bool is_full;         /* false: light */
    bool asks;            /* for receipts */
    struct obx_bytes message_id;
    struct obx_bytes topic;
    struct obx_bytes key;     /* absent: no order asked for */
    struct obx_bytes headers; /* absent: none */
    struct obx_bytes content_type;
    struct obx_bytes receipt_from; /* absent: no receipts asked for */
    struct obx_bytes payload;      /* absent: not read */
    size_t size;                   /* bytes of the allocation */
};

/** A heap copy of src and of all its bytes; NULL when out of memory. Free with obx_free. */
struct outbox_row *outbox_row_copy(const struct outbox_row *src);

/** Rows in id order, owned. Zero-initialise. */
struct row_batch {
    struct outbox_row **rows;
    size_t count;
    size_t cap;
};

/** Append; the batch owns the row then. On OBX_E_NOMEM nothing was taken. */
OBX_NODISCARD enum obx_code row_batch_add_take(struct row_batch *batch, struct outbox_row *row);
/** Take the row at i out; the caller owns it. */
struct outbox_row *row_batch_take(struct row_batch *batch, size_t i);
/** Free the rows that were not taken; keeps the array. */
void row_batch_clear(struct row_batch *batch);
void row_batch_fini(struct row_batch *batch);

/** For qsort: ids, ascending. */
int ids_compare(const void *a, const void *b);

struct id_range {
    uint64_t lo; /* both ends belong to it */
    uint64_t hi;
};

#endif
