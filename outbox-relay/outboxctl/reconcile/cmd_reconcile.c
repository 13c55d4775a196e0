/*
 * outboxctl reconcile: reads its options, connects to both databases, prints what was found.
 */
#define _GNU_SOURCE /* strptime, timegm */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "ops/human.h"
#include "outboxctl/db_url.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/print/progress.h"
#include "outboxctl/print/table.h"
#include "outboxctl/target.h"
#include "preflight/check.h"
#include "reconcile.h"

enum { US_PER_S = 1000000, MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400 };
enum { PASSWORD_MAX = 1024, NAME_MAX_LEN = 65 };
enum { EXIT_DIFFERS = 3, EXIT_ON_THE_WAY = 4 };

struct run {
    const struct ctl_args *args;
    const struct target *target;
    const struct relay_config *config; /* NULL with --db */
    struct db_url url;                 /* of the consumer */
    char password[PASSWORD_MAX];
    struct reconcile_opts opts;
    char outboxes[RECONCILE_TABLES_MAX][NAME_MAX_LEN];
    char *topics; /* the option's text, cut at its commas */
    struct progress progress;
    json_t *list;   /* with --json: of the findings */
    json_t *queues; /* those of the group, as far as they are named and the broker answers */
    uint64_t shown;
};

/* ---- times ---- */

/* "90s", "15m", "2h", "7d". */
static bool parse_span(const char *text, uint64_t *us)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', MINUTE_S}, {'h', HOUR_S}, {'d', DAY_S}};
    size_t digits = strspn(text, "0123456789");
    uint64_t number = 0;
    char copy[16];

    snprintf(copy, sizeof(copy), "%.*s", (int)digits, text);
    if (digits >= sizeof(copy) || !ctl_parse_number(copy, UINT32_MAX, &number))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (text[digits] == units[i].unit && text[digits + 1] == '\0') {
            *us = number * units[i].seconds * US_PER_S;
            return true;
        }
    }
    return false;
}

/* UTC: "2026-11-25 10:00:00[.123456]", with T and Z as in ISO 8601, or the date alone. */
static bool parse_date(const char *text, uint64_t *us)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    time_t seconds;

    if (rest != NULL && (*rest == ' ' || *rest == 'T'))
        rest = strptime(rest + 1, "%H:%M:%S", &tm);
    if (rest == NULL)
        return false;
    seconds = timegm(&tm);
    if (seconds <= 0)
        return false;
    *us = (uint64_t)seconds * US_PER_S;
    if (*rest == '.') {
        char fraction[] = "000000"; /* of a second; what is shorter goes on with zeros */
        size_t digits = strspn(++rest, "0123456789");
        uint64_t value = 0;

        if (digits == 0 || digits >= sizeof(fraction))
            return false;
        memcpy(fraction, rest, digits);
        (void)ctl_parse_number(fraction, US_PER_S, &value);
        *us += value;
        rest += digits;
    }
    return *rest == '\0' || strcmp(rest, "Z") == 0;
}

/* A date, or a span: so long ago by the clock of the source, which has written what is compared. */
static bool parse_time(const char *text, uint64_t now_us, uint64_t *us)
{
    uint64_t span_us = 0;

    if (!parse_span(text, &span_us))
        return parse_date(text, us);
    *us = span_us < now_us ? now_us - span_us : 0;
    return *us > 0;
}

static enum ctl_exit set_range(struct run *run, uint64_t now_us)
{
    const char *from = run->args->text[CTL_FROM];
    const char *to = run->args->text[CTL_TO];
    const char *grace = run->args->text[CTL_GRACE];

    if (!parse_time(from == NULL ? "65m" : from, now_us, &run->opts.from_us))
        return ctl_usage(run->args,
                         "--from is a UTC time (2026-11-25T10:00:00Z) or so long ago (2h, 7d)");
    if (!parse_time(to == NULL ? "5m" : to, now_us, &run->opts.to_us))
        return ctl_usage(run->args,
                         "--to is a UTC time (2026-11-25T11:00:00Z) or so long ago (5m)");
    if (!parse_span(grace == NULL ? "5m" : grace, &run->opts.grace_us))
        return ctl_usage(run->args, "--grace is a time like 30s or 5m");
    if (run->opts.from_us >= run->opts.to_us)
        return ctl_usage(run->args, "--from is not before --to");
    return CTL_OK;
}

/* ---- both databases ---- */

static enum ctl_exit set_consumer(struct run *run)
{
    const char *path = run->args->text[CTL_CONSUMER_PASSWORD_FILE];
    struct obx_err err = {0};
    enum ctl_exit status = CTL_OK;

