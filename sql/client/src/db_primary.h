/*
 * Which server takes writes: asked of one when it is opened and again while it is used, and of a
 * whole list at once. Used by db_open.c and db.c. docs/adr/0034-database-failover.md has the design.
 */
#ifndef SQL_DB_PRIMARY_H
#define SQL_DB_PRIMARY_H

#include "db_private.h"
#include "sql/db_hosts.h"

/** How old the knowledge that a server takes writes may be when a statement or a transaction begins. */
enum { DB_PRIMARY_MS = 500 };

/** Whether the text of a variable says that it is on, in any of its ways. */
bool db_value_is_on(struct obx_bytes value);
/**
 * Ask, unless that was done less than DB_PRIMARY_MS ago or a transaction is open. One that has become
 * read-only is latched as lost: nothing more is sent to it.
 * @return OBX_OK; OBX_E_DB_READ_ONLY; any OBX_E_DB_*, OBX_E_TIMEOUT
 */
OBX_NODISCARD enum obx_code db_primary_recheck(struct db *db, struct obx_err *err);
/** Open the one of them that takes writes. As db_open. */
OBX_NODISCARD enum obx_code db_primary_find(const struct db_opts *opts,
                                            const struct db_hosts *hosts, struct db **out,
                                            struct obx_err *err);
/** db_open.c: open exactly this server, opts->host and opts->port. */
OBX_NODISCARD enum obx_code db_open_one(const struct db_opts *opts, struct db **out,
                                        struct obx_err *err);

#endif
