/*
 * What every session is set to, whatever the server's defaults are; see db_session.c for the list.
 * Used by db_open.c.
 */
#ifndef SQL_DB_SESSION_H
#define SQL_DB_SESSION_H

#include "db_private.h"

/** Set the session up and read the server's limits. Codes as db_exec. */
OBX_NODISCARD enum obx_code db_session_set(struct db *db, const struct db_opts *opts,
                                           struct obx_err *err);

#endif
