/*
 * The tables of the pretended application in the crash tests, on both sides.
 *
 * Producer: `orders`, one row for each message, written in the transaction that wrote the outbox
 * row; so it holds exactly the messages that were committed, whatever became of the client that
 * wrote them. `key_seq` counts the messages of each ordering key and makes transactions of one key
 * wait for each other. Consumer: `applied`, one row for each time that a handler's transaction
 * committed. It has no unique key on the message id, so that a message applied twice shows as two
 * rows.
 */
#ifndef CRASH_LEDGER_H
#define CRASH_LEDGER_H

#include "sql/db.h"

#define LEDGER_PRODUCER_DB "obx_crash_shop"
#define LEDGER_CONSUMER_DB "obx_crash_stock"

enum {
    LEDGER_KEYS = 8 /* ordering keys "key-0" to "key-7" */
};

/**
 * Make both databases again, empty, with the application's tables only (no Rowpost tables). What
 * was there is dropped.
 * @return OBX_OK or any OBX_E_DB_*
 */
OBX_NODISCARD enum obx_code ledger_create(struct db *db, struct obx_err *err);
/** The first column of the first row of a query, as a number; 0 for no row. */
OBX_NODISCARD enum obx_code ledger_number(struct db *db, const char *sql, uint64_t *out,
                                          struct obx_err *err);

#endif
