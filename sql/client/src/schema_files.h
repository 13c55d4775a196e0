/* The files of sql/schema as embed_sql.cmake builds them in: each side's steps in order of version.
 */
#ifndef SQL_SCHEMA_FILES_H
#define SQL_SCHEMA_FILES_H

#include "sql/schema.h"

extern const struct schema_step schema_producer_steps[];
extern const size_t schema_producer_count;
extern const struct schema_step schema_consumer_steps[];
extern const size_t schema_consumer_count;

#endif
