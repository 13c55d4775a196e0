/*
 * Every command: its name, the options it takes, its help. Called by ctl_args.c and main.c.
 */
#include "ctl_args.h"

#define BIT(option) (UINT64_C(1) << (option))
#define TARGET                                                                                     \
    (BIT(CTL_CONFIG) | BIT(CTL_DB) | BIT(CTL_PASSWORD_FILE) | BIT(CTL_USER) | BIT(CTL_SOURCE) |    \
     BIT(CTL_JSON))
#define FILTER  (BIT(CTL_OUTBOX) | BIT(CTL_TOPIC) | BIT(CTL_REASON) | BIT(CTL_KEY))
#define REQUEST (FILTER | BIT(CTL_ALL) | BIT(CTL_NOTE) | BIT(CTL_YES) | BIT(CTL_WAIT))

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
    "  --source NAME         only this [source NAME]; needed where one is meant and several are "
    "there\n"
    "  --db URL              in place of a configuration: mysql://user@host:port/database, with\n"
    "                        ?socket=PATH, tls=MODE, tls_ca_file=PATH behind it\n"
    "  --user NAME           log in as NAME, for instance to migrate\n"
    "  --password-file FILE  the password is the first line of FILE\n"
    "  --json                print JSON, for scripts\n"
    "\n"
    "exit status: 0 done, 2 wrong command line or configuration, 1 anything else\n";

static const char filter_help[] =
    "which messages:\n"
    "  --outbox NAME         of this outbox table\n"
    "  --topic TOPIC         of this topic; a '*' at the end stands for the rest\n"
    "  --reason CODE         parked for this reason, as `parked list` shows it\n"
    "  --key KEY             with this ordering key\n";

static const char migrate_help[] =
    "Applies the missing migrations, one after the other, and makes the outbox tables that the\n"
    "configuration names. Doing it again does nothing. The user needs the right to create tables.\n"
    "\n"
    "  --side SIDES          producer (default), consumer, half, barrier, notify, journal, inbox; "
    "several\n"
    "                        with commas; both: producer,consumer. A consumer's database is named\n"
    "                        with --db\n"
    "  --outbox NAME         make this outbox table too, with the definition of `outbox`\n"
    "  --print               print the SQL to apply by hand, and do nothing\n";

static const char check_help[] =
    "Looks at configuration, databases, schema, grants, broker and topology; changes nothing. One\n"
    "line for each thing: ok, or FAILED with what to do. The same as outbox-relay --check.\n";

static const char status_help[] =
    "Shows for each outbox, from the database: rows waiting (counted up to a limit), the age of "
    "the\n"
    "oldest, parked messages, frozen keys, who owns the lease and for how long. And, where the "
    "relay\n"
    "of this configuration runs on this machine, what it says of itself.\n";

static const char ring_help[] =
    "Rings the doorbell of the relay that runs with this configuration on this machine, so that "
    "it\n"
    "looks at the outbox at once. Without OUTBOX all of its lanes are rung.\n";

static const char list_help[] =
    "Lists parked messages in the order in which they were parked. ID is what the other commands\n"
    "take. BEHIND is the row that a message waits behind because its ordering key is frozen.\n"
    "\n"
    "  --limit N             so many at most (50)\n"
    "  --after ID            the page behind this ID\n";

static const char show_help[] =
    "Shows one parked message: why it was parked, its headers, the beginning of its payload.\n"
    "\n"
    "  --payload raw         write the payload, whole and nothing else, to standard output\n";

static const char resume_help[] =
    "Asks the owner of the outbox to put parked messages back, under their old ids. A message at "
    "the\n"
    "head of a frozen key takes those behind it along, in order. Correct the cause first, else it\n"
    "is parked again.\n"
    "\n"
    "  ID...                 these messages, or with a filter or --all every one that fits\n"
    "  --all                 every parked message\n"
    "  --note TEXT           kept with the request and shown while it waits\n"
    "  --wait SECONDS        how long to wait until it is done (10); 0: do not wait\n";

