/*
 * The store over a real database: one connection of one worker, set up so that a transaction which
 * a handler ends cannot go unnoticed (see the head of store_db.c).
 */
#ifndef CONSUMER_STORE_DB_H
#define CONSUMER_STORE_DB_H

#include "store/store.h"

/** As store_open_fn: connect, check the consumer schema, set the session up. As db_open and
 * schema_check. */
OBX_NODISCARD enum obx_code store_db_open(const struct settings *settings, struct store *out,
                                          struct obx_err *err);

#endif
