/* Which databases a command is about: the sources of a configuration, or the one of --db. */
#ifndef CTL_TARGET_H
#define CTL_TARGET_H

#include "config/relay_config.h"
#include "ctl_args.h"
#include "db_url.h"

struct target {
    const char *source; /* name of the source; that of the database with --db */
    struct db_opts db;
    const char *const *outboxes;
    size_t outbox_count; /* 0 with --db: whatever the database has */
};

struct targets {
    struct relay_config *config; /* NULL with --db */
    struct db_url url;
    char *password; /* from --password-file; owned */
    struct target *items;
    size_t count;
};

/** Resolve --config, --db, --source, --user, --password-file. What is wrong goes to stderr; nothing
 * is kept then. */
enum ctl_exit targets_open(const struct ctl_args *args, struct targets *out);
void targets_close(struct targets *targets);
/** The only target there is; NULL, with a word on stderr, when --source would have to choose. */
const struct target *targets_single(const struct targets *targets);
/** Connect to a target; NULL after the reason went to stderr. */
struct db *target_connect(const struct target *target);
/** Say on stderr what failed at a target. */
void target_complain(const struct target *target, const struct obx_err *err);
/**
 * Make the owner of an outbox look at once: by the configured doorbell_socket, else by the address
 * that it told. A ring that does not arrive costs some time only.
 */
void target_ring(const struct targets *targets, const struct target *target, const char *outbox,
                 const char *owner_address);

#endif
