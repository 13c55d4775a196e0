/*
 * The tables with rows that have a reason, and what can be done with such rows: one file each.
 * Invariant: everything an operator can do is here, whichever way he comes; outboxctl and the console
 * add only how it is asked and shown.
 */
#ifndef OPS_RESOURCES_H
#define OPS_RESOURCES_H

#include "request.h"

/* parked.c: in a source */
extern const struct resource parked_rows, parked_audit;
extern const struct action parked_resume, parked_discard;
/* dead.c: in a consumer's database */
extern const struct resource dead_rows, dead_audit;
extern const struct action dead_replay, dead_force_replay, dead_edit_replay, dead_edit_force_replay,
    dead_discard;
/* inbox.c, notify.c: the same */
extern const struct resource inbox_rows, notify_rows;
extern const struct action inbox_replay, inbox_discard, notify_resend, notify_resend_message;
/* half.c: in the source of [half] */
extern const struct resource half_rows;
extern const struct action half_commit, half_rollback, half_resume;

#endif
