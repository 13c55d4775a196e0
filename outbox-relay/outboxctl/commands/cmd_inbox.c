/* outboxctl inbox: what it may be asked. The table and what can be done with it: ops/inbox.c. */
#include "ops/resources.h"
#include "outboxctl/print/report.h"
#include "outboxctl/print/resource_page.h"

static const struct requested to_replay = {&inbox_rows, &inbox_replay},
                              to_discard = {&inbox_rows, &inbox_discard};

#define FILTER     (CTL_BIT(QUEUE) | CTL_BIT(TOPIC) | CTL_BIT(REASON) | CTL_BIT(KEY) | CTL_BIT(MESSAGE))
#define REQUEST    (FILTER | CTL_BIT(ALL) | CTL_BIT(NOTE) | CTL_BIT(RATE))
#define QUEUE_HELP "  --queue NAME          of this [queue NAME] of inbox-relay\n"

const struct ctl_command inbox_commands[] = {
    {.name = "inbox list",
     .options = CTL_TARGET | FILTER | CTL_BIT(STATE) | CTL_BIT(LIMIT) | CTL_BIT(AFTER),
     .summary = "list messages in a service's inbox",
     .synopsis = "[FILTER...] [--state STATE] [--limit N] [--after ID]",
     .help =
         "Lists messages that inbox-relay has stored for the workers of a service, in the\n"
         "order in which they came. --db names the service's database. HOLDS UP is how many\n"
         "of its key wait for a dead one.\n"
         "\n"
         "  --state STATE         dead (default); ready, now or for its next attempt; blocked\n"
         "                        by another one of its key; done and discarded, not filed yet;\n"
         "                        kept after that; any\n" QUEUE_HELP,
     .run = resource_list,
     .subject = &inbox_rows},
    {.name = "inbox show",
     .options = CTL_TARGET | CTL_BIT(PAYLOAD),
     .words = "ID",
     .summary = "show one of them",
     .synopsis = "[--payload raw]",
     .help = "Shows one of them: why it failed, when, its headers, the beginning of its payload.\n",
     .run = resource_show,
     .subject = &inbox_rows},
    {.name = "inbox replay",
     .options = CTL_TARGET | REQUEST,
     .words = REQUEST_WORDS,
     .summary = "have dead ones tried again",
     .synopsis = "[--rate N] [--note TEXT]",
     .help = "Gives dead messages to the workers again, from their first attempt. Fix the cause\n"
             "first. Those that wait for one of them go on when it is done. One whose producer\n"
             "knows that it was rejected is refused.\n"
             "\n"
             "  --note TEXT           why; kept with your name in inbox_audit\n" QUEUE_HELP,
     .exits = REQUEST_EXITS ", or none fits",
     .run = request_command,
     .subject = &to_replay},
    {.name = "inbox discard",
     .options = CTL_TARGET | REQUEST | CTL_BIT(YES),
     .words = REQUEST_WORDS,
     .summary = "end them for ever",
     .synopsis = "--note TEXT [--yes] [--rate N]",
     .help = "Ends messages for ever: they will never be applied. Dead ones, and by ID also one\n"
             "that is ready, as long as no worker has it. Those after it in its key go on as soon\n"
             "as inbox-relay has filed it; a producer that waits for a receipt is notified.\n"
             "\n" QUEUE_HELP,
     .exits = REQUEST_EXITS ", or none fits",
     .run = request_command,
     .subject = &to_discard},
    {0}};
