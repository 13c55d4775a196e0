/* What the notify commands share. */
#ifndef CTL_CMD_NOTIFY_H
#define CTL_CMD_NOTIFY_H

#include "notify_store.h"
#include "outboxctl/ctl_args.h"
#include "outboxctl/target.h"

typedef enum ctl_exit notify_run_fn(const struct ctl_args *args, const struct target *target,
                                    struct db *db);
/** Connect to the one database that is meant, see that it has the tables, and run. */
enum ctl_exit notify_run(const struct ctl_args *args, notify_run_fn *run);
/** What the options say. */
struct notify_filter notify_filter_of(const struct ctl_args *args);
/** Complains when it is none. NULL is right. */
bool notify_state_is_right(const char *state);
bool notify_parse_id(const char *text, uint64_t *id);

#endif
