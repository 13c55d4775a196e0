/* Cutting a file of SQL into statements, the way the mysql command line does, but for its
 * DELIMITER. */
#ifndef SQL_SQL_SPLIT_H
#define SQL_SQL_SPLIT_H

#include "obx/bytes.h"

enum sql_split_result {
    SQL_SPLIT_STATEMENT, /* *statement is the next one, without its semicolon and without comments
                            in front of it */
    SQL_SPLIT_END,       /* there is none */
    SQL_SPLIT_BROKEN     /* a quote or a comment is not closed */
};

/**
 * Take the next statement off *rest. Semicolons in quotes ('', "", ``) and in comments (--, #, C
 * style) do not count. Pieces without a statement are passed over.
 */
enum sql_split_result sql_split(struct obx_bytes *rest, struct obx_bytes *statement);

#endif
