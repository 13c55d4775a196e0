/* The files of sql/schema as embed_sql.cmake builds them in: each side's steps in order of version.
 */
#ifndef SQL_SCHEMA_FILES_H
#define SQL_SCHEMA_FILES_H

#include "sql/schema.h"

struct schema_side_files {
    const char *side;
    const struct schema_step *steps;
    size_t count;
};

/* By enum schema_side. */
extern const struct schema_side_files schema_files[];

#endif
