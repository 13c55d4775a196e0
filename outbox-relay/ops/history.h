/* What the histories of operators' actions have in common, whatever table they are in. */
#ifndef OPS_HISTORY_H
#define OPS_HISTORY_H

#include "resource.h"

#define HISTORY_NONE     "nothing was ended or changed by hand within the last year"
#define HISTORY_OPTIONS  (CTL_TARGET | CTL_BIT(MESSAGE) | CTL_BIT(LIMIT) | CTL_BIT(AFTER))
#define HISTORY_SYNOPSIS "[--message ID] [--limit N] [--after ID]"

/** Columns of both audit tables. */
#define HISTORY_COLUMNS                                                                            \
    {"t.audit_id", "id", ">ID", NULL, COLUMN_NUMBER, false},                                       \
        {"t.done_at", "done_at", "WHEN", NULL, COLUMN_TIME, false},                                \
        {"t.actor", "requested_by", "WHO", NULL, COLUMN_TEXT, false},                              \
        {"t.action", "action", "WHAT", NULL, COLUMN_TEXT, false},                                  \
        {"t.message_id", "message_id", "MESSAGE", NULL, COLUMN_TEXT, false},                       \
        {"t.topic", "topic", "TOPIC", NULL, COLUMN_TEXT, false},                                   \
        {"t.ordering_key", "ordering_key", "KEY", NULL, COLUMN_TEXT, false},                       \
        {"t.reason_code", "reason_code", "REASON", NULL, COLUMN_TEXT, false},                      \
    {                                                                                              \
        "t.note", "note", "NOTE", NULL, COLUMN_TEXT, false                                         \
    }

/** Filters and the path of --message, which any table with an index of message ids may have. */
extern const struct filter history_filters[1];
extern const struct path history_paths[1];

#endif
