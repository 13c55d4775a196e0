/* Which databases a command is about: the sources of a configuration, or the one of --db. */
#ifndef CTL_TARGET_H
#define CTL_TARGET_H

#include "ctl_args.h"
#include "ops/session.h"
#include "sql/schema.h"

/** Resolve --config, --db, --source, --user, --password-file. What is wrong goes to stderr; nothing
 * is kept then. */
enum ctl_exit targets_open(const struct ctl_args *args, struct targets *out);
void targets_close(struct targets *targets);
/** The only target there is; NULL, with a word on stderr, when --source would have to choose. */
const struct target *targets_single(const struct targets *targets);
/** The first line of a file into dst, without its end. What is wrong goes to stderr, with the
 * option's name. */
enum ctl_exit target_read_password(const char *option, const char *path, char *dst, size_t size);
/** Connect to a target; NULL after the reason went to stderr. */
struct db *target_connect(const struct target *target);
/** Say on stderr what failed at a target. */
void target_complain(const struct target *target, const struct obx_err *err);

/** Who runs this program, for what is recorded of an operator's decision: "anna@shop1" into dst,
 * which has WHO_MAX bytes. */
void who_am_i(char *dst);

/**
 * Connect to the one database that is meant and see that it has the tables of a side. What is wrong
 * goes to stderr, and nothing is kept then.
 * @param choose  which of several sources; NULL: there may be only one
 */
enum ctl_exit session_open(const struct ctl_args *args, enum schema_side side,
                           const struct target *(*choose)(const struct targets *targets),
                           struct session *out);
void session_close(struct session *session);
/** Say on stderr what failed there: CTL_FAILED. */
enum ctl_exit session_fail(const struct session *session, const struct obx_err *err);

#endif
