/*
 * Which database is worked on, and for whom: the sources of a configuration, the one of --db, or a
 * consumer's database. Opened by outboxctl/target.c and by the console's workers.
 */
#ifndef OPS_SESSION_H
#define OPS_SESSION_H

#include "config/relay_config.h"
#include "ops/options.h"

struct db_url;
struct target {
    const char *source; /* name of the source; that of the database with --db */
    struct db_opts db;
    const char *const *outboxes;
    size_t outbox_count; /* 0 with --db: whatever the database has */
};

struct targets {
    struct relay_config *config; /* NULL with --db */
    struct db_url *url;          /* of --db; owned by who has opened them, as is password */
    char *password;              /* from --password-file */
    struct target *items;
    size_t count;
};

/**
 * Make the owner of an outbox look at once: by the configured doorbell_socket, else by the address
 * that it has named. A ring that does not arrive costs some time only.
 */
void target_ring(const struct targets *targets, const struct target *target, const char *outbox,
                 const char *owner_address);

enum { WHO_MAX = 128 /* bytes of the name that is recorded of an operator */ };

struct resource;
/** What works on one database. */
struct session {
    const struct ctl_args *args;
    const struct resource *resource; /* NULL: it is not about rows of one */
    struct targets targets;
    const struct target *target; /* one of targets */
    struct db *db;
};

#endif
