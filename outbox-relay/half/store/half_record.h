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
/** The last gid of the next rows_max ones after `after`, "" when there are fewer: how far a step
 * along the primary key goes. */
OBX_NODISCARD enum obx_code half_page_end(struct db *db, const char *after, uint32_t rows_max,
                                          char last[HALF_GID_MAX + 1], struct obx_err *err);
/** False when text names no state. */
bool half_state_parse(struct obx_bytes text, enum half_state *state);

#endif
