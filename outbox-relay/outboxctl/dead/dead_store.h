/* Reading and marking the rows of inbox_parked in a consumer's database. For the dead commands. */
#ifndef CTL_DEAD_STORE_H
#define CTL_DEAD_STORE_H

#include "base/bytes.h"
#include "sql/db.h"

/** Which rows; NULL members do not count. */
struct dead_filter {
    const char *group, *reason_code, *key;
    const char *state; /* "dead", "waiting" or "blocked" */
    const char *topic; /* a '*' at the end stands for the rest */
    const char *ids;   /* "1,2,3", built by the caller from numbers */
    uint64_t after;    /* id above this */
    uint32_t limit;
};

enum dead_column {
    DEAD_ID,
    DEAD_GROUP,
    DEAD_STATE,
    DEAD_MESSAGE_ID,
    DEAD_TOPIC,
    DEAD_KEY,
    DEAD_ATTEMPTS,
    DEAD_REASON_CODE,
    DEAD_REASON,
    DEAD_PARKED_AT,
    DEAD_FIRST_FAILED_AT,
    DEAD_LAST_FAILED_AT,
    DEAD_NEXT_AT,
    DEAD_REPLAY_UNTIL,
    DEAD_IS_OLD, /* 1: replay_until is over */
    DEAD_IS_TOLD,
    DEAD_REQUEST,
    DEAD_REQUESTED_AT,
    DEAD_REQUESTED_BY,
    DEAD_NOTE,
    DEAD_REPLAYS,
    DEAD_IS_EDITED,
    DEAD_SIZE,
    DEAD_COLUMN_COUNT,
    DEAD_QUEUE = DEAD_COLUMN_COUNT, /* these of dead_get only */
    DEAD_EXCHANGE,
    DEAD_ROUTING_KEY,
    DEAD_PROPERTIES,
    DEAD_BODY
};

/** Rows by id, without bodies. */
OBX_NODISCARD enum obx_code dead_find(struct db *db, const struct dead_filter *filter,
                                      struct db_rows **out, struct obx_err *err);
/** One row with everything, positioned on it. OBX_E_NOT_FOUND. */
OBX_NODISCARD enum obx_code dead_get(struct db *db, uint64_t id, struct db_rows **out,
                                     struct obx_err *err);
/** How many rows fit, counted up to cap. */
OBX_NODISCARD enum obx_code dead_count(struct db *db, const struct dead_filter *filter,
                                       uint64_t cap, uint64_t *out, struct obx_err *err);

struct dead_request {
    const char *action; /* "replay", "force-replay", "discard" */
    const char *by;
    const char *note;             /* may be NULL */
    const struct obx_bytes *body; /* takes the place of the one that came; NULL: stays */
};
/**
 * Write the request on those of the rows that are dead and have none; a plain replay, only on those
 * that may be replayed. One statement: of two programs that ask for the same row at the same time
 * one gets it. *marked of them.
 */
OBX_NODISCARD enum obx_code dead_mark(struct db *db, const char *ids,
                                      const struct dead_request *request, uint64_t *marked,
                                      struct obx_err *err);
/** How many rows between two ids have a request that nobody has carried out. */
OBX_NODISCARD enum obx_code dead_count_requested(struct db *db, uint64_t first, uint64_t last,
                                                 uint64_t *out, struct obx_err *err);

#endif
