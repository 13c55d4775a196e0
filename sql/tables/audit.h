/*
 * The tables that say what operators have ended or changed: outbox_audit and inbox_audit. The code
 * that runs a request adds the rows; here is what keeps the tables from growing for ever.
 */
#ifndef TABLES_AUDIT_H
#define TABLES_AUDIT_H

#include "sql/db.h"

enum { AUDIT_DAYS = 365 /* as sql/schema says */ };

/** Remove what is older from the head of `table`, a page of it. Waits for nobody. Within the
 * caller's transaction. */
OBX_NODISCARD enum obx_code audit_clean(struct db *db, const char *table, struct obx_err *err);

#endif