static const char discard_help[] =
    "Asks the owner of the outbox to delete parked messages for ever: they will never be "
    "published.\n"
    "If one is the head of a frozen key, those behind it go back into the outbox, unless they are\n"
    "discarded by the same command.\n"
    "\n"
    "  ID...                 these messages, or with a filter or --all every one that fits\n"
    "  --all                 every parked message; needs --yes, as filters do\n"
    "  --note TEXT           why; it must be given\n"
    "  --yes                 yes, all of them\n"
    "  --wait SECONDS        how long to wait until it is done (10); 0: do not wait\n";

static const char parked_history_help[] =
    "Shows which parked messages were discarded, the latest first: when, by whom and why. Kept for "
    "a\n"
    "year.\n"
    "\n"
    "  --message ID          of this message id\n"
    "  --limit N             so many at most (50)\n";

static const char dead_history_help[] =
    "Shows which dead messages were discarded, replayed by force or with another body, the latest\n"
    "first: when, by whom and why. Kept for a year.\n"
    "\n"
    "  --message ID          of this message id\n"
    "  --limit N             so many at most (50)\n";

static const char barrier_clean_help[] =
    "Removes old rows from half_barrier, in the database of a producer or of a TCC participant\n"
    "(--db). Only what has ended: a Try that waits for its Confirm or Cancel stays. Keep as long "
    "as\n"
    "the relay's barrier_keep.\n"
    "\n"
    "  --keep DAYS           remove what is older (30)\n";

static const char half_list_help[] =
    "Lists half-messages in the order of their gids: parked ones, which wait for you, unless "
    "another\n"
    "state is asked for.\n"
    "\n"
    "  --state STATE         prepared, parked (default), committed, rolled_back or any\n"
    "  --producer NAME       of this producer\n"
    "  --limit N             so many at most (50)\n"
    "  --after GID           the page behind this one\n";

static const char half_show_help[] =
    "Shows one half-message: its state, the messages it holds, and what was asked, answered and\n"
    "decided.\n";

static const char half_commit_help[] =
    "Decides that the local transaction took place: the half-message's messages for a commit go\n"
    "out. Look into the producer's database first. A verdict is given once: where another one was\n"
    "given before, this one is refused, and says by whom and when.\n"
    "\n"
    "  --note TEXT           why; it must be given, and is kept with your name\n"
    "  --outbox NAME         where the messages go, if not as configured\n";

static const char half_rollback_help[] =
    "Decides that the local transaction did not take place and never will: the messages for a\n"
    "rollback, if any, go out. A producer that comes late is refused.\n"
    "\n"
    "  --note TEXT           why; it must be given, and is kept with your name\n"
    "  --outbox NAME         where the messages go, if not as configured\n";

static const char half_resume_help[] =
    "Has the producers of parked half-messages asked again, from the start.\n"
    "\n"
    "  --note TEXT           why; it must be given, and is kept with your name\n";

static const char notify_filter_help[] =
    "which notifications:\n"
    "  --endpoint NAME       for this [endpoint NAME] of inbox-relay\n"
    "  --state STATE         waiting, delivered or given_up\n"
    "  --topic TOPIC         of this topic; a '*' at the end stands for the rest\n"
    "  --message ID          of this message\n"
    "  --group GROUP         of this consumer group\n";

static const char notify_list_help[] =
    "Lists calls to HTTP endpoints, as inbox-relay keeps them. --db names its database. NEXT is\n"
    "when the next call is due, or says that the endpoint is paused.\n"
    "\n"
    "  --limit N             so many at most (50)\n"
    "  --after ID            the page behind this ID\n";

static const char notify_show_help[] =
    "Shows one notification: what became of its calls, and the beginning of its body.\n"
    "\n"
    "  --payload raw         write the body, whole and nothing else, to standard output\n";

static const char notify_resend_help[] =
    "Makes notifications due now, with a whole schedule before them. The receiver gets the same\n"
    "message id again. With filters those given up are meant, unless --state or --message says\n"
    "otherwise. Exit status 1 when none fits.\n"
    "\n"
    "  ID...                 these, or with a filter or --all every one that fits\n"
    "  --all                 everything that was given up\n";

static const char notify_pause_help[] =
    "Stops the calls to an endpoint; what is for it waits, without using up attempts. Heeded "
    "within\n"
    "a second. inbox-relay itself does the same with an endpoint that answers 410 Gone.\n"
    "\n"
    "  --group GROUP         of this consumer group (notify)\n"
    "  --note TEXT           why\n";

