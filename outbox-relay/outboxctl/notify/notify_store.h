/* Reading notifications, sending them again, pausing endpoints. For the notify commands. */
#ifndef CTL_NOTIFY_STORE_H
#define CTL_NOTIFY_STORE_H

#include "base/bytes.h"
#include "sql/db.h"

/** Which rows; NULL members do not count. */
struct notify_filter {
    const char *group, *endpoint, *state, *message_id;
    const char *topic;  /* a '*' at the end stands for the rest */
    const char *ids;    /* "[1,2,3]", built by the caller from numbers */
    bool finished_only; /* given_up only, when no state is named */
    uint64_t after;     /* id above this */
    uint32_t limit;
};

enum notify_column {
    NOTIFY_ID,
    NOTIFY_GROUP,
    NOTIFY_ENDPOINT,
    NOTIFY_STATE,
    NOTIFY_DUE_AT,
    NOTIFY_MESSAGE_ID,
    NOTIFY_TOPIC,
    NOTIFY_ATTEMPTS,
    NOTIFY_RECORDED_AT,
    NOTIFY_LAST_AT,
    NOTIFY_LAST_STATUS,
    NOTIFY_LAST_ERROR,
    NOTIFY_PAUSED, /* 1: its endpoint is paused */
    NOTIFY_COLUMN_COUNT,
    NOTIFY_KEY = NOTIFY_COLUMN_COUNT, /* these of notify_get only */
    NOTIFY_CONTENT_TYPE,
    NOTIFY_CREATED_AT,
    NOTIFY_PAUSE_REASON,
    NOTIFY_BODY
};

/** Rows by id, without bodies. */
OBX_NODISCARD enum obx_code notify_find(struct db *db, const struct notify_filter *filter,
                                        struct db_rows **out, struct obx_err *err);
/** One row with everything, positioned on it. OBX_E_NOT_FOUND. */
OBX_NODISCARD enum obx_code notify_get(struct db *db, uint64_t id, struct db_rows **out,
                                       struct obx_err *err);
/** How many rows fit, counted up to cap. */
OBX_NODISCARD enum obx_code notify_count(struct db *db, const struct notify_filter *filter,
                                         uint64_t cap, uint64_t *out, struct obx_err *err);
/**
 * Make rows due now, with a whole schedule before them: those that fit, behind *after,
 * filter->limit at most. *after becomes the last id looked at, 0 when there are no more.
 */
OBX_NODISCARD enum obx_code notify_resend(struct db *db, const struct notify_filter *filter,
                                          uint64_t *after, uint64_t *sent, struct obx_err *err);

struct notify_pause {
    const char *group, *endpoint;
    bool is_paused;
    const char *reason, *by;
};
OBX_NODISCARD enum obx_code notify_set_pause(struct db *db, const struct notify_pause *pause,
                                             struct obx_err *err);
/** Whether there is a notification of the endpoint, or a pause: to tell a name from a mistake. */
OBX_NODISCARD enum obx_code notify_endpoint_known(struct db *db, const char *group,
                                                  const char *endpoint, bool *is_known,
                                                  struct obx_err *err);

#endif
