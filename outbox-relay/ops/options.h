/*
 * What somebody asks for: which rows, how many, and for an action why. A command line says it with
 * its options, a page of the console with the parameters of its address; what comes after is the same.
 */
#ifndef OPS_OPTIONS_H
#define OPS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

struct ctl_command;
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

/** A whole number without sign and unit, of max at most. */
bool ctl_parse_number(const char *text, uint64_t max, uint64_t *out);

#endif
