/*
 * Options of outboxctl. Each command says which ones it takes; any other one is refused, so that a
 * filter that does nothing is not mistaken for one that did. Called by main.c.
 */
#include "ctl_args.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_FIRST = 256,
    OPT_VERSION = OPT_FIRST + CTL_OPTION_COUNT,
    DEFAULT_LIMIT = 50,
    LIMIT_MAX = 10000,
    DEFAULT_WAIT_S = 10,
    WAIT_MAX_S = 86400,
    DECIMAL = 10,
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_FIRST + CTL_CONFIG},
    {"db", required_argument, NULL, OPT_FIRST + CTL_DB},
    {"password-file", required_argument, NULL, OPT_FIRST + CTL_PASSWORD_FILE},
    {"user", required_argument, NULL, OPT_FIRST + CTL_USER},
    {"source", required_argument, NULL, OPT_FIRST + CTL_SOURCE},
    {"json", no_argument, NULL, OPT_FIRST + CTL_JSON},
    {"help", no_argument, NULL, OPT_FIRST + CTL_HELP},
    {"side", required_argument, NULL, OPT_FIRST + CTL_SIDE},
    {"outbox", required_argument, NULL, OPT_FIRST + CTL_OUTBOX},
    {"print", no_argument, NULL, OPT_FIRST + CTL_PRINT},
    {"topic", required_argument, NULL, OPT_FIRST + CTL_TOPIC},
    {"reason", required_argument, NULL, OPT_FIRST + CTL_REASON},
    {"key", required_argument, NULL, OPT_FIRST + CTL_KEY},
    {"limit", required_argument, NULL, OPT_FIRST + CTL_LIMIT},
    {"after", required_argument, NULL, OPT_FIRST + CTL_AFTER},
    {"payload", required_argument, NULL, OPT_FIRST + CTL_PAYLOAD},
    {"all", no_argument, NULL, OPT_FIRST + CTL_ALL},
    {"note", required_argument, NULL, OPT_FIRST + CTL_NOTE},
    {"yes", no_argument, NULL, OPT_FIRST + CTL_YES},
    {"wait", required_argument, NULL, OPT_FIRST + CTL_WAIT},
    {"state", required_argument, NULL, OPT_FIRST + CTL_STATE},
    {"producer", required_argument, NULL, OPT_FIRST + CTL_PRODUCER},
    {"keep", required_argument, NULL, OPT_FIRST + CTL_KEEP},
    {"endpoint", required_argument, NULL, OPT_FIRST + CTL_ENDPOINT},
    {"group", required_argument, NULL, OPT_FIRST + CTL_GROUP},
    {"message", required_argument, NULL, OPT_FIRST + CTL_MESSAGE},
    {"consumer-db", required_argument, NULL, OPT_FIRST + CTL_CONSUMER_DB},
    {"consumer-password-file", required_argument, NULL, OPT_FIRST + CTL_CONSUMER_PASSWORD_FILE},
    {"from", required_argument, NULL, OPT_FIRST + CTL_FROM},
    {"to", required_argument, NULL, OPT_FIRST + CTL_TO},
    {"grace", required_argument, NULL, OPT_FIRST + CTL_GRACE},
    {"all-ids", no_argument, NULL, OPT_FIRST + CTL_ALL_IDS},
    {"rate", required_argument, NULL, OPT_FIRST + CTL_RATE},
    {"force", no_argument, NULL, OPT_FIRST + CTL_FORCE},
    {"body", required_argument, NULL, OPT_FIRST + CTL_BODY},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static bool complain(const char *what, const char *word)
{
    fprintf(stderr, "outboxctl: %s%s%s; see outboxctl --help\n", what, word == NULL ? "" : " ",
            word == NULL ? "" : word);
    return false;
}

static bool parse_number(const char *option, const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoull(text, &end, DECIMAL);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || *out > max) {
        fprintf(stderr, "outboxctl: --%s %s: expected a number from 0 to %llu, without a unit\n",
                option, text, (unsigned long long)max);
        return false;
    }
    return true;
}

static bool take_number(struct ctl_args *args, enum ctl_option option, const char *text)
{
    uint64_t number = 0;

    if (option == CTL_LIMIT) {
        if (!parse_number("limit", text, LIMIT_MAX, &number))
            return false;
        args->limit = (uint32_t)number;
        return number > 0 || complain("--limit 0 shows nothing", NULL);
    }
    if (!parse_number("wait", text, WAIT_MAX_S, &number))
        return false;
    args->wait_s = (uint32_t)number;
    return true;
}

