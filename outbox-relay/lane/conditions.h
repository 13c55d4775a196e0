/*
 * What keeps a lane from working at full, in words: one text for each of its parts, so that none
 * overwrites another's. The first that is set is the one that is shown. A text that is new is
 * logged, the same one again is not.
 */
#ifndef LANE_CONDITIONS_H
#define LANE_CONDITIONS_H

#include "obx/err.h"

/** In the order of what an operator has to look at first. */
enum lane_condition {
    CONDITION_DB,
    CONDITION_LEASE,
    CONDITION_SETTLE,
    CONDITION_PARK,
    CONDITION_ROW,
    CONDITION_ROUTE, /* a topic that no queue takes; goes with its next confirm, or with time */
    CONDITION_REQUESTS,
    CONDITION_OVERDUE,
    CONDITION_DELAYED,
    CONDITION_JOURNAL,
    CONDITION_COUNT,
    CONDITION_STRAY,
    CONDITIONS
};

struct lane_conditions {
    const char *source, *outbox; /* borrowed: for the log */
    char text[CONDITIONS][OBX_ERR_TEXT_MAX];
};

/** NULL: it is well. */
void conditions_set(struct lane_conditions *conditions, enum lane_condition kind, const char *text);
/** Everything is dropped and begun again: what was said of it is no longer so. The database's own
 * stays. */
void conditions_reset(struct lane_conditions *conditions);
/** The first text that is set; NULL: none is. */
const char *conditions_first(const struct lane_conditions *conditions);

#endif
