/* The rows of a configuration table that fill the two settings of a log: the same for both daemons.
 */
#ifndef BASE_LOG_KEYS_H
#define BASE_LOG_KEYS_H

#include "base/config.h"
#include "base/log.h"

static const char *const log_level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_format_choices[] = {"text", "json", NULL};

/** Fill T.log_level and T.log_format. */
#define LOG_KEYS(T)                                                                                \
    CFG_CHOICE(T, log_level, "log_level", "info", log_level_choices, 0,                            \
               "Least level that is logged."),                                                     \
        CFG_CHOICE(T, log_format, "log_format", "text", log_format_choices, CFG_PROCESS,           \
                   "One line for each event, as key=value text or as JSON, on standard error.")

#endif
