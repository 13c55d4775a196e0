/*
 * The handler's side of a transaction: struct obx_tx. Made by the worker for one call of the
 * handler; knows whether a statement has failed in a way that undoes the unit of work, whatever the
 * handler makes of it.
 */
#ifndef CONSUMER_TX_H
#define CONSUMER_TX_H

#include "obx/consumer.h"

#include "core/item.h"
#include "sql/db.h"

struct obx_tx {
    struct db *db;         /* borrowed from the worker's store; NULL in unit tests */
    struct obx_err failed; /* not OBX_OK: the transaction has to be undone */
    struct item **items;   /* borrowed: those of a batch handler's call; NULL: it is not one */
    size_t item_count;
    bool is_blaming; /* message index of the call is the one that the verdict is about */
    size_t blamed;
    bool is_uncertain; /* the server may say something else of the transaction by now: a statement
                              has failed, or run over the native handle */
    bool has_ended;    /* a statement of it has ended the transaction */
    bool is_refused;   /* one was not sent, since it would have ended the transaction */
    struct obx_rows *rows; /* results the handler has not freed */
    char reason[OBX_ERR_TEXT_MAX];
    unsigned worker; /* whose transaction it is */
};

void tx_init(struct obx_tx *tx, struct db *db);
/** Frees what the handler left. */
void tx_fini(struct obx_tx *tx);

#endif
