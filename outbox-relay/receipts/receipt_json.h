/*
 * Receipts as they come over the wire: one message with many, see docs/receipts.md. Anybody who may
 * publish to the queue can have written it, so nothing about it is trusted.
 *
 * It is bounded before it is parsed, and what is kept are the texts of the reports and nothing
 * else: a message takes about as much memory as its reports have bytes, whatever it was made of.
 *
 * Pure: no server, no clock. Proved by tests/unit/receipt_json_test.c and
 * tests/fuzz/receipt_fuzz.c.
 */
#ifndef RELAY_RECEIPT_JSON_H
#define RELAY_RECEIPT_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "obx/bytes.h"
#include "obx/err.h"

enum {
    RECEIPTS_IN_MESSAGE = 1000,
    RECEIPT_ID_MAX = 64,
    RECEIPT_REASON_MAX = 1000,
    RECEIPT_BODY_MAX = 2 * 1024 * 1024
};

/** One report; its bytes live as long as its list. */
struct receipt {
    struct obx_bytes message_id; /* 1 to 64 of printable ASCII */
    struct obx_bytes group;      /* the same */
    struct obx_bytes token;      /* not checked */
    struct obx_bytes reason;     /* UTF-8, cut to RECEIPT_REASON_MAX bytes; absent: none */
    bool is_rejected;
};

/** Zero-initialise. */
struct receipt_list {
    struct receipt *items;
    size_t count;
    size_t malformed; /* reports that were left out */
    char *texts;      /* what items borrow from */
    size_t bytes;     /* of memory, all of it */
};

/**
 * Read the reports of one message. Those that are malformed are counted and left out; others are
 * none the worse for it. On failure the list is empty.
 * @return OBX_OK; OBX_E_FORMAT - no JSON, or not of this form; OBX_E_TOO_LARGE - more than
 * RECEIPTS_IN_MESSAGE, a body over RECEIPT_BODY_MAX, or one of far more values than reports need;
 * OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code receipt_list_read(struct receipt_list *list, struct obx_bytes body,
                                              struct obx_err *err);
void receipt_list_fini(struct receipt_list *list);

#endif
