/* Making an item of a row of inbox_parked. */
#ifndef CONSUMER_PARKED_ITEM_H
#define CONSUMER_PARKED_ITEM_H

#include "core/item.h"
#include "sql/db.h"

/** What parked_item_create reads, in this order. */
#define PARKED_ITEM_COLUMNS                                                                        \
    "id, message_id, attempts, exchange, routing_key, properties, body, reason_code, reason, "     \
    "COALESCE(DATE_FORMAT(first_failed_at, '%Y-%m-%dT%H:%i:%s.%fZ'), ''), "                        \
    "COALESCE(DATE_FORMAT(last_failed_at, '%Y-%m-%dT%H:%i:%s.%fZ'), '')"
enum { PARKED_ITEM_COLUMN_COUNT = 11 };

/** Make an item of the current row, whose body is in whole_body unless that is NULL. OBX_E_NOMEM:
 * nothing was made. */
OBX_NODISCARD enum obx_code parked_item_create(const struct db_rows *rows,
                                               const struct obx_buf *whole_body,
                                               struct counters *counters, struct item **out);

#endif
