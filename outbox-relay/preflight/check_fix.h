/*
 * What to do about a failure that a check has found: one sentence for the reader of the FAILED
 * line, with the names of this configuration in it, so that it can be acted on as it stands.
 */
#ifndef DAEMON_CHECK_FIX_H
#define DAEMON_CHECK_FIX_H

#include <stddef.h>

#include "config/relay_config.h"

enum { CHECK_FIX_MAX = 512 };

/** A database as the configuration has it. Texts are borrowed. */
struct check_where {
    const char *section; /* "[source shop]" */
    const struct db_opts *db;
    const char
        *migrate; /* the command that makes what is looked for: "outboxctl migrate --side half"
                   */
};
/** For a database that could not be reached or used. */
void check_fix_database(const struct check_where *where, const struct obx_err *err,
                        char fix[CHECK_FIX_MAX]);
/** For the broker, or an exchange or queue of it; section is "[exchange x]" or NULL. */
void check_fix_broker(const struct relay_config *config, const char *section,
                      const struct obx_err *err, char fix[CHECK_FIX_MAX]);

#endif