static const char notify_resume_help[] = "Lets the calls to a paused endpoint go on.\n"
                                         "\n"
                                         "  --group GROUP         of this consumer group (notify)\n"
                                         "  --note TEXT           why\n";

static const char reconcile_help[] =
    "Compares what a source has committed in a range of time with what a consumer group has "
    "applied,\n"
    "across the two databases, and says what is missing, extra, or still on the way. Changes\n"
    "nothing. The relay must keep a journal: journal = yes in [source], and the tables of\n"
    "migrate --side journal.\n"
    "\n"
    "  --group GROUP         the consumer group\n"
    "  --consumer-db URL     its database, as --db\n"
    "  --consumer-password-file FILE\n"
    "                        the password for it is the first line of FILE\n"
    "  --from TIME           beginning of the range (65m), by the creation of the messages: UTC "
    "as\n"
    "                        2026-11-25T10:00:00Z, or so long ago, as 2h or 7d\n"
    "  --to TIME             its end (5m), not part of it\n"
    "  --topic TOPICS        what the group is to apply: topics with commas between them; a '*' "
    "at\n"
    "                        the end stands for the rest. Without it everything\n"
    "  --grace TIME          what was published less long ago may be in a queue still (5m)\n"
    "  --all-ids             look for extra messages among ids without a time in them, too: reads\n"
    "                        all of the group's dedup rows\n"
    "  --limit N             print so many messages at most (50); the counts are always whole\n"
    "\n"
    "exit status here: 0 all applied, 3 something is missing or extra, 4 something is on the way\n";

static const char dead_filter_help[] =
    "which messages:\n"
    "  --group GROUP         of this consumer group\n"
    "  --topic TOPIC         of this topic; a '*' at the end stands for the rest\n"
    "  --reason CODE         failed for this reason, as `dead list` shows it\n"
    "  --key KEY             with this ordering key\n";

static const char dead_list_help[] =
    "Lists messages that a consumer could not apply, in the order in which they came. --db names\n"
    "the consumer's database.\n"
    "\n"
    "  --state STATE         dead (default); waiting for the next attempt; blocked by another one "
    "of "
    "its\n"
    "                        key; any\n"
    "  --limit N             so many at most (50)\n"
    "  --after ID            the page behind this ID\n";

static const char dead_show_help[] =
    "Shows one of them: why it failed, when, what came with it, the beginning of its body.\n"
    "\n"
    "  --payload raw         write the body, whole and nothing else, to standard output\n";

static const char dead_replay_help[] =
    "Has dead messages tried again, from their first attempt. Mend the cause first. A consumer of\n"
    "the group carries it out; those of a frozen key follow by themselves. Doing it twice does\n"
    "nothing more.\n"
    "\n"
    "  ID...                 these messages, or with a filter or --all every dead one that fits\n"
    "  --all                 every dead message\n"
    "  --rate N              no more than N in a second\n"
    "  --force               also those that are older than dedup rows are kept, and those whose\n"
    "                        producer has been told that they were rejected\n"
    "  --note TEXT           kept with the message, beside your name\n"
    "  --wait SECONDS        how long to wait until it is done (10); 0: do not wait\n";

static const char dead_edit_help[] =
    "Replaces the body of one dead message and has it tried again, in one step.\n"
    "\n"
    "  --body FILE           the new body; - for standard input. `dead show ID --payload raw` has\n"
    "                        the old one\n"
    "  --note TEXT           why; it must be given, and is kept with your name\n"
    "  --force               as with dead replay\n"
    "  --wait SECONDS        how long to wait until it is done (10); 0: do not wait\n";

static const char dead_discard_help[] =
    "Has dead messages deleted for ever: they will never be applied. Those behind one of them in "
    "a\n"
    "frozen key go on. The consumer that does it logs your name and note.\n"
    "\n"
    "  ID...                 these messages, or with a filter or --all every dead one that fits\n"
    "  --all                 every dead message; needs --yes, as filters do\n"
    "  --rate N              no more than N in a second\n"
    "  --note TEXT           why; it must be given\n"
    "  --yes                 yes, all of them\n"
    "  --wait SECONDS        how long to wait until it is done (10); 0: do not wait\n";

