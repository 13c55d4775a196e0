/*
 * outboxctl trace: everything that is known of one message, from its transaction to its effect, each
 * line with the table that says so.
 */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/human.h"
#include "ops/trace/trace.h"
#include "outboxctl/db_url.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/table.h"
#include "outboxctl/target.h"

enum { TIMEOUT_MS = 5000, PASSWORD_MAX = 1024, EXIT_UNKNOWN = 3 };

struct tracing {
    struct targets targets;
    struct db_url consumer; /* of --consumer-db */
    char password[PASSWORD_MAX];
    struct trace_place *places; /* owned */
    size_t count;
};

/* Where there is no configuration, or it does not name the consumer. */
static enum ctl_exit add_consumer(struct tracing *tracing, const struct ctl_args *args)
{
    const char *path = args->text[CTL_CONSUMER_PASSWORD_FILE];
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (args->text[CTL_CONSUMER_DB] == NULL)
        return CTL_OK;
    if (db_url_parse(args->text[CTL_CONSUMER_DB], &tracing->consumer, &err) != OBX_OK)
        return ctl_usage(args, "%s", err.text);
    if (path != NULL) {
        status = target_read_password("consumer-password-file", path, tracing->password,
                                      sizeof(tracing->password));
        tracing->consumer.opts.password = tracing->password;
    }
    tracing->places[tracing->count++] = (struct trace_place){
        .name = tracing->consumer.opts.database, .db = tracing->consumer.opts, .is_consumer = true};
    return status;
}

/* The database of --db is asked as both: which tables it has, it says itself. */
static enum ctl_exit set_places(struct tracing *tracing, const struct ctl_args *args)
{
    const struct relay_config *config = tracing->targets.config;
    const size_t consumers = config == NULL ? 1 : config->consumer_count;

    tracing->places = obx_calloc(tracing->targets.count + consumers + 1, sizeof(*tracing->places));
    if (tracing->places == NULL)
        return CTL_FAILED;
    for (size_t i = 0; i < tracing->targets.count; i++) {
        const struct target *target = &tracing->targets.items[i];
        const struct source_config *source =
            config == NULL ? NULL : relay_config_source(config, target->source);

        tracing->places[tracing->count++] =
            (struct trace_place){.name = target->source,
                                 .db = target->db,
                                 .outboxes = target->outboxes,
                                 .outbox_count = target->outbox_count,
                                 .has_journal = source == NULL || source->lane.journal};
    }
    for (size_t i = 0; config != NULL && i < config->consumer_count; i++)
        tracing->places[tracing->count++] = (struct trace_place){
            .name = config->consumers[i].name, .db = config->consumers[i].db, .is_consumer = true};
    return add_consumer(tracing, args);
}

static void print_entry(const struct trace_entry *entry)
{
    char time[HUMAN_MAX];

    printf("%-20s  ", entry->at_us == 0 ? "-" : human_time_us(entry->at_us, time));
    text_print_clean(stdout, entry->source);
    fputs(": ", stdout);
    text_print_clean(stdout, entry->text);
    putchar('\n');
}

static void print_text(const struct trace *trace)
{
    fputs("now: ", stdout);
    text_print_clean(stdout, trace->now == NULL ? "nothing is known of it in these databases"
                                                : trace->now->text);
    fputs("\n\n", stdout);
    for (size_t i = 0; i < trace->count; i++)
        print_entry(&trace->items[i]);
}

static enum ctl_exit trace(struct tracing *tracing, const struct ctl_args *args)
{
    const struct trace_opts opts = {.places = tracing->places,
                                    .place_count = tracing->count,
                                    .id = args->word_count > 0 ? args->words[0] : NULL,
                                    .key = args->text[CTL_KEY]};
    struct trace found = {0};
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (trace_run(&opts, &found, &err) != OBX_OK) {
        fprintf(stderr, "outboxctl: %s\n", err.text);
        status = CTL_FAILED;
    } else if (args->json) {
        json_t *root = trace_json(&opts, &found);

        json_print(root);
        json_decref(root);
    } else {
        print_text(&found);
    }
    /* A database that did not answer makes the story a part of it, whatever the others know. */
    for (size_t i = 0; i < found.count && status == CTL_OK; i++)
        if (found.items[i].kind == TRACE_FAILED)
            status = CTL_FAILED;
    if (status == CTL_OK && found.now == NULL)
        status = (enum ctl_exit)EXIT_UNKNOWN;
    trace_fini(&found);
    return status;
}

static enum ctl_exit run_trace(const struct ctl_args *args)
{
    struct tracing tracing = {0};
    enum ctl_exit status;

    if ((args->word_count == 1) == (args->text[CTL_KEY] != NULL))
        return ctl_usage(args, "trace takes one message id or gid, or --key KEY");
    if (args->word_count == 1 && args->words[0][0] == '\0')
        return ctl_usage(args, "the id is empty");
    status = targets_open(args, &tracing.targets);
    if (status != CTL_OK)
        return status;
    status = set_places(&tracing, args);
    for (size_t i = 0; i < tracing.count; i++) {
        tracing.places[i].db.connect_timeout_ms = TIMEOUT_MS;
        tracing.places[i].db.read_timeout_ms = TIMEOUT_MS;
        tracing.places[i].db.program_name = "outboxctl";
    }
    if (status == CTL_OK)
        status = trace(&tracing, args);
    obx_free(tracing.places);
    db_url_fini(&tracing.consumer);
    memset(tracing.password, 0, sizeof(tracing.password));
    targets_close(&tracing.targets);
    return status;
}

const struct ctl_command trace_commands[] = {
    {.name = "trace",
     .options = CTL_TARGET | CTL_BIT(KEY) | CTL_BIT(CONSUMER_DB) | CTL_BIT(CONSUMER_PASSWORD_FILE),
     .words = "{ID | --key KEY}",
     .summary = "tell the whole story of one message",
     .synopsis = "[--consumer-db URL]",
     .help =
         "Shows everything that is known of a message, by its id, in the order of time: outbox,\n"
         "delayed, journal, awaiting, receipts, parked, and at consumers dedup, failed attempts,\n"
         "inbox, calls over HTTP. With the gid of a half-message: what was asked, answered and\n"
         "decided. Each line names the table that says so, or why something is unknown. Changes\n"
         "nothing. The databases are the sources and the [consumer NAME] sections of the\n"
         "configuration.\n"
         "\n"
         "  --key KEY             what is known of the messages of this ordering key\n"
         "  --consumer-db URL     a consumer's database that the configuration does not name, as\n"
         "                        --db\n"
         "  --consumer-password-file FILE\n"
         "                        the password for it is the first line of FILE\n",
     .exits =
         "0 it is known where the message is, 3 nothing is known of it, 2 wrong command line or\n"
         "configuration, 1 anything else, a database that did not answer among it",
     .run = run_trace},
    {0}};
