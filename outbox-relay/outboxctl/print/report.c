/*
 * The command of a resource's action: checks the command line, runs the request, reports row by row.
 * Called by the commands of the resources.
 */
#include "report.h"

#include <inttypes.h>
#include <string.h>

#include "json_print.h"
#include "ops/human.h"
#include "progress.h"
#include "resource_page.h"
#include "table.h"

enum { LINES_MAX = 20 /* so many rows have a line of their own in the report */ };

/* ---- the report ---- */

static void print_item(const struct request *request, const struct item *item)
{
    const char *note = request_note(request, item);

    if (item->word != NULL)
        text_print_clean(stdout, item->word);
    else
        printf("%" PRIu64, item->id);
    printf(": %s%s", request_word(request, item->fate), note == NULL ? "" : ": ");
    text_print_clean(stdout, note == NULL ? "" : note);
    putchar('\n');
}

/* Rows that were refused have a line in any case, up to a limit; then numbers of each fate. */
static void print_text(const struct request *request)
{
    static const enum fate fates[] = {FATE_DONE, FATE_WAITING, FATE_REFUSED};
    size_t lines = 0;
    char number[HUMAN_MAX];

    for (size_t i = 0; i < request->count && lines < LINES_MAX; i++) {
        if (request->count > LINES_MAX && request->items[i].fate != FATE_REFUSED)
            continue;
        print_item(request, &request->items[i]);
        lines++;
    }
    for (size_t i = 0; i < sizeof(fates) / sizeof(fates[0]); i++) {
        size_t count = request_count(request, fates[i]);

        if (count > 0)
            printf("%s %s\n", human_count(count, false, number), request_word(request, fates[i]));
    }
    if (request->count == 0)
        printf("nothing fits\n");
    request_explain(request, stdout);
}

/* Item by item, because there may be any number of them. */
static void print_json(const struct request *request)
{
    static const char *const results[] = {"requested", "done", "refused"}; /* of each fate */
    const char *key = request->session.resource->columns[0].json;

    printf("{\"found\": %zu, \"done\": %zu, \"requested\": %zu, \"refused\": %zu, \"items\": [",
           request->count, request_count(request, FATE_DONE), request_count(request, FATE_WAITING),
           request_count(request, FATE_REFUSED));
    for (size_t i = 0; i < request->count; i++) {
        const struct item *item = &request->items[i];
        json_t *object = json_pack("{s:s, s:s?}", "result", results[item->fate], "note",
                                   request_note(request, item));

        json_object_set_new(object, key,
                            item->word != NULL ? json_string(item->word)
                                               : json_integer((json_int_t)item->id));
        fputs(i == 0 ? "\n  " : ",\n  ", stdout);
        json_print_part(object);
        json_decref(object);
    }
    printf("]}\n");
    request_explain(request, stderr);
}

static enum ctl_exit report(const struct request *request)
{
    if (request->session.args->json)
        print_json(request);
    else
        print_text(request);
    if (request_count(request, FATE_REFUSED) > 0 ||
        (request->count == 0 && request->action->empty_is_failure))
        return CTL_FAILED;
    /* A caller that does not wait asks for the request to be written, and that it is. */
    return request_count(request, FATE_WAITING) > 0 && request->session.args->wait_s > 0
               ? CTL_FAILED
               : CTL_OK;
}

/* ---- the command ---- */

/* All that can be said without a database, so that a mistake costs nothing and changes nothing. */
static enum ctl_exit check_usage(const struct ctl_args *args, const struct resource *resource,
                                 const struct action *action)
{
    const char *note = args->text[CTL_NOTE];
    const char *state = NULL;
    uint64_t rate = 0;

    if (args->word_count == 0 && resource->has_text_key)
        return ctl_usage(args, "which ones? IDs, as %s list shows them", resource->group);
    if (args->word_count == 0 && !request_has_filter(args, resource))
        return ctl_usage(args, "which ones? IDs, a filter, or --all");
    if (args->word_count > 0 && !resource->has_text_key && request_has_filter(args, resource))
        return ctl_usage(args, "either IDs or a filter or --all, not both");
    if (args->word_count > REQUEST_IDS_MAX)
        return ctl_usage(args, "so many IDs: use a filter");
    if (action->needs_note != NULL && (note == NULL || note[0] == '\0'))
        return ctl_usage(args, "%s: --note TEXT", action->needs_note);
    if (args->text[CTL_RATE] != NULL &&
        (!ctl_parse_number(args->text[CTL_RATE], UINT32_MAX, &rate) || rate == 0))
        return ctl_usage(args, "--rate is how many in a second");
    if (args->text[CTL_STATE] != NULL && !takes_state(args, resource, &state))
        return CTL_USAGE;
    for (size_t i = 0; i < args->word_count; i++)
        if (!takes_key(args, resource, args->words[i]))
            return CTL_USAGE;
    return CTL_OK;
}

/* Only now it is known how many rows a filter means, which is what one has to know to say yes. */
static bool is_sure(const struct request *request)
{
    const struct ctl_args *args = request->session.args;
    char number[HUMAN_MAX];

    if (!request->action->needs_yes || args->word_count > 0 || args->text[CTL_YES] != NULL ||
        request->count == 0)
        return true;
    ctl_usage(args, "this would %s %s messages for ever; add --yes to do it",
              request->action->request, human_count(request->count, false, number));
    return false;
}

/* One bar after the other: a word of its own for asking, and for what becomes of it. */
static void on_progress(const struct request *request, const char *word, uint64_t done,
                        uint64_t total)
{
    struct progress *bar = request->ctx;

    if (bar->word == NULL || strcmp(bar->word, word) != 0 || bar->total != total) {
        progress_end(bar);
        progress_begin(bar, word, total);
    }
    progress_set(bar, done);
}

static enum ctl_exit run(struct request *request)
{
    struct progress bar = {0};
    struct obx_err err = {0};
    enum ctl_exit status;
    enum obx_code rc;

    if (request_collect(request, &err) != OBX_OK)
        return session_fail(&request->session, &err);
    if (!is_sure(request))
        return CTL_USAGE;
    request->on_progress = on_progress;
    request->ctx = &bar;
    rc = request_perform(request, &err);
    progress_end(&bar);
    if (rc != OBX_OK) {
        (void)session_fail(&request->session, &err);
        if (rc != OBX_E_TIMEOUT)
            return CTL_FAILED;
    }
    status = report(request);
    return rc == OBX_OK ? status : CTL_FAILED;
}

enum ctl_exit request_run(const struct ctl_args *args, const struct resource *resource,
                          const struct action *action, struct obx_bytes body)
{
    struct request request = {.action = action, .note = args->text[CTL_NOTE], .body = body};
    enum ctl_exit status = check_usage(args, resource, action);

    if (status == CTL_OK)
        status = resource_open(args, resource, &request.session);
    if (status != CTL_OK)
        return status;
    who_am_i(request.by);
    status = run(&request);
    request_fini(&request);
    session_close(&request.session);
    return status;
}

enum ctl_exit request_command(const struct ctl_args *args)
{
    const struct requested *requested = args->command->subject;

    return request_run(args, requested->resource, requested->action, (struct obx_bytes){0});
}
