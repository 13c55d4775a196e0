/* The command line of outboxctl: which command, with which options. Texts are borrowed from argv. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "obx/export.h"

/*
 * Every option: its name in code and on the command line, its value's name (NULL: it has none), and
 * what the help of a command says of it unless the command's own text does. Those from --outbox to
 * --state choose rows. An option is one line here.
 */
#define CTL_OPTIONS(X)                                                                             \
    X(CONFIG, "config", "FILE", NULL)                                                              \
    X(SOURCE, "source", "NAME", NULL)                                                              \
    X(DB, "db", "URL", NULL)                                                                       \
    X(USER, "user", "NAME", NULL)                                                                  \
    X(PASSWORD_FILE, "password-file", "FILE", NULL)                                                \
    X(JSON, "json", NULL, NULL)                                                                    \
    X(HELP, "help", NULL, NULL)                                                                    \
    X(OUTBOX, "outbox", "NAME", "of this outbox table")                                            \
    X(ENDPOINT, "endpoint", "NAME", "for this [endpoint NAME] of inbox-relay")                     \
    X(GROUP, "group", "GROUP", "of this consumer group")                                           \
    X(TOPIC, "topic", "TOPIC", "of this topic; a '*' at the end stands for the rest")              \
    X(REASON, "reason", "CODE", "with this reason code, as the list shows it")                     \
    X(KEY, "key", "KEY", "with this ordering key")                                                 \
    X(MESSAGE, "message", "ID", "of this message id")                                              \
    X(PRODUCER, "producer", "NAME", "of this producer")                                            \
    X(STATE, "state", "STATE", "in this state")                                                    \
    X(ALL, "all", NULL, "every one")                                                               \
    X(LIMIT, "limit", "N", "so many at most (50)")                                                 \
    X(AFTER, "after", "ID", "the page after this ID")                                              \
    X(PAYLOAD, "payload", "raw", "write the payload, whole and nothing else, to standard output")  \
    X(NOTE, "note", "TEXT", "why; it must be given, and is kept with your name")                   \
    X(YES, "yes", NULL, "yes, all that a filter or --all finds")                                   \
    X(RATE, "rate", "N", "no more than N in a second")                                             \
    X(FORCE, "force", NULL, NULL)                                                                  \
    X(BODY, "body", "FILE", NULL)                                                                  \
    X(WAIT, "wait", "SECONDS", "how long to wait until it is done (10); 0: do not wait")           \
    X(SIDE, "side", "SIDES", NULL)                                                                 \
    X(PRINT, "print", NULL, NULL)                                                                  \
    X(KEEP, "keep", "DAYS", NULL)                                                                  \
    X(CONSUMER_DB, "consumer-db", "URL", NULL)                                                     \
    X(CONSUMER_PASSWORD_FILE, "consumer-password-file", "FILE", NULL)                              \
    X(QUEUE, "queue", "NAMES", NULL)                                                               \
    X(FROM, "from", "TIME", NULL)                                                                  \
    X(TO, "to", "TIME", NULL)                                                                      \
    X(GRACE, "grace", "TIME", NULL)                                                                \
    X(ALL_IDS, "all-ids", NULL, NULL)

enum ctl_option {
#define CTL_OPTION_NAME(id, name, value, help) CTL_##id,
    CTL_OPTIONS(CTL_OPTION_NAME)
#undef CTL_OPTION_NAME
        CTL_OPTION_COUNT
};
#define CTL_BIT(id) (UINT64_C(1) << CTL_##id)
/** Of every command that works on a database. */
#define CTL_TARGET                                                                                 \
    (CTL_BIT(CONFIG) | CTL_BIT(DB) | CTL_BIT(PASSWORD_FILE) | CTL_BIT(USER) | CTL_BIT(SOURCE) |    \
     CTL_BIT(JSON))

/** Exit statuses. What a command uses beside them, its `exits` say. */
enum ctl_exit { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl_args;

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

struct ctl_args {
    const struct ctl_command *command; /* NULL: only help was asked for */
    bool wants_help;
    bool wants_version;
    bool json;
    const char *config; /* --config, else OBX_CONFIG; NULL: the environment, or --db */
    const char *text[CTL_OPTION_COUNT]; /* "" for one without a value; NULL: not given */
    uint32_t limit;
    uint32_t wait_s;
    char *const *words; /* what follows the command */
    size_t word_count;
};

/** The commands, one after the other; NULL gives the first, NULL comes after the last. */
const struct ctl_command *ctl_command_next(const struct ctl_command *command);
/** False when the command line is wrong; why was said on stderr. */
bool ctl_args_parse(int argc, char **argv, struct ctl_args *out);
/** The general help, or that of one command. */
void ctl_help(FILE *file, const struct ctl_command *command);
/** Say what is wrong with the command line, and where to look: CTL_USAGE. */
enum ctl_exit ctl_usage(const struct ctl_args *args, const char *fmt, ...) OBX_PRINTF(2, 3);
/** A whole number without sign and unit, of max at most. */
bool ctl_parse_number(const char *text, uint64_t max, uint64_t *out);

#endif
