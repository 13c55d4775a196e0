/*
 * Options of outboxctl. Each command says which ones it takes; any other one is refused, so that a
 * filter that does nothing is not mistaken for one that did. Called by main.c.
 */
#include "ctl_args.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_FIRST = 256, /* above every character, which getopt gives for what it does not know */
    OPT_VERSION = OPT_FIRST + CTL_OPTION_COUNT,
    DEFAULT_LIMIT = 50,
    LIMIT_MAX = 10000,
    DEFAULT_WAIT_S = 10,
    WAIT_MAX_S = 86400,
};

static const struct option options[] = {
#define LONG_OPTION(id, name, value, help)                                                         \
    {name, (value) == NULL ? no_argument : required_argument, NULL, OPT_FIRST + CTL_##id},
    CTL_OPTIONS(LONG_OPTION){"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

enum ctl_exit ctl_usage(const struct ctl_args *args, const char *fmt, ...)
{
    const struct ctl_command *command = args->command;
    va_list values;

    fputs("outboxctl: ", stderr);
    va_start(values, fmt);
    vfprintf(stderr, fmt, values);
    va_end(values);
    fprintf(stderr, "; see outboxctl %s%s--help\n", command == NULL ? "" : command->name,
            command == NULL ? "" : " ");
    return CTL_USAGE;
}

static bool take_number(struct ctl_args *args, enum ctl_option option, uint64_t min, uint64_t max,
                        uint32_t *out)
{
    const char *text = args->text[option];
    uint64_t number = 0;

    if (text == NULL)
        return true;
    if (!ctl_parse_number(text, max, &number) || number < min) {
        ctl_usage(args, "--%s %s: expected a number from %llu to %llu, without a unit",
                  options[option].name, text, (unsigned long long)min, (unsigned long long)max);
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

/* How many words of the line are this command's name; 0 when it is another one. */
static int words_of(const struct ctl_command *command, int count, char *const *words)
{
    const char *space = strchr(command->name, ' ');
    size_t first = space == NULL ? strlen(command->name) : (size_t)(space - command->name);

    if (strlen(words[0]) != first || strncmp(words[0], command->name, first) != 0)
        return 0;
    if (space == NULL)
        return 1;
    return count >= 2 && strcmp(words[1], space + 1) == 0 ? 2 : 0;
}

/* "parked" alone, or with a word that is none of its own: says which there are. */
static bool complain_about(const struct ctl_args *args, const char *word)
{
    size_t len = strlen(word);
    bool is_group = false;

    for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;
         at = ctl_command_next(at)) {
        if (strncmp(at->name, word, len) != 0 || at->name[len] != ' ')
            continue;
        if (!is_group && args->wants_help)
            return true;
        fprintf(stderr, is_group ? ", %s" : "outboxctl: %s", is_group ? at->name + len + 1 : word);
        if (!is_group)
            fprintf(stderr, " what? %s", at->name + len + 1);
        is_group = true;
    }
    if (is_group)
        fputs("; see outboxctl --help\n", stderr);
    else
        ctl_usage(args, "there is no command %s", word);
    return false;
}

static bool find_command(struct ctl_args *args, int count, char *const *words)
{
    for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;
         at = ctl_command_next(at)) {
        int used = words_of(at, count, words);

        if (used == 0)
            continue;
        args->command = at;
        args->words = words + used;
        args->word_count = (size_t)(count - used);
        return true;
    }
    return complain_about(args, words[0]);
}

/* After the command is known: an option before it may be one of its own. */
static bool check_fit(const struct ctl_args *args)
{
    for (unsigned i = 0; i < CTL_OPTION_COUNT; i++) {
        if (args->text[i] != NULL && ((args->command->options | CTL_BIT(HELP)) >> i & 1U) == 0) {
            ctl_usage(args, "%s takes no --%s", args->command->name, options[i].name);
            return false;
        }
    }
    if (args->word_count > 0 && args->command->words == NULL)
        ctl_usage(args, "not understood: %s", args->words[0]);
    else if (args->text[CTL_DB] != NULL && args->text[CTL_CONFIG] != NULL)
        ctl_usage(args, "either --config or --db");
    else
        return true;
    return false;
}

bool ctl_args_parse(int argc, char **argv, struct ctl_args *out)
{
    int option;

    memset(out, 0, sizeof(*out));
    out->limit = DEFAULT_LIMIT;
    out->wait_s = DEFAULT_WAIT_S;
    opterr = 0; /* what is wrong is said here, with the way to the help */
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            ctl_usage(out, "%s %s",
                      option == ':' ? "a value is missing after" : "there is no option",
                      argv[optind - 1]);
            return false;
        }
        if (option == OPT_VERSION)
            out->wants_version = true;
        else
            out->text[option - OPT_FIRST] = optarg == NULL ? "" : optarg;
    }
    out->config = out->text[CTL_CONFIG] != NULL ? out->text[CTL_CONFIG] : getenv("OBX_CONFIG");
    out->json = out->text[CTL_JSON] != NULL;
    out->wants_help = out->text[CTL_HELP] != NULL;
    if (out->wants_version || (optind == argc && out->wants_help))
        return true;
    if (optind == argc) {
        ctl_usage(out, "which command?");
        return false;
    }
    if (!find_command(out, argc - optind, argv + optind))
        return false;
    return out->wants_help ||
           (take_number(out, CTL_LIMIT, 1, LIMIT_MAX, &out->limit) &&
            take_number(out, CTL_WAIT, 0, WAIT_MAX_S, &out->wait_s) && check_fit(out));
}
