/* inbox-relay --check: looks at everything the process needs, changes nothing, calls nobody. */
#ifndef NOTIFY_CHECK_H
#define NOTIFY_CHECK_H

#include <stdio.h>

#include "notify_config.h"

/** One line for each thing: ok, or FAILED with what to do. Returns whether none failed. */
bool notify_check(const struct notify_config *config, FILE *out);

#endif
