/* Reading and marking rows of outbox_parked. Only the request columns are written: the rest is the
 * lane owner's. */
#ifndef CTL_PARKED_STORE_H
#define CTL_PARKED_STORE_H

#include "base/bytes.h"
#include "sql/db.h"

/** Which rows; NULL members do not count. */
struct parked_filter {
    const char *outbox;
    const char *topic; /* a '*' at the end stands for the rest */
    const char *reason_code;
    const char *key;
    const char *ids; /* "1,2,3", built by the caller from numbers; NULL: any */
    uint64_t after;  /* parked_id above this */
    uint32_t limit;
};

enum parked_column {
    PARKED_ID, /* parked_id */
    PARKED_OUTBOX,
    PARKED_ROW_ID, /* id in the outbox */
    PARKED_MESSAGE_ID,
    PARKED_TOPIC,
    PARKED_KEY,
    PARKED_REASON_CODE,
    PARKED_REASON,
    PARKED_ATTEMPTS,
    PARKED_AT,
    PARKED_AGE_US,
    PARKED_PAYLOAD_LEN,
    PARKED_HOLDS_KEY,
    PARKED_BEHIND_ID, /* outbox id of the head */
    PARKED_REQUEST,
    PARKED_REQUESTED_AT,
    PARKED_REQUESTED_BY,
    PARKED_REQUEST_NOTE,
    PARKED_CREATED_AT,
    PARKED_CONTENT_TYPE,
    PARKED_FOLLOWERS, /* rows behind this one */
    PARKED_COLUMN_COUNT,
    PARKED_HEADERS = PARKED_COLUMN_COUNT, /* of parked_get only */
    PARKED_PAYLOAD
};

/** Rows by parked_id, without headers and payload. Free with db_rows_free. */
OBX_NODISCARD enum obx_code parked_find(struct db *db, const struct parked_filter *filter,
                                        struct db_rows **out, struct obx_err *err);
/** One row with everything. OBX_E_NOT_FOUND. */
OBX_NODISCARD enum obx_code parked_get(struct db *db, uint64_t parked_id, struct db_rows **out,
                                       struct obx_err *err);
/** How many rows match, counted up to cap. */
OBX_NODISCARD enum obx_code parked_count(struct db *db, const struct parked_filter *filter,
                                         uint64_t cap, uint64_t *out, struct obx_err *err);

struct parked_request {
    const char *action; /* "resume", "discard" */
    const char *by;
    const char *note; /* may be NULL */
};
/** Write the request on those of the rows ("1,2,3") that have none; *marked of them. */
OBX_NODISCARD enum obx_code parked_mark(struct db *db, const char *ids,
                                        const struct parked_request *request, uint64_t *marked,
                                        struct obx_err *err);

#endif
