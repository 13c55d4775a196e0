/* The command line of outbox-relay. */
#ifndef DAEMON_RELAY_ARGS_H
#define DAEMON_RELAY_ARGS_H

#include <stdbool.h>
#include <stdio.h>

enum relay_command {
    RELAY_RUN,
    RELAY_CHECK,
    RELAY_DUMP,
    RELAY_HELP_CONFIG,
    RELAY_EXAMPLE,
    RELAY_HEALTH,
    RELAY_VERSION,
    RELAY_HELP
};

struct relay_args {
    enum relay_command command;
    const char *config_path; /* --config, else OBX_CONFIG; NULL: the environment alone */
};

/** False when the command line is wrong; why was said on stderr. */
bool relay_args_parse(int argc, char **argv, struct relay_args *out);
void relay_args_help(FILE *out);

#endif
