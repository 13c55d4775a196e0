/* Loading the configuration for a program that runs in a terminal: what is wrong goes to standard
 * error. */
#ifndef DAEMON_CONFIG_OR_SAY_H
#define DAEMON_CONFIG_OR_SAY_H

#include "relay_config.h"

/**
 * The configuration of path (NULL: none) and env, with one reference; NULL after every problem was
 * printed on a line of its own, as `file:line: section.key: what is wrong`. *rc says which kind it
 * was: OBX_E_CONFIG, OBX_E_NOMEM.
 */
struct relay_config *config_or_say(const char *program, const char *path, char *const *env,
                                   enum obx_code *rc);

#endif
