/* outboxctl half: what it may be asked. The table and what can be done with it: ops/half.c. */
#include <string.h>

#include "half/api/half_json.h"
#include "ops/resources.h"
#include "outboxctl/print/report.h"
#include "outboxctl/print/resource_page.h"

static const struct requested to_commit = {&half_rows, &half_commit},
                              to_roll_back = {&half_rows, &half_rollback},
                              to_resume = {&half_rows, &half_resume};

static enum ctl_exit run_decision(const struct ctl_args *args)
{
    const char *note = args->text[CTL_NOTE];

    if (note != NULL && strlen(note) > HALF_NOTE_MAX)
        return ctl_usage(args, "--note is too long");
    for (size_t i = 0; i < args->word_count; i++)
        if (!half_gid_is_valid(bytes_of(args->words[i])))
            return ctl_usage(args, "%s is no GID", args->words[i]);
    return request_command(args);
}

#define OUTBOX_HELP "  --outbox NAME         where the messages go, if not as configured\n"

const struct ctl_command half_commands[] = {
    {.name = "half list",
     .options = CTL_TARGET | CTL_BIT(STATE) | CTL_BIT(PRODUCER) | CTL_BIT(LIMIT) | CTL_BIT(AFTER),
     .summary = "list half-messages",
     .synopsis = "[--state STATE] [--producer NAME] [--limit N] [--after GID]",
     .help = "Lists half-messages in the order of their gids: parked ones, which wait for you,\n"
             "unless another state is asked for.\n"
             "\n"
             "  --state STATE         prepared, parked (default), committed, rolled_back or any\n",
     .run = resource_list,
     .subject = &half_rows},
    {.name = "half show",
     .options = CTL_TARGET,
     .words = "GID",
     .summary = "show one half-message",
     .help = "Shows one half-message: its state, the messages it holds, and what was asked,\n"
             "answered and decided.\n",
     .run = resource_show,
     .subject = &half_rows},
    {.name = "half commit",
     .options = CTL_TARGET | CTL_BIT(NOTE) | CTL_BIT(OUTBOX),
     .words = "GID...",
     .summary = "decide that it took place",
     .synopsis = "--note TEXT",
     .help = "Decides that the local transaction took place: the half-message's messages for a\n"
             "commit go out. Look into the producer's database first. A verdict is given once:\n"
             "where another one was given before, this one is refused, and says by whom and\n"
             "when.\n"
             "\n" OUTBOX_HELP,
     .exits = REQUEST_EXITS,
     .run = run_decision,
     .subject = &to_commit},
    {.name = "half rollback",
     .options = CTL_TARGET | CTL_BIT(NOTE) | CTL_BIT(OUTBOX),
     .words = "GID...",
     .summary = "decide that it did not",
     .synopsis = "--note TEXT",
     .help = "Decides that the local transaction did not take place and never will: the messages\n"
             "for a rollback, if any, go out. A producer that comes late is refused.\n"
             "\n" OUTBOX_HELP,
     .exits = REQUEST_EXITS,
     .run = run_decision,
     .subject = &to_roll_back},
    {.name = "half resume",
     .options = CTL_TARGET | CTL_BIT(NOTE),
     .words = "GID...",
     .summary = "have the producer asked again",
     .synopsis = "--note TEXT",
     .help = "Has the producers of parked half-messages asked again, from the start.\n",
     .exits = REQUEST_EXITS,
     .run = run_decision,
     .subject = &to_resume},
    {0}};
