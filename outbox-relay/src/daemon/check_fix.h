/*
 * What to do about a failure that a check has found: one sentence for whoever reads the FAILED
 * line, with the names of this configuration in it, so that it can be acted on as it stands.
 */
#ifndef DAEMON_CHECK_FIX_H
#define DAEMON_CHECK_FIX_H

#include <stddef.h>

#include "relay_config.h"

enum { CHECK_FIX_MAX = 512 };

/** For a source whose database could not be reached or used. */
void check_fix_source(const struct source_config *source, const struct obx_err *err,
                      char fix[CHECK_FIX_MAX]);
/** For the broker, or an exchange or queue of it; section is "[exchange x]" or NULL. */
void check_fix_broker(const struct relay_config *config, const char *section,
                      const struct obx_err *err, char fix[CHECK_FIX_MAX]);

#endif