    if (run->args->text[CTL_CONSUMER_DB] == NULL || run->opts.group == NULL)
        return ctl_usage(run->args, "--consumer-db URL and --group GROUP say what to compare with");
    if (db_url_parse(run->args->text[CTL_CONSUMER_DB], &run->url, &err) != OBX_OK) {
        fprintf(stderr, "outboxctl: %s\n", err.text);
        return CTL_USAGE;
    }
    if (path != NULL) {
        status = target_read_password("consumer-password-file", path, run->password,
                                      sizeof(run->password));
        run->url.opts.password = run->password;
    }
    return status;
}

static enum ctl_exit complain(const char *which, const struct obx_err *err)
{
    fprintf(stderr, "outboxctl: %s: %s\n", which, err->text);
    return CTL_FAILED;
}

/* Two connections to each side: a scan keeps one busy while the other looks single messages up. */
static enum ctl_exit open_both(struct run *run)
{
    struct obx_err err = {0};

    run->opts.source = target_connect(run->target);
    if (run->opts.source == NULL)
        return CTL_FAILED;
    if (schema_check(run->opts.source, SCHEMA_JOURNAL, &err) != OBX_OK) {
        obx_err_context(&err, "the relay must keep a journal (journal = yes in [source])");
        return complain(run->target->source, &err);
    }
    run->opts.source_scan = target_connect(run->target);
    if (run->opts.source_scan == NULL)
        return CTL_FAILED;
    if (db_open(&run->url.opts, &run->opts.consumer, &err) != OBX_OK ||
        db_open(&run->url.opts, &run->opts.consumer_scan, &err) != OBX_OK ||
        schema_check(run->opts.consumer, SCHEMA_CONSUMER, &err) != OBX_OK)
        return complain("consumer", &err);
    return CTL_OK;
}

/* Time, and the outbox tables unless the configuration names them. */
static enum ctl_exit ask_source(struct run *run, uint64_t *now_us)
{
    static const char sql[] =
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), t.table_name"
        " FROM information_schema.tables t WHERE t.table_schema = DATABASE()"
        " AND (t.table_name = 'outbox' OR EXISTS (SELECT 1 FROM outbox_lease l"
        " WHERE l.outbox = CONVERT(t.table_name USING ascii)"
        /* Where names are kept in lower case, the lease has the name of the configuration. */
        " OR (@@lower_case_table_names = 1 AND LOWER(l.outbox) = CONVERT(t.table_name USING"
        " ascii))))";
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    bool has_names = run->target->outbox_count > 0;

    if (db_query(run->opts.source, sql, DB_NO_ARGS, &rows, &err) != OBX_OK)
        return complain(run->target->source, &err);
    for (size_t i = 0; db_rows_next(rows) && i < RECONCILE_TABLES_MAX; i++) {
        *now_us = db_rows_u64(rows, 0);
        (void)bytes_to_text(db_rows_bytes(rows, 1), run->outboxes[i], NAME_MAX_LEN);
        if (!has_names)
            run->opts.outboxes[run->opts.outbox_count++] = run->outboxes[i];
    }
    for (size_t i = 0; has_names && i < run->target->outbox_count && i < RECONCILE_TABLES_MAX; i++)
        run->opts.outboxes[run->opts.outbox_count++] = run->target->outboxes[i];
    db_rows_free(rows);
    return CTL_OK;
}

static enum ctl_exit set_topics(struct run *run)
{
    char *save = NULL;

    if (run->args->text[CTL_TOPIC] == NULL)
        return CTL_OK;
    run->topics = strdup(run->args->text[CTL_TOPIC]);
    if (run->topics == NULL)
        return CTL_FAILED;
    for (char *word = strtok_r(run->topics, ", ", &save); word != NULL;
         word = strtok_r(NULL, ", ", &save)) {
        if (run->opts.topic_count == RECONCILE_TOPICS_MAX)
            return ctl_usage(run->args, "--topic takes 16 topics at most");
        run->opts.topics[run->opts.topic_count++] = word;
    }
    return CTL_OK;
}

/* ---- what is found ---- */

static void on_finding(const struct reconcile_finding *finding, void *ctx)
{
    struct run *run = ctx;
    struct obx_buf line = {0};
    json_t *object;

    if (run->shown++ >= run->args->limit)
        return;
    if (run->list != NULL) {
        object = json_pack("{s:s}", "kind", reconcile_kind_name(finding->kind));
        json_set_text(object, "message_id", finding->id);
        json_set_text(object, "topic", finding->topic);
        json_set_time(object, "created_at", finding->created);
        json_array_append_new(run->list, object);
        return;
    }
    progress_end(&run->progress);
    text_add_clean(&line, finding->id);
    buf_add_text(&line, "  ");
    text_add_clean(&line, finding->topic);
    buf_add_text(&line, "  ");
    text_add_clean(&line, finding->created);
    printf("%-22s %s\n", reconcile_kind_name(finding->kind), line.data);
    buf_fini(&line);
}

