/*
 * Options and help text of outbox-relay. Called by main.c.
 */
#include "relay_args.h"

#include <getopt.h>
#include <stdlib.h>

static const char help[] =
    "usage: outbox-relay --config FILE [COMMAND]\n"
    "\n"
    "Carries committed rows of outbox tables to RabbitMQ and removes them when the broker has "
    "them.\n"
    "\n"
    "  --config FILE   configuration; without it OBX_CONFIG names the file, and without that the\n"
    "                  environment variables alone are the configuration\n"
    "\n"
    "Without a command it runs until SIGTERM or SIGINT. SIGHUP loads the configuration again.\n"
    "\n"
    "  --check         check configuration, databases, schema, grants, broker and topology,\n"
    "                  change nothing, and say line by line what is wrong and how to fix it\n"
    "  --dump          print the configuration in force and where each value comes from\n"
    "  --help-config   print every key with its meaning, its default and its variable\n"
    "  --example       print a configuration file to begin with: every key with its default\n"
    "  --health        ask the relay that runs with this configuration whether it is alive\n"
    "  --version       print the version\n"
    "  --help          print this\n"
    "\n"
    "exit status: 0 all went well, 2 the configuration or the command line is wrong, 1 anything "
    "else\n";

enum { OPT_CONFIG = 'c', OPT_HELP = 'h', OPT_FIRST_COMMAND = 256 };

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"help", no_argument, NULL, OPT_HELP},
    {"check", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_CHECK},
    {"dump", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_DUMP},
    {"help-config", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_HELP_CONFIG},
    {"example", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_EXAMPLE},
    {"health", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_HEALTH},
    {"version", no_argument, NULL, OPT_FIRST_COMMAND + RELAY_VERSION},
    {NULL, 0, NULL, 0},
};

static bool set_command(struct relay_args *args, enum relay_command command)
{
    if (args->command != RELAY_RUN && args->command != command) {
        fprintf(stderr, "outbox-relay: one command at a time; see --help\n");
        return false;
    }
    args->command = command;
    return true;
}

bool relay_args_parse(int argc, char **argv, struct relay_args *out)
{
    int option;

    *out = (struct relay_args){.command = RELAY_RUN, .config_path = getenv("OBX_CONFIG")};
    opterr = 0; /* what is wrong is said here, with the way to the help */
    while ((option = getopt_long(argc, argv, ":c:h", options, NULL)) != -1) {
        bool is_right = option != '?' && option != ':';

        if (option == OPT_CONFIG)
            out->config_path = optarg;
        else if (option == OPT_HELP)
            is_right = set_command(out, RELAY_HELP);
        else if (!is_right)
            fprintf(stderr, "outbox-relay: %s %s; see --help\n", argv[optind - 1],
                    option == ':' ? "needs a value" : "is no option");
        else
            is_right = set_command(out, (enum relay_command)(option - OPT_FIRST_COMMAND));
        if (!is_right)
            return false;
    }
    if (optind < argc) {
        fprintf(stderr, "outbox-relay: '%s' is not understood; see --help\n", argv[optind]);
        return false;
    }
    return true;
}

void relay_args_help(FILE *out)
{
    fputs(help, out);
}
