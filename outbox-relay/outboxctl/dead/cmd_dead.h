/* What the dead commands share. */
#ifndef CTL_CMD_DEAD_H
#define CTL_CMD_DEAD_H

#include "dead_store.h"
#include "outboxctl/ctl_args.h"
#include "outboxctl/target.h"

typedef enum ctl_exit dead_run_fn(const struct ctl_args *args, const struct target *target,
                                  struct db *db);
/** Connect to the one database that is meant, see that it has the tables, and run. */
enum ctl_exit dead_run(const struct ctl_args *args, dead_run_fn *run);
bool dead_parse_id(const char *text, uint64_t *id);
/** What the options say; the state is for the caller to set. */
struct dead_filter dead_filter_of(const struct ctl_args *args);

#endif