static void on_progress(uint64_t at_us, void *ctx)
{
    struct run *run = ctx;

    if (at_us > run->opts.from_us)
        progress_set(&run->progress, (at_us - run->opts.from_us) / US_PER_S);
}

/* What is missing may be in a queue whose consumers are dead. The databases do not know which queues
 * those are; the operator may say it. */
static enum ctl_exit ask_queues(struct run *run)
{
    const struct relay_config *config = run->config;
    char *save = NULL, *names;

    run->queues = json_array();
    if (run->args->text[CTL_QUEUE] == NULL)
        return CTL_OK;
    if (config == NULL)
        return ctl_usage(run->args, "--queue needs a configuration, which names the broker");
    names = strdup(run->args->text[CTL_QUEUE]);
    for (char *name = strtok_r(names, ", ", &save); name != NULL;
         name = strtok_r(NULL, ", ", &save)) {
        struct obx_err err = {0};
        uint64_t messages = 0, consumers = 0;
        json_t *queue;

        if (check_queue_depth(config, name, &messages, &consumers, &err) == OBX_OK)
            queue = json_pack("{s:s, s:I, s:I}", "queue", name, "messages", (json_int_t)messages,
                              "consumers", (json_int_t)consumers);
        else
            queue = json_pack("{s:s, s:n, s:n, s:s}", "queue", name, "messages", "consumers",
                              "error", err.text);
        json_array_append_new(run->queues, queue);
    }
    free(names);
    return CTL_OK;
}

static void print_queues(const struct run *run, bool is_missing)
{
    const json_t *queue;
    size_t i;
    char text[HUMAN_MAX];

    json_array_foreach(run->queues, i, queue)
    {
        const char *name = json_string_value(json_object_get(queue, "queue"));
        const char *error = json_string_value(json_object_get(queue, "error"));
        const uint64_t messages = (uint64_t)json_integer_value(json_object_get(queue, "messages"));

        printf("queue %s: ", name);
        if (error != NULL)
            text_print_clean(stdout, error);
        else
            printf("%s messages, %" JSON_INTEGER_FORMAT " consumers",
                   human_count(messages, false, text),
                   json_integer_value(json_object_get(queue, "consumers")));
        putchar('\n');
    }
    if (is_missing && json_array_size(run->queues) == 0)
        printf(
            "how deep the queues of the group are is not known: --queue NAMES asks the broker of "
            "--config\n");
}

static uint64_t on_the_way(const struct reconcile_result *result)
{
    uint64_t sum = 0;

    for (unsigned kind = RECONCILE_OUTBOX; kind < RECONCILE_KINDS; kind++)
        sum += result->found[kind];
    return sum;
}

static void print_text(const struct run *run, const struct reconcile_result *result)
{
    char text[HUMAN_MAX];

    if (run->shown > run->args->limit)
        printf("... and %s more; --limit shows more\n",
               human_count(run->shown - run->args->limit, false, text));
    printf("%-22s %s\n", "published", human_count(result->compared, false, text));
    printf("%-22s %s\n", "applied", human_count(result->applied, false, text));
    for (unsigned kind = 0; kind < RECONCILE_KINDS; kind++) {
        if (result->found[kind] > 0 || kind <= RECONCILE_EXTRA)
            printf("%-22s %s\n", reconcile_kind_name((enum reconcile_kind)kind),
                   human_count(result->found[kind], false, text));
    }
    if (result->found[RECONCILE_MISSING] > 0)
        printf(
            "missing: published, and in no table since; in a queue whose consumers do not take it, "
            "or lost. Look into the queues of the group first: what is in one comes by itself.\n");
    print_queues(run, result->found[RECONCILE_MISSING] > 0);
}

static void print_json(struct run *run, const struct reconcile_result *result)
{
    json_t *object =
        json_pack("{s:I, s:I, s:I, s:I}", "published", (json_int_t)result->compared, "applied",
                  (json_int_t)result->applied, "unsettled", (json_int_t)result->unsettled,
                  "on_the_way", (json_int_t)on_the_way(result));
    json_t *counts = json_object();

    for (unsigned kind = 0; kind < RECONCILE_KINDS; kind++)
        json_object_set_new(counts, reconcile_kind_name((enum reconcile_kind)kind),
                            json_integer((json_int_t)result->found[kind]));
    json_object_set_new(object, "found", counts);
    json_object_set(object, "messages", run->list);
    json_object_set(object, "queues", run->queues);
    json_print(object);
    json_decref(object);
}

