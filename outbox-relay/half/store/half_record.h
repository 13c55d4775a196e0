/* Reading rows of half_message; for the files of this folder that select them, and outboxctl. */
#ifndef RELAY_HALF_RECORD_H
#define RELAY_HALF_RECORD_H

#include "half/half.h"

/** The columns of a half_record, in the order that half_record_read expects. */
#define HALF_RECORD_COLUMNS                                                                        \
    "gid, state, digest, producer, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', prepared_at), "        \
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', decided_at), "                                       \
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', next_check_at), decided_by, note, checks_asked, "    \
    "checks_answered"

enum half_column { HALF_COLUMN_GID, HALF_COLUMN_STATE, HALF_COLUMN_DIGEST, HALF_COLUMN_PRODUCER };

/** From the current row of a query for HALF_RECORD_COLUMNS. */
void half_record_read(const struct db_rows *rows, struct half_record *rec);
/** False when text names no state. */
bool half_state_parse(struct obx_bytes text, enum half_state *state);

#endif
