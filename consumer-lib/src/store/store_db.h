/*
 * The store over a real database: one connection of one worker, set up so that a transaction which
 * a handler ends cannot go unnoticed (see the head of store_db.c).
 */
#ifndef CONSUMER_STORE_DB_H
#define CONSUMER_STORE_DB_H

#include "api/settings.h"
#include "store.h"

struct store_db;

/**
 * Connect, check the consumer schema, set the session up. settings is borrowed and must outlive it.
 * @return OBX_OK; as db_open and schema_check
 */
OBX_NODISCARD enum obx_code store_db_open(const struct settings *settings, struct store_db **out,
                                          struct obx_err *err);
/** NULL is fine. */
void store_db_close(struct store_db *db);
struct store store_db_store(struct store_db *db);
/** Whether the group has a row in inbox_parked. */
OBX_NODISCARD enum obx_code store_db_any_parked(struct store_db *db, bool *any,
                                                struct obx_err *err);
const struct settings *store_db_settings(const struct store_db *db);
/** The connection, for the handler's statements. */
struct db *store_db_handle(struct store_db *db);

#endif