/* What is on the way may arrive: only a second look tells, so it has a status of its own. */
static enum ctl_exit status_of(const struct reconcile_result *result)
{
    if (result->found[RECONCILE_MISSING] > 0 || result->found[RECONCILE_EXTRA] > 0)
        return (enum ctl_exit)EXIT_DIFFERS;
    return on_the_way(result) > 0 ? (enum ctl_exit)EXIT_ON_THE_WAY : CTL_OK;
}

static enum ctl_exit compare(struct run *run)
{
    struct reconcile_result result;
    struct obx_err err = {0};
    enum obx_code rc;

    run->opts.on_finding = on_finding;
    run->opts.on_progress = on_progress;
    run->opts.ctx = run;
    run->opts.all_ids = run->args->text[CTL_ALL_IDS] != NULL;
    if (run->args->json)
        run->list = json_array();
    progress_begin(&run->progress, "seconds of the range",
                   (run->opts.to_us - run->opts.from_us) / US_PER_S + 1);
    rc = reconcile_run(&run->opts, &result, &err);
    progress_end(&run->progress);
    if (rc != OBX_OK)
        return complain("reconcile", &err);
    if (run->args->json)
        print_json(run, &result);
    else
        print_text(run, &result);
    return status_of(&result);
}

static enum ctl_exit prepare(struct run *run)
{
    uint64_t now_us = 0;
    enum ctl_exit status = run->target == NULL ? CTL_USAGE : set_consumer(run);

    if (status == CTL_OK)
        status = set_topics(run);
    if (status == CTL_OK)
        status = open_both(run);
    if (status == CTL_OK)
        status = ask_source(run, &now_us);
    if (status == CTL_OK)
        status = set_range(run, now_us);
    return status == CTL_OK ? ask_queues(run) : status;
}

static enum ctl_exit run_reconcile(const struct ctl_args *args)
{
    struct run run = {.args = args, .opts = {.group = args->text[CTL_GROUP]}};
    struct targets targets;
    enum ctl_exit status = targets_open(args, &targets);

    if (status != CTL_OK)
        return status;
    run.target = targets_single(&targets);
    run.config = targets.config;
    status = prepare(&run);
    if (status == CTL_OK)
        status = compare(&run);
    json_decref(run.list);
    json_decref(run.queues);
    db_close(run.opts.source);
    db_close(run.opts.consumer);
    db_close(run.opts.source_scan);
    db_close(run.opts.consumer_scan);
    db_url_fini(&run.url);
    free(run.topics);
    memset(run.password, 0, sizeof(run.password));
    targets_close(&targets);
    return status;
}

const struct ctl_command reconcile_commands[] = {
    {.name = "reconcile",
     .options = CTL_TARGET | CTL_BIT(GROUP) | CTL_BIT(CONSUMER_DB) |
                CTL_BIT(CONSUMER_PASSWORD_FILE) | CTL_BIT(QUEUE) | CTL_BIT(FROM) | CTL_BIT(TO) |
                CTL_BIT(TOPIC) | CTL_BIT(GRACE) | CTL_BIT(ALL_IDS) | CTL_BIT(LIMIT),
     .summary = "compare a source with a consumer",
     .synopsis = "--group GROUP --consumer-db URL [--from TIME] [--to TIME] [--topic TOPICS]",
     .help =
         "Compares what a source has committed in a range of time with what a consumer group\n"
         "has applied, across the two databases, and says what is missing, extra, or still\n"
         "on the way. Changes nothing. The relay must keep a journal: journal = yes in\n"
         "[source], and the tables of migrate --side journal.\n"
         "\n"
         "  --group GROUP         the consumer group\n"
         "  --consumer-db URL     its database, as --db\n"
         "  --consumer-password-file FILE\n"
         "                        the password for it is the first line of FILE\n"
         "  --queue NAMES         queues of the group, with commas between them: says how many\n"
         "                        messages and consumers they have, where a configuration names\n"
         "                        the broker\n"
         "  --from TIME           beginning of the range (65m), by the creation of the messages: "
         "UTC\n"
         "                        as 2026-11-25T10:00:00Z, or so long ago, as 2h or 7d\n"
         "  --to TIME             its end (5m), not part of it\n"
         "  --topic TOPICS        what the group is to apply: topics with commas between them; a\n"
         "                        '*' at the end stands for the rest. Without it everything\n"
         "  --grace TIME          what was published less long ago may be in a queue still (5m)\n"
         "  --all-ids             look for extra messages among ids without a time in them, too:\n"
         "                        reads all of the group's dedup rows\n"
         "  --limit N             print so many messages at most (50); the counts are always "
         "whole\n",
     .exits = "0 all applied, 3 something is missing or extra, 4 something is on the way,\n"
              "2 wrong command line or configuration, 1 anything else",
     .run = run_reconcile},
    {0}};
