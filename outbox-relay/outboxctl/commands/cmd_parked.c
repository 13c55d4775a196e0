/* outboxctl parked: what it may be asked. The table and what can be done with it: ops/parked.c. */
#include "ops/history.h"
#include "ops/resources.h"
#include "outboxctl/print/report.h"
#include "outboxctl/print/resource_page.h"

static const struct requested to_resume = {&parked_rows, &parked_resume},
                              to_discard = {&parked_rows, &parked_discard};

#define FILTER  (CTL_BIT(OUTBOX) | CTL_BIT(TOPIC) | CTL_BIT(REASON) | CTL_BIT(KEY))
#define REQUEST (FILTER | CTL_BIT(ALL) | CTL_BIT(NOTE) | CTL_BIT(WAIT))

const struct ctl_command parked_commands[] = {
    {.name = "parked list",
     .options = CTL_TARGET | FILTER | CTL_BIT(LIMIT) | CTL_BIT(AFTER),
     .summary = "list parked messages",
     .synopsis = "[FILTER...] [--limit N] [--after ID]",
     .help = "Lists parked messages in the order in which they were parked. ID is what the other\n"
             "commands take. BLOCKED BY is the row that a message waits for because its ordering\n"
             "key is frozen.\n",
     .run = resource_list,
     .subject = &parked_rows},
    {.name = "parked show",
     .options = CTL_TARGET | CTL_BIT(PAYLOAD),
     .words = "ID",
     .summary = "show one parked message",
     .synopsis = "[--payload raw]",
     .help = "Shows one parked message: why it was parked, its headers, the beginning of its\n"
             "payload.\n",
     .run = resource_show,
     .subject = &parked_rows},
    {.name = "parked resume",
     .options = CTL_TARGET | REQUEST,
     .words = REQUEST_WORDS,
     .summary = "publish parked messages after all",
     .synopsis = "[--note TEXT] [--wait SECONDS]",
     .help = "Asks the owner of the outbox to put parked messages back, under their old ids. A\n"
             "message at the head of a frozen key takes those after it along, in order. Correct\n"
             "the cause first, else it is parked again.\n"
             "\n"
             "  --note TEXT           kept with the request and shown while it waits\n",
     .exits = REQUEST_EXITS,
     .run = request_command,
     .subject = &to_resume},
    {.name = "parked discard",
     .options = CTL_TARGET | REQUEST | CTL_BIT(YES),
     .words = REQUEST_WORDS,
     .summary = "delete parked messages for ever",
     .synopsis = "--note TEXT [--yes] [--wait SECONDS]",
     .help = "Asks the owner of the outbox to delete parked messages for ever: they will never\n"
             "be published. If one is the head of a frozen key, those after it go back into the\n"
             "outbox, unless they are discarded by the same command.\n",
     .exits = REQUEST_EXITS,
     .run = request_command,
     .subject = &to_discard},
    {.name = "parked history",
     .options = HISTORY_OPTIONS,
     .summary = "show what was discarded, and by whom",
     .synopsis = HISTORY_SYNOPSIS,
     .help = "Shows which parked messages were discarded, the latest first: when, by whom and\n"
             "why. Kept for a year.\n",
     .run = resource_list,
     .subject = &parked_audit},
    {0}};
