/*
 * The statements that read an outbox. Owned by one lane thread, on its connection; nothing here
 * writes. Proved by tests/system/outbox_store_test.c.
 */
#ifndef RELAY_OUTBOX_STORE_H
#define RELAY_OUTBOX_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "durable.h"
#include "lane/park/parking.h"
#include "outbox/outbox_row.h"
#include "reader.h"
#include "sql/db.h"
#include "tables/id_list.h"

struct outbox_store {
    struct db *db;           /* borrowed; set with each connection */
    struct parking *parking; /* borrowed: which keys are frozen; NULL: none */
    struct durable *durable; /* borrowed: notes what was read; NULL: nobody asks */
    uint32_t inline_bytes;
    struct obx_buf table; /* quoted */
    struct obx_buf forward, range, by_ids, columns, large, count;
    struct id_list list; /* scratch */
    struct obx_buf text; /* scratch */
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code outbox_store_init(struct outbox_store *store, const char *outbox,
                                              uint32_t inline_bytes, struct obx_err *err);
void outbox_store_fini(struct outbox_store *store);

/** Full rows with id >= from; see struct reader_store. */
OBX_NODISCARD enum obx_code outbox_store_forward(struct outbox_store *store, uint64_t from,
                                                 uint32_t limit, struct row_batch *batch,
                                                 struct obx_err *err);
/** Light rows within ranges; see struct reader_store. */
OBX_NODISCARD enum obx_code outbox_store_behind(struct outbox_store *store,
                                                const struct id_range *ranges, size_t range_count,
                                                uint32_t limit, struct row_batch *batch,
                                                struct obx_err *err);
/** See struct reader_store. */
OBX_NODISCARD enum obx_code outbox_store_snapshot(struct outbox_store *store, bool on,
                                                  struct obx_err *err);
/** What the reader reads by. Borrows from store. */
struct reader_store outbox_store_for_reader(struct outbox_store *store);
/** Full rows by id, ascending; those that are gone are missing. */
OBX_NODISCARD enum obx_code outbox_store_fetch(struct outbox_store *store, const uint64_t *ids,
                                               size_t count, struct row_batch *batch,
                                               struct obx_err *err);
/** What of a row may be too large to come with its batch. Borrowed from the result. */
struct outbox_large {
    struct obx_bytes payload; /* absent: the row is gone */
    struct obx_bytes headers; /* absent: none, or longer than OUTBOX_HEADERS_MAX */
    uint64_t headers_len;
};
enum { OUTBOX_HEADERS_MAX = 1024 * 1024 /* no broker takes a tenth of it */ };
/** Payload and headers of one row, whole. *rows keeps them (db_rows_free). */
OBX_NODISCARD enum obx_code outbox_store_large(struct outbox_store *store, uint64_t id,
                                               struct db_rows **rows, struct outbox_large *out,
                                               struct obx_err *err);

struct outbox_counts {
    uint64_t waiting; /* counted up to cap */
    uint64_t parked;  /* likewise */
    uint64_t frozen;  /* parked rows that hold their key, likewise */
    uint64_t oldest_age_us;
    uint64_t db_now_us;
    uint64_t awaiting; /* confirmed rows that wait for receipts, counted up to cap */
    uint64_t delayed;  /* rows for later, likewise */
};
/** What operators want to know; costs up to cap rows of an index. */
OBX_NODISCARD enum obx_code outbox_store_count(struct outbox_store *store, const char *outbox,
                                               uint64_t cap, struct outbox_counts *counts,
                                               struct obx_err *err);

#endif