static bool take_option(struct ctl_args *args, enum ctl_option option)
{
    args->text[option] = optarg;
    if (option == CTL_HELP)
        args->wants_help = true;
    else if (option == CTL_JSON)
        args->json = true;
    else if (option == CTL_PRINT)
        args->print = true;
    else if (option == CTL_ALL)
        args->all = true;
    else if (option == CTL_ALL_IDS)
        args->all_ids = true;
    else if (option == CTL_YES)
        args->yes = true;
    else if (option == CTL_FORCE)
        args->force = true;
    else if (option == CTL_CONFIG)
        args->config = optarg;
    else if (option == CTL_LIMIT || option == CTL_WAIT)
        return take_number(args, option, optarg);
    return true;
}

/* How many words of the line are this command's name; 0 when it is another one. */
static int words_of(const struct ctl_command *command, int count, char *const *words)
{
    const char *space = strchr(command->name, ' ');
    size_t first = space == NULL ? strlen(command->name) : (size_t)(space - command->name);

    if (count < 1 || strlen(words[0]) != first || strncmp(words[0], command->name, first) != 0)
        return 0;
    if (space == NULL)
        return 1;
    return count >= 2 && strcmp(words[1], space + 1) == 0 ? 2 : 0;
}

static bool find_command(struct ctl_args *args, int count, char *const *words)
{
    for (size_t i = 0; i < ctl_command_count; i++) {
        int used = words_of(&ctl_commands[i], count, words);

        if (used == 0)
            continue;
        args->command = &ctl_commands[i];
        args->words = words + used;
        args->word_count = (size_t)(count - used);
        return true;
    }
    if (count >= 1 && strcmp(words[0], "parked") == 0)
        return args->wants_help || complain("parked what? list, show, resume or discard", NULL);
    if (count >= 1 && strcmp(words[0], "barrier") == 0)
        return args->wants_help || complain("barrier what? clean", NULL);
    if (count >= 1 && strcmp(words[0], "half") == 0)
        return args->wants_help ||
               complain("half what? list, show, commit, rollback or resume", NULL);
    if (count >= 1 && strcmp(words[0], "dead") == 0)
        return args->wants_help ||
               complain("dead what? list, show, replay, edit-replay or discard", NULL);
    if (count >= 1 && strcmp(words[0], "notify") == 0)
        return args->wants_help ||
               complain("notify what? list, show, resend, pause or resume", NULL);
    return complain("there is no command", words[0]);
}

static bool check_fit(const struct ctl_args *args, uint64_t given)
{
    uint64_t wrong = given & ~(args->command->options | UINT64_C(1) << CTL_HELP);

    for (unsigned i = 0; i < CTL_OPTION_COUNT; i++) {
        if ((wrong >> i & 1U) != 0) {
            fprintf(stderr, "outboxctl: %s takes no --%s; see outboxctl %s --help\n",
                    args->command->name, options[i].name, args->command->name);
            return false;
        }
    }
    if (args->word_count > 0 && !args->command->takes_words)
        return complain("not understood:", args->words[0]);
    if ((given >> CTL_DB & 1U) != 0 && (given >> CTL_CONFIG & 1U) != 0)
        return complain("either --config or --db", NULL);
    return true;
}

bool ctl_args_parse(int argc, char **argv, struct ctl_args *out)
{
    uint64_t given = 0;
    int option;

    memset(out, 0, sizeof(*out));
    out->config = getenv("OBX_CONFIG");
    out->limit = DEFAULT_LIMIT;
    out->wait_s = DEFAULT_WAIT_S;
    opterr = 0; /* what is wrong is said here, with the way to the help */
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return complain(option == ':' ? "a value is missing behind" : "there is no option",
                            argv[optind - 1]);
        if (option == OPT_VERSION) {
            out->wants_version = true;
            continue;
        }
        given |= UINT64_C(1) << (option - OPT_FIRST);
        if (!take_option(out, (enum ctl_option)(option - OPT_FIRST)))
            return false;
    }
    if (out->wants_version || (optind == argc && out->wants_help))
        return true;
    if (optind == argc)
        return complain("which command?", NULL);
    if (!find_command(out, argc - optind, argv + optind))
        return false;
    return out->wants_help || check_fit(out, given);
}
