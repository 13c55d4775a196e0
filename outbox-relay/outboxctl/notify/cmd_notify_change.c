/*
 * outboxctl notify resend, pause and resume. What they write is heeded by the process that makes
 * the calls within a second or so.
 */
#include <inttypes.h>
#include <string.h>

#include "cmd_notify.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/progress.h"
#include "outboxctl/who.h"

enum { PORTION = 500, TOTAL_MAX = 1000000 };

/* ---- resend ---- */

static bool has_filter(const struct notify_filter *filter)
{
    return filter->endpoint != NULL || filter->state != NULL || filter->message_id != NULL ||
           filter->topic != NULL;
}

static bool add_ids(const struct ctl_args *args, struct obx_buf *ids)
{
    for (size_t i = 0; i < args->word_count; i++) {
        uint64_t id = 0;

        if (!notify_parse_id(args->words[i], &id)) {
            fprintf(stderr, "outboxctl: %s is no ID, as notify list shows it\n", args->words[i]);
            return false;
        }
        if (buf_addf(ids, "%c%" PRIu64, i == 0 ? '[' : ',', id) != OBX_OK)
            return false;
    }
    return args->word_count == 0 || buf_add_text(ids, "]") == OBX_OK;
}

static enum ctl_exit check_resend(const struct ctl_args *args, const struct notify_filter *filter)
{
    const char *what = NULL;

    if (args->word_count > 0 && (has_filter(filter) || args->all))
        what = "either IDs, or a filter, or --all";
    else if (args->word_count == 0 && !has_filter(filter) && !args->all)
        what = "which notifications? IDs, a filter, or --all";
    if (what == NULL)
        return notify_state_is_right(filter->state) ? CTL_OK : CTL_USAGE;
    fprintf(stderr, "outboxctl: %s; see outboxctl notify resend --help\n", what);
    return CTL_USAGE;
}

static enum obx_code resend_all(struct db *db, struct notify_filter *filter, uint64_t *total,
                                struct obx_err *err)
{
    struct progress progress;
    uint64_t after = 0, expected = 0, sent = 0;
    enum obx_code rc = notify_count(db, filter, TOTAL_MAX, &expected, err);

    filter->limit = PORTION;
    progress_begin(&progress, "due again", expected);
    while (rc == OBX_OK) {
        rc = notify_resend(db, filter, &after, &sent, err);
        *total += sent;
        progress_set(&progress, *total < expected ? *total : expected);
        if (after == 0)
            break;
    }
    progress_end(&progress);
    return rc;
}

static enum ctl_exit resend(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct notify_filter filter = notify_filter_of(args);
    struct obx_buf ids = {0};
    struct obx_err err = {0};
    char text[HUMAN_MAX];
    uint64_t total = 0;
    enum ctl_exit status = add_ids(args, &ids) ? CTL_OK : CTL_USAGE;

    filter.ids = ids.len > 0 ? ids.data : NULL;
    filter.finished_only = filter.ids == NULL && filter.message_id == NULL;
    if (status == CTL_OK && resend_all(db, &filter, &total, &err) != OBX_OK) {
        target_complain(target, &err);
        status = CTL_FAILED;
    }
    if (status == CTL_OK && args->json)
        printf("{\"due_again\": %" PRIu64 "}\n", total);
    else if (status == CTL_OK)
        printf("%s due again\n", human_count(total, false, text));
    buf_fini(&ids);
    return status == CTL_OK && total == 0 ? CTL_FAILED : status;
}

enum ctl_exit cmd_notify_resend(const struct ctl_args *args)
{
    const struct notify_filter filter = notify_filter_of(args);
    enum ctl_exit status = check_resend(args, &filter);

    return status == CTL_OK ? notify_run(args, resend) : status;
}

/* ---- pause, resume ---- */

static enum ctl_exit set_pause(const struct ctl_args *args, const struct target *target,
                               struct db *db, bool is_paused)
{
    char who[WHO_MAX];
    struct notify_pause pause = {.group = args->text[CTL_GROUP],
                                 .endpoint = args->words[0],
                                 .is_paused = is_paused,
                                 .reason = args->text[CTL_NOTE],
                                 .by = who};
    struct obx_err err = {0};
    bool is_known = false;
    enum obx_code rc;

    if (pause.group == NULL)
        pause.group = "notify";
    if (pause.reason == NULL)
        pause.reason = "";
    who_am_i(who);
    rc = notify_endpoint_known(db, pause.group, pause.endpoint, &is_known, &err);
    if (rc == OBX_OK && !is_known && !is_paused)
        rc = obx_fail(&err, OBX_E_NOT_FOUND, "nothing is known of an endpoint %s of group %s",
                      pause.endpoint, pause.group);
    if (rc == OBX_OK)
        rc = notify_set_pause(db, &pause, &err);
    if (rc != OBX_OK) {
        target_complain(target, &err);
        return CTL_FAILED;
    }
    printf("endpoint %s of group %s is %s%s\n", pause.endpoint, pause.group,
           is_paused ? "paused" : "active",
           is_known ? "" : " (there is no notification of it yet; is the name right?)");
    return CTL_OK;
}

static enum ctl_exit pause_endpoint(const struct ctl_args *args, const struct target *target,
                                    struct db *db)
{
    return set_pause(args, target, db, true);
}

static enum ctl_exit resume_endpoint(const struct ctl_args *args, const struct target *target,
                                     struct db *db)
{
    return set_pause(args, target, db, false);
}

static enum ctl_exit with_endpoint(const struct ctl_args *args, notify_run_fn *run)
{
    if (args->word_count == 1)
        return notify_run(args, run);
    fprintf(stderr, "outboxctl: %s takes the name of one endpoint\n", args->command->name);
    return CTL_USAGE;
}

enum ctl_exit cmd_notify_pause(const struct ctl_args *args)
{
    return with_endpoint(args, pause_endpoint);
}

enum ctl_exit cmd_notify_resume(const struct ctl_args *args)
{
    return with_endpoint(args, resume_endpoint);
}
