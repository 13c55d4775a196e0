/*
 * outboxctl parked resume and parked discard: which messages, who asks and why, and what came of
 * it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "outboxctl/outbox_state.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/json_print.h"
#include "outboxctl/who.h"
#include "request_run.h"

enum { PAGE = 1000, LINES_MAX = 20, DECIMAL = 10 };

static enum ctl_exit complain(const char *what)
{
    fprintf(stderr, "outboxctl: %s\n", what);
    return CTL_USAGE;
}

static bool has_filter(const struct ctl_args *args)
{
    return args->all || args->text[CTL_OUTBOX] != NULL || args->text[CTL_TOPIC] != NULL ||
           args->text[CTL_REASON] != NULL || args->text[CTL_KEY] != NULL;
}

/* The words as "1,2,3". False when one is no id. */
static bool ids_of(const struct ctl_args *args, struct obx_buf *ids)
{
    for (size_t i = 0; i < args->word_count; i++) {
        char *end = NULL;
        uint64_t id;

        errno = 0;
        id = strtoull(args->words[i], &end, DECIMAL);
        if (errno != 0 || args->words[i][0] < '0' || args->words[i][0] > '9' || *end != '\0') {
            fprintf(stderr, "outboxctl: %s is no ID\n", args->words[i]);
            return false;
        }
        if (buf_addf(ids, "%s%" PRIu64, i == 0 ? "" : ",", id) != OBX_OK)
            return false;
    }
    return true;
}

static enum ctl_exit check_usage(const struct ctl_args *args, bool is_discard)
{
    if (args->word_count == 0 && !has_filter(args))
        return complain("which messages? IDs, a filter, or --all");
    if (args->word_count > 0 && has_filter(args))
        return complain("either IDs or a filter, not both");
    if (args->word_count > PAGE)
        return complain("so many IDs: use a filter");
    if (is_discard && (args->text[CTL_NOTE] == NULL || args->text[CTL_NOTE][0] == '\0'))
        return complain("discarding is for ever: say why with --note TEXT");
    return CTL_OK;
}

/* Every row that fits, page by page. */
static enum obx_code collect(struct request_run *run, const struct ctl_args *args, const char *ids,
                             struct obx_err *err)
{
    struct parked_filter filter = {.outbox = args->text[CTL_OUTBOX],
                                   .topic = args->text[CTL_TOPIC],
                                   .reason_code = args->text[CTL_REASON],
                                   .key = args->text[CTL_KEY],
                                   .ids = ids,
                                   .limit = PAGE};
    size_t found = PAGE;

    while (found == PAGE) {
        struct db_rows *rows = NULL;
        enum obx_code rc = parked_find(run->db, &filter, &rows, err);

        if (rc != OBX_OK)
            return rc;
        found = db_rows_count(rows);
        rc = request_add(run, rows);
        db_rows_free(rows);
        if (rc != OBX_OK)
            return obx_fail(err, rc, "list of messages");
        if (run->count > 0)
            filter.after = run->items[run->count - 1].parked_id;
    }
    return OBX_OK;
}

/* Of the ids that were given, those that are not parked. */
static enum ctl_exit complain_about_missing(const struct ctl_args *args,
                                            const struct request_run *run)
{
    enum ctl_exit status = CTL_OK;

    for (size_t i = 0; i < args->word_count; i++) {
        uint64_t id = strtoull(args->words[i], NULL, DECIMAL);
        bool is_there = false;

        for (size_t k = 0; k < run->count; k++)
            is_there = is_there || run->items[k].parked_id == id;
        if (!is_there) {
            fprintf(stderr, "outboxctl: there is no parked message %" PRIu64 "\n", id);
            status = CTL_FAILED;
        }
    }
    return status;
}

static const char *fate_text(const struct request_run *run, enum request_fate fate)
{
    const bool is_discard = strcmp(run->request.action, "discard") == 0;

    switch (fate) {
    case REQUEST_DONE:
        return is_discard ? "discarded" : "resumed";
    case REQUEST_WAITING:
        return "requested";
    case REQUEST_REFUSED:
        return "refused";
    case REQUEST_OTHER:
        return "has another request";
    }
    return "unknown";
}

/* Says of each outbox with requests that still stand why that may be. */
static void explain_waiting(const struct request_run *run, FILE *file)
{
    for (size_t i = 0; i < run->count; i++) {
        const char *outbox = run->items[i].outbox;
        struct outbox_state lease = {0};
        bool is_reported = run->items[i].fate != REQUEST_WAITING;

        for (size_t k = 0; k < i && !is_reported; k++)
            is_reported =
                run->items[k].fate == REQUEST_WAITING && strcmp(run->items[k].outbox, outbox) == 0;
        if (is_reported || outbox_lease_read(run->db, outbox, &lease, NULL) != OBX_OK)
            continue;
        if (lease.is_owned)
            fprintf(file, "outbox %s: its owner %s has not come to it yet; the request stands\n",
                    outbox, lease.owner);
        else
            fprintf(file,
                    "outbox %s: no relay owns it now; the request stands and is carried out as "
                    "soon as one does\n",
                    outbox);
    }
}

