/* The command line of outboxctl: which command, with which options. Texts are borrowed from argv. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "obx/export.h"
#include "ops/options.h"

/** Exit statuses. What a command uses beside them, its `exits` say. */
enum ctl_exit { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl_command {
    const char *name;     /* "parked list" */
    uint64_t options;     /* CTL_BIT of each */
    const char *words;    /* what follows the name: "ID..."; NULL: nothing */
    const char *summary;  /* one line for the list of commands */
    const char *synopsis; /* the options, for its own help */
    const char *help;     /* what it does; an option that it explains is not explained again */
    const char *exits;    /* NULL: as the general help says */
    enum ctl_exit (*run)(const struct ctl_args *args);
    const void *subject; /* for run: which resource, which action */
};

/** The commands, one after the other; NULL gives the first, NULL comes after the last. */
const struct ctl_command *ctl_command_next(const struct ctl_command *command);
/** False when the command line is wrong; why was said on stderr. */
bool ctl_args_parse(int argc, char **argv, struct ctl_args *out);
/** The general help, or that of one command. */
void ctl_help(FILE *file, const struct ctl_command *command);
/** Say what is wrong with the command line, and where to look: CTL_USAGE. */
enum ctl_exit ctl_usage(const struct ctl_args *args, const char *fmt, ...) OBX_PRINTF(2, 3);

#endif
