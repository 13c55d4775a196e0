/*
 * Whether the database lets the lane settle and park what it publishes. Without the right to do so
 * a new owner publishes nothing: it would publish it again and again.
 */
#ifndef LANE_RIGHTS_H
#define LANE_RIGHTS_H

#include "lane/settle/settle.h"
#include "sql/db.h"

/** Run what settles and parks, over no row. OBX_E_DB_DENIED, any other OBX_E_DB_*. */
OBX_NODISCARD enum obx_code rights_check(const struct settle *settle, struct db *db,
                                         struct obx_err *err);
/** Have the server read the rights on the database again: it does so only at USE. */
OBX_NODISCARD enum obx_code rights_renew(struct db *db, const char *database, struct obx_err *err);

#endif
