/* outboxctl dead: what it may be asked. The table and what can be done with it: ops/dead.c. */
#include <stdio.h>
#include <string.h>

#include "ops/history.h"
#include "ops/resources.h"
#include "outboxctl/print/report.h"
#include "outboxctl/print/resource_page.h"

static const struct requested to_discard = {&dead_rows, &dead_discard};

static enum ctl_exit run_replay(const struct ctl_args *args)
{
    return request_run(args, &dead_rows,
                       args->text[CTL_FORCE] != NULL ? &dead_force_replay : &dead_replay,
                       (struct obx_bytes){0});
}

/* To its end: a body that was read in part would be replayed as if it were the whole. */
static bool read_to_end(FILE *file, struct obx_buf *body)
{
    enum { READ_SIZE = 65536 };
    size_t got = 0;

    do {
        if (buf_reserve(body, READ_SIZE) != OBX_OK)
            return false;
        got = fread(body->data + body->len, 1, READ_SIZE, file);
        body->len += got;
    } while (got > 0);
    return ferror(file) == 0;
}

static enum ctl_exit read_body(const char *path, struct obx_buf *body)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    bool is_whole = false;

    if (file == NULL) {
        fprintf(stderr, "outboxctl: --body %s cannot be opened\n", path);
        return CTL_USAGE;
    }
    is_whole = read_to_end(file, body);
    if (!is_stdin)
        fclose(file);
    if (is_whole)
        return CTL_OK;
    fprintf(stderr, "outboxctl: --body %s cannot be read\n", path);
    return CTL_FAILED;
}

/* The body and the request are one statement: a consumer never replays the old body under the new
 * request. */
static enum ctl_exit run_edit_replay(const struct ctl_args *args)
{
    struct obx_buf body = {0};
    enum ctl_exit status;

    if (args->word_count != 1)
        return ctl_usage(args, "dead edit-replay takes one ID, as dead list shows it");
    if (args->text[CTL_BODY] == NULL)
        return ctl_usage(args, "which body? --body FILE, or - for standard input");
    status = read_body(args->text[CTL_BODY], &body);
    if (status == CTL_OK)
        status =
            request_run(args, &dead_rows,
                        args->text[CTL_FORCE] != NULL ? &dead_edit_force_replay : &dead_edit_replay,
                        (struct obx_bytes){.p = body.data, .len = body.len});
    buf_fini(&body);
    return status;
}

#define FILTER  (CTL_BIT(GROUP) | CTL_BIT(TOPIC) | CTL_BIT(REASON) | CTL_BIT(KEY))
#define REQUEST (FILTER | CTL_BIT(ALL) | CTL_BIT(NOTE) | CTL_BIT(WAIT) | CTL_BIT(RATE))

const struct ctl_command dead_commands[] = {
    {.name = "dead list",
     .options = CTL_TARGET | FILTER | CTL_BIT(STATE) | CTL_BIT(LIMIT) | CTL_BIT(AFTER),
     .summary = "list what consumers could not apply",
     .synopsis = "[FILTER...] [--state STATE] [--limit N] [--after ID]",
     .help = "Lists messages that a consumer could not apply, in the order in which they came.\n"
             "--db names the consumer's database.\n"
             "\n"
             "  --state STATE         dead (default); waiting for the next attempt; blocked by "
             "another\n"
             "                        one of its key; any\n",
     .run = resource_list,
     .subject = &dead_rows},
    {.name = "dead show",
     .options = CTL_TARGET | CTL_BIT(PAYLOAD),
     .words = "ID",
     .summary = "show one of them",
     .synopsis = "[--payload raw]",
     .help = "Shows one of them: why it failed, when, what came with it, the beginning of its\n"
             "payload.\n",
     .run = resource_show,
     .subject = &dead_rows},
    {.name = "dead replay",
     .options = CTL_TARGET | REQUEST | CTL_BIT(FORCE),
     .words = REQUEST_WORDS,
     .summary = "have them tried again",
     .synopsis = "[--rate N] [--force] [--note TEXT] [--wait SECONDS]",
     .help =
         "Has dead messages tried again, from their first attempt. Fix the cause first. A\n"
         "consumer of the group does it; those of a frozen key follow by themselves. Doing\n"
         "it twice does nothing more.\n"
         "\n"
         "  --force               also those that are older than dedup rows are kept, and those\n"
         "                        whose producer knows that they were rejected\n"
         "  --note TEXT           kept with the message, beside your name\n",
     .exits = REQUEST_EXITS ", or none fits",
     .run = run_replay,
     .subject = &dead_rows},
    {.name = "dead edit-replay",
     .options = CTL_TARGET | CTL_BIT(BODY) | CTL_BIT(NOTE) | CTL_BIT(FORCE) | CTL_BIT(WAIT),
     .words = "ID",
     .summary = "the same with another body",
     .synopsis = "--body FILE --note TEXT [--force] [--wait SECONDS]",
     .help = "Replaces the body of one dead message and has it tried again, in one step.\n"
             "\n"
             "  --body FILE           the new body; - for standard input. `dead show ID --payload\n"
             "                        raw` has the old one\n"
             "  --force               as with dead replay\n",
     .exits = REQUEST_EXITS,
     .run = run_edit_replay,
     .subject = &dead_rows},
    {.name = "dead discard",
     .options = CTL_TARGET | REQUEST | CTL_BIT(YES),
     .words = REQUEST_WORDS,
     .summary = "delete them for ever",
     .synopsis = "--note TEXT [--yes] [--rate N] [--wait SECONDS]",
     .help = "Has dead messages deleted for ever: they will never be applied. Those after one of\n"
             "them in a frozen key go on. The consumer that does it logs your name and note.\n",
     .exits = REQUEST_EXITS ", or none fits",
     .run = request_command,
     .subject = &to_discard},
    {.name = "dead history",
     .options = HISTORY_OPTIONS,
     .summary = "show what was discarded or changed",
     .synopsis = HISTORY_SYNOPSIS,
     .help = "Shows which dead messages were discarded, replayed by force or with another body,\n"
             "the latest first: when, by whom and why. Kept for a year.\n",
     .run = resource_list,
     .subject = &dead_audit},
    {0}};
