/* The command line of outboxctl: which command, with which options. Texts are borrowed from argv.
 */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct ctl_args;

/** Exit statuses. */
enum ctl_exit { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl_command {
    const char *name; /* "parked list" */
    uint64_t options; /* bits 1 << enum ctl_option */
    bool takes_words; /* ids, an outbox */
    enum ctl_exit (*run)(const struct ctl_args *args);
    const char *summary;
    const char *usage;
    const char *help;
};
extern const struct ctl_command ctl_commands[];
extern const size_t ctl_command_count;

enum ctl_option {
    CTL_CONFIG,
    CTL_DB,
    CTL_PASSWORD_FILE,
    CTL_USER,
    CTL_SOURCE,
    CTL_JSON,
    CTL_HELP,
    CTL_SIDE,
    CTL_OUTBOX,
    CTL_PRINT,
    CTL_TOPIC,
    CTL_REASON,
    CTL_KEY,
    CTL_LIMIT,
    CTL_AFTER,
    CTL_PAYLOAD,
    CTL_ALL,
    CTL_NOTE,
    CTL_YES,
    CTL_WAIT,
    CTL_STATE,
    CTL_PRODUCER,
    CTL_KEEP,
    CTL_ENDPOINT,
    CTL_GROUP,
    CTL_MESSAGE,
    CTL_CONSUMER_DB,
    CTL_CONSUMER_PASSWORD_FILE,
    CTL_FROM,
    CTL_TO,
    CTL_GRACE,
    CTL_ALL_IDS,
    CTL_RATE,
    CTL_FORCE,
    CTL_BODY,
    CTL_OPTION_COUNT
};

struct ctl_args {
    const struct ctl_command *command; /* NULL: only help was asked for */
    bool wants_help;
    bool wants_version;
    bool json, print, all, all_ids, yes, force;
    const char *config; /* --config, else OBX_CONFIG; NULL: the environment, or --db */
    const char *text[CTL_OPTION_COUNT]; /* of the options that are text; NULL: not given */
    uint32_t limit;
    uint32_t wait_s;
    char *const *words; /* what stands behind the command */
    size_t word_count;
};

/** False when the command line is wrong; why was said on stderr. */
bool ctl_args_parse(int argc, char **argv, struct ctl_args *out);
/** The general help, or that of one command. */
void ctl_help(FILE *file, const struct ctl_command *command);

enum ctl_exit cmd_migrate(const struct ctl_args *args);
enum ctl_exit cmd_check(const struct ctl_args *args);
enum ctl_exit cmd_status(const struct ctl_args *args);
enum ctl_exit cmd_barrier_clean(const struct ctl_args *args);
enum ctl_exit cmd_half_list(const struct ctl_args *args);
enum ctl_exit cmd_half_show(const struct ctl_args *args);
enum ctl_exit cmd_half_commit(const struct ctl_args *args);
enum ctl_exit cmd_half_rollback(const struct ctl_args *args);
enum ctl_exit cmd_half_resume(const struct ctl_args *args);
enum ctl_exit cmd_ring(const struct ctl_args *args);
enum ctl_exit cmd_parked_list(const struct ctl_args *args);
enum ctl_exit cmd_parked_show(const struct ctl_args *args);
enum ctl_exit cmd_parked_history(const struct ctl_args *args);
enum ctl_exit cmd_dead_history(const struct ctl_args *args);
enum ctl_exit cmd_parked_resume(const struct ctl_args *args);
enum ctl_exit cmd_parked_discard(const struct ctl_args *args);
enum ctl_exit cmd_dead_list(const struct ctl_args *args);
enum ctl_exit cmd_dead_show(const struct ctl_args *args);
enum ctl_exit cmd_dead_replay(const struct ctl_args *args);
enum ctl_exit cmd_dead_edit_replay(const struct ctl_args *args);
enum ctl_exit cmd_dead_discard(const struct ctl_args *args);
enum ctl_exit cmd_notify_list(const struct ctl_args *args);
enum ctl_exit cmd_notify_show(const struct ctl_args *args);
enum ctl_exit cmd_notify_resend(const struct ctl_args *args);
enum ctl_exit cmd_notify_pause(const struct ctl_args *args);
enum ctl_exit cmd_notify_resume(const struct ctl_args *args);
enum ctl_exit cmd_reconcile(const struct ctl_args *args);

#endif
