/* The one map from the error numbers of MySQL and MariaDB, server and client, to enum obx_code. */
#ifndef SQL_DB_ERRORS_H
#define SQL_DB_ERRORS_H

#include <stdbool.h>
#include <stddef.h>

#include "obx/err.h"

struct db_error {
    unsigned number;
    enum obx_code code;
};

/** The table, in order of number; *count entries. Static. */
const struct db_error *db_error_table(size_t *count);
/**
 * The code for an error number. text, the server's sentence (may be NULL), decides where one number
 * has two meanings. Numbers outside the table: OBX_E_DB_GONE in the client's own ranges, else
 * OBX_E_DB_QUERY. 0 is OBX_OK.
 */
enum obx_code db_code_of(unsigned number, const char *text);
/** Whether the connection is of no more use after this number. */
bool db_error_is_fatal(unsigned number);
/** Whether it says that the server takes no writes: it is no primary, or no more. */
bool db_error_is_of_replica(unsigned number, const char *text);
/** Whether a COMMIT answered with this number certainly did not take effect. */
bool db_error_undoes_commit(unsigned number);
/** Whether the prepared statement is not known (any more) and nothing was run: prepare it again,
 * and run it. */
bool db_error_wants_prepare(unsigned number);
/** Whether it only says that the statement has no result to free. */
bool db_error_is_no_result(unsigned number);

#endif