static void print_result(const struct request_run *run)
{
    static const enum request_fate fates[] = {REQUEST_DONE, REQUEST_WAITING, REQUEST_REFUSED,
                                              REQUEST_OTHER};
    char number[HUMAN_MAX];

    for (size_t i = 0; i < run->count; i++) {
        const struct request_item *item = &run->items[i];
        bool needs_line = item->fate == REQUEST_REFUSED || item->fate == REQUEST_OTHER;

        if (needs_line || run->count <= LINES_MAX)
            printf("%" PRIu64 ": %s%s%s\n", item->parked_id, fate_text(run, item->fate),
                   needs_line && item->note[0] != '\0' ? ": " : "", needs_line ? item->note : "");
    }
    for (size_t i = 0; i < sizeof(fates) / sizeof(fates[0]); i++) {
        size_t count = request_count(run, fates[i]);

        if (count > 0 && run->count > LINES_MAX)
            printf("%s %s\n", human_count(count, false, number), fate_text(run, fates[i]));
    }
    if (run->count == 0)
        printf("nothing fits\n");
    explain_waiting(run, stdout);
}

static void print_json(const struct request_run *run)
{
    json_t *list = json_array();

    for (size_t i = 0; i < run->count; i++) {
        const struct request_item *item = &run->items[i];

        json_array_append_new(list,
                              json_pack("{s:I, s:s, s:s, s:s}", "parked_id",
                                        (json_int_t)item->parked_id, "outbox", item->outbox, "fate",
                                        fate_text(run, item->fate), "note", item->note));
    }
    json_print(list);
    json_decref(list);
    explain_waiting(run, stderr);
}

static enum ctl_exit report(const struct request_run *run, const struct ctl_args *args)
{
    if (args->json)
        print_json(run);
    else
        print_result(run);
    if (request_count(run, REQUEST_REFUSED) + request_count(run, REQUEST_OTHER) > 0)
        return CTL_FAILED;
    /* Whoever does not wait asks for the request to be written, and that it is. */
    return request_count(run, REQUEST_WAITING) > 0 && args->wait_s > 0 ? CTL_FAILED : CTL_OK;
}

static bool is_sure(const struct ctl_args *args, const struct request_run *run, bool is_discard)
{
    char number[HUMAN_MAX];

    if (!is_discard || args->word_count > 0 || args->yes || run->count == 0)
        return true;
    fprintf(stderr, "outboxctl: this would discard %s messages for ever; add --yes if it shall\n",
            human_count(run->count, false, number));
    return false;
}

static enum ctl_exit run_request(struct request_run *run, const struct ctl_args *args,
                                 const char *ids, bool is_discard)
{
    struct obx_err err = {0};
    enum ctl_exit missing, status;

    if (collect(run, args, ids, &err) != OBX_OK) {
        target_complain(run->target, &err);
        return CTL_FAILED;
    }
    if (!is_sure(args, run, is_discard))
        return CTL_USAGE;
    missing = complain_about_missing(args, run);
    if (request_carry_out(run, &err) != OBX_OK) {
        target_complain(run->target, &err);
        if (err.code != OBX_E_TIMEOUT)
            return CTL_FAILED;
    }
    status = report(run, args);
    if (err.code == OBX_E_TIMEOUT)
        status = CTL_FAILED;
    return status == CTL_OK ? missing : status;
}

static enum ctl_exit with_target(const struct ctl_args *args, const char *ids, bool is_discard)
{
    char by[WHO_MAX];
    struct request_run run = {.request = {.action = is_discard ? "discard" : "resume",
                                          .by = by,
                                          .note = args->text[CTL_NOTE]},
                              .wait_s = args->wait_s};
    struct targets targets;
    enum ctl_exit status = targets_open(args, &targets);

    if (status != CTL_OK)
        return status;
    who_am_i(by);
    run.targets = &targets;
    run.target = targets_single(&targets);
    status = run.target == NULL ? CTL_USAGE : CTL_FAILED;
    if (run.target != NULL)
        run.db = target_connect(run.target);
    if (run.db != NULL)
        status = run_request(&run, args, ids, is_discard);
    request_run_fini(&run);
    db_close(run.db);
    targets_close(&targets);
    return status;
}

static enum ctl_exit request(const struct ctl_args *args, bool is_discard)
{
    struct obx_buf ids = {0};
    enum ctl_exit status = check_usage(args, is_discard);

    if (status == CTL_OK && !ids_of(args, &ids))
        status = CTL_USAGE;
    if (status == CTL_OK)
        status = with_target(args, args->word_count > 0 ? ids.data : NULL, is_discard);
    buf_fini(&ids);
    return status;
}

enum ctl_exit cmd_parked_resume(const struct ctl_args *args)
{
    return request(args, false);
}

enum ctl_exit cmd_parked_discard(const struct ctl_args *args)
{
    return request(args, true);
}
