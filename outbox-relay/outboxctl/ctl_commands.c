/*
 * The list of all commands, and what --help says of them. Called by ctl_args.c and main.c.
 */
#include <string.h>

#include "ctl_args.h"

/* Each ends with one without a name. */
extern const struct ctl_command migrate_commands[], check_commands[], status_commands[],
    parked_commands[], barrier_commands[], half_commands[], dead_commands[], inbox_commands[],
    notify_commands[], reconcile_commands[], trace_commands[];
static const struct ctl_command *const groups[] = {
    migrate_commands, check_commands,     status_commands, parked_commands,
    half_commands,    barrier_commands,   dead_commands,   inbox_commands,
    notify_commands,  reconcile_commands, trace_commands};
enum { GROUP_COUNT = sizeof(groups) / sizeof(groups[0]) };

static const char general_help[] =
    "usage: outboxctl [--config FILE | --db URL] COMMAND [OPTION...]\n"
    "\n"
    "Operates the outbox: makes its tables, shows how it is, and decides what becomes of parked\n"
    "messages.\n"
    "\n";

static const char target_help[] =
    "\n"
    "which database:\n"
    "  --config FILE         the relay's configuration; without it OBX_CONFIG names the file, and\n"
    "                        without that the environment variables alone are the configuration\n"
    "  --source NAME         only this [source NAME]; needed where one is meant and several are\n"
    "                        there\n"
    "  --db URL              in place of a configuration: mysql://user@host:port/database, then\n"
    "                        ?socket=PATH, tls=MODE, tls_ca_file=PATH where needed\n"
    "  --user NAME           log in as NAME, for instance to migrate\n"
    "  --password-file FILE  the password is the first line of FILE\n"
    "\n"
    "  --json                print JSON, for scripts\n"
    "\n";
static const char exits_help[] = "0 done, 2 wrong command line or configuration, 1 anything else";

static const struct {
    const char *name, *value, *help;
} option_help[] = {
#define OPTION_HELP(id, name, value, help) {name, value, help},
    CTL_OPTIONS(OPTION_HELP)};

const struct ctl_command *ctl_command_next(const struct ctl_command *command)
{
    static const size_t first = 0;

    if (command == NULL)
        return groups[first];
    if (command[1].name != NULL)
        return &command[1];
    for (size_t i = 0; i + 1 < GROUP_COUNT; i++) {
        const struct ctl_command *last = groups[i];

        while (last[1].name != NULL)
            last++;
        if (last == command)
            return groups[i + 1];
    }
    return NULL;
}

/* "--name" at the beginning of a line of a help text. */
static bool explains(const char *text, const char *name)
{
    char line[64];

    snprintf(line, sizeof(line), "\n  --%s ", name);
    return strstr(text, line) != NULL;
}

/* The options from first to last that the command takes and does not explain itself. */
static void print_options(FILE *file, const struct ctl_command *command, unsigned first,
                          unsigned last, const char *title)
{
    enum { COLUMN = 22 };

    for (unsigned i = first; i <= last; i++) {
        char text[64];

        if ((command->options >> i & 1U) == 0 || option_help[i].help == NULL ||
            explains(command->help, option_help[i].name))
            continue;
        snprintf(text, sizeof(text), "--%s %s", option_help[i].name,
                 option_help[i].value == NULL ? "" : option_help[i].value);
        fprintf(file, "%s  %-*s%s\n", title, COLUMN, text, option_help[i].help);
        title = "";
    }
}

void ctl_help(FILE *file, const struct ctl_command *command)
{
    const char *exits = command == NULL || command->exits == NULL ? exits_help : command->exits;

    if (command == NULL) {
        fputs(general_help, file);
        for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;
             at = ctl_command_next(at))
            fprintf(file, "  %-17s %s\n", at->name, at->summary);
        fputs("\noutboxctl COMMAND --help says more of one; --version prints the version\n", file);
    } else {
        fprintf(file, "usage: outboxctl %s%s%s%s%s\n\n%s", command->name,
                command->words == NULL ? "" : " ", command->words == NULL ? "" : command->words,
                command->synopsis == NULL ? "" : " ",
                command->synopsis == NULL ? "" : command->synopsis, command->help);
        print_options(file, command, CTL_ALL, CTL_OPTION_COUNT - 1,
                      strstr(command->help, "\n\n  ") != NULL ? "" : "\n");
        print_options(file, command, CTL_OUTBOX, CTL_STATE, "\nwhich ones:\n");
    }
    fputs(target_help, file);
    fprintf(file, "exit status: %s\n", exits);
}