#define DEAD_FILTER  (BIT(CTL_GROUP) | BIT(CTL_TOPIC) | BIT(CTL_REASON) | BIT(CTL_KEY))
#define DEAD_REQUEST (DEAD_FILTER | BIT(CTL_ALL) | BIT(CTL_NOTE) | BIT(CTL_WAIT) | BIT(CTL_RATE))

#define NOTIFY_FILTER                                                                              \
    (BIT(CTL_ENDPOINT) | BIT(CTL_GROUP) | BIT(CTL_MESSAGE) | BIT(CTL_STATE) | BIT(CTL_TOPIC))

const struct ctl_command ctl_commands[] = {
    {"migrate", TARGET | BIT(CTL_SIDE) | BIT(CTL_OUTBOX) | BIT(CTL_PRINT), false, cmd_migrate,
     "make or update the tables", "migrate [--side SIDES] [--outbox NAME] [--print]", migrate_help},
    {"check", BIT(CTL_CONFIG) | BIT(CTL_JSON), false, cmd_check,
     "look whether everything a relay needs is there", "check", check_help},
    {"status", TARGET | BIT(CTL_OUTBOX), false, cmd_status, "show how outboxes and relay are",
     "status [--source NAME] [--outbox NAME]", status_help},
    {"ring", BIT(CTL_CONFIG), true, cmd_ring, "make the relay look at once", "ring [OUTBOX]",
     ring_help},
    {"parked list", TARGET | FILTER | BIT(CTL_LIMIT) | BIT(CTL_AFTER), false, cmd_parked_list,
     "list parked messages", "parked list [FILTER...] [--limit N] [--after ID]", list_help},
    {"parked show", TARGET | BIT(CTL_PAYLOAD), true, cmd_parked_show, "show one parked message",
     "parked show ID [--payload raw]", show_help},
    {"parked resume", TARGET | REQUEST, true, cmd_parked_resume,
     "publish parked messages after all",
     "parked resume {ID... | FILTER... | --all} [--note TEXT] [--wait SECONDS]", resume_help},
    {"parked discard", TARGET | REQUEST, true, cmd_parked_discard,
     "delete parked messages for ever",
     "parked discard {ID... | FILTER... | --all} --note TEXT [--yes] [--wait SECONDS]",
     discard_help},
    {"parked history", TARGET | BIT(CTL_MESSAGE) | BIT(CTL_LIMIT), false, cmd_parked_history,
     "show what was discarded, and by whom", "parked history [--message ID] [--limit N]",
     parked_history_help},
    {"barrier clean", TARGET | BIT(CTL_KEEP), false, cmd_barrier_clean,
     "remove old rows of a barrier table", "barrier clean --db URL [--keep DAYS]",
     barrier_clean_help},
    {"half list", TARGET | BIT(CTL_STATE) | BIT(CTL_PRODUCER) | BIT(CTL_LIMIT) | BIT(CTL_AFTER),
     false, cmd_half_list, "list half-messages",
     "half list [--state STATE] [--producer NAME] [--limit N] [--after GID]", half_list_help},
    {"half show", TARGET, true, cmd_half_show, "show one half-message", "half show GID",
     half_show_help},
    {"half commit", TARGET | BIT(CTL_NOTE) | BIT(CTL_OUTBOX), true, cmd_half_commit,
     "decide that it took place", "half commit GID... --note TEXT", half_commit_help},
    {"half rollback", TARGET | BIT(CTL_NOTE) | BIT(CTL_OUTBOX), true, cmd_half_rollback,
     "decide that it did not", "half rollback GID... --note TEXT", half_rollback_help},
    {"half resume", TARGET | BIT(CTL_NOTE), true, cmd_half_resume, "have the producer asked again",
     "half resume GID... --note TEXT", half_resume_help},
    {"dead list", TARGET | DEAD_FILTER | BIT(CTL_STATE) | BIT(CTL_LIMIT) | BIT(CTL_AFTER), false,
     cmd_dead_list, "list what consumers could not apply",
     "dead list [FILTER...] [--state STATE] [--limit N] [--after ID]", dead_list_help},
    {"dead show", TARGET | BIT(CTL_PAYLOAD), true, cmd_dead_show, "show one of them",
     "dead show ID [--payload raw]", dead_show_help},
    {"dead replay", TARGET | DEAD_REQUEST | BIT(CTL_FORCE), true, cmd_dead_replay,
     "have them tried again",
     "dead replay {ID... | FILTER... | --all} [--rate N] [--force] [--note TEXT]",
     dead_replay_help},
    {"dead edit-replay", TARGET | BIT(CTL_BODY) | BIT(CTL_NOTE) | BIT(CTL_FORCE) | BIT(CTL_WAIT),
     true, cmd_dead_edit_replay, "the same with another body",
     "dead edit-replay ID --body FILE --note TEXT [--force]", dead_edit_help},
    {"dead discard", TARGET | DEAD_REQUEST | BIT(CTL_YES), true, cmd_dead_discard,
     "delete them for ever",
     "dead discard {ID... | FILTER... | --all} --note TEXT [--yes] [--rate N]", dead_discard_help},
    {"dead history", TARGET | BIT(CTL_MESSAGE) | BIT(CTL_LIMIT), false, cmd_dead_history,
     "show what was discarded or changed", "dead history [--message ID] [--limit N]",
     dead_history_help},
    {"notify list", TARGET | NOTIFY_FILTER | BIT(CTL_LIMIT) | BIT(CTL_AFTER), false,
     cmd_notify_list, "list calls to HTTP endpoints",
     "notify list [FILTER...] [--limit N] [--after ID]", notify_list_help},
    {"notify show", TARGET | BIT(CTL_PAYLOAD), true, cmd_notify_show, "show one of them",
     "notify show ID [--payload raw]", notify_show_help},
    {"notify resend", TARGET | NOTIFY_FILTER | BIT(CTL_ALL), true, cmd_notify_resend,
     "call again what was given up", "notify resend {ID... | FILTER... | --all}",
     notify_resend_help},
    {"notify pause", TARGET | BIT(CTL_GROUP) | BIT(CTL_NOTE), true, cmd_notify_pause,
     "stop the calls to an endpoint", "notify pause ENDPOINT [--group GROUP] [--note TEXT]",
     notify_pause_help},
    {"notify resume", TARGET | BIT(CTL_GROUP) | BIT(CTL_NOTE), true, cmd_notify_resume,
     "let them go on", "notify resume ENDPOINT [--group GROUP] [--note TEXT]", notify_resume_help},
    {"reconcile",
     TARGET | BIT(CTL_GROUP) | BIT(CTL_CONSUMER_DB) | BIT(CTL_CONSUMER_PASSWORD_FILE) |
         BIT(CTL_FROM) | BIT(CTL_TO) | BIT(CTL_TOPIC) | BIT(CTL_GRACE) | BIT(CTL_ALL_IDS) |
         BIT(CTL_LIMIT),
     false, cmd_reconcile, "compare a source with a consumer",
     "reconcile --group GROUP --consumer-db URL [--from TIME] [--to TIME] [--topic TOPICS]",
     reconcile_help},
};
const size_t ctl_command_count = sizeof(ctl_commands) / sizeof(ctl_commands[0]);

void ctl_help(FILE *file, const struct ctl_command *command)
{
    if (command == NULL) {
        fputs(general_help, file);
        for (size_t i = 0; i < ctl_command_count; i++)
            fprintf(file, "  %-17s %s\n", ctl_commands[i].name, ctl_commands[i].summary);
        fputs("\noutboxctl COMMAND --help says more of one; --version prints the version\n", file);
        fputs(target_help, file);
        return;
    }
    fprintf(file, "usage: outboxctl %s\n\n%s", command->usage, command->help);
    if ((command->options & FILTER) == FILTER)
        fprintf(file, "\n%s", filter_help);
    if ((command->options & DEAD_FILTER) == DEAD_FILTER)
        fprintf(file, "\n%s", dead_filter_help);
    if ((command->options & NOTIFY_FILTER) == NOTIFY_FILTER)
        fprintf(file, "\n%s", notify_filter_help);
    fputs(target_help, file);
}
