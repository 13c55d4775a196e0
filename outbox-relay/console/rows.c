/*
 * The kinds of rows and what may be done with each. A new action of ops is a row here. Called by the
 * pages of rows and actions.
 */
#include "rows.h"

#include <string.h>

enum { ROWS_LIMIT = 50, ROWS_LIMIT_MAX = 200 };

static const struct rows_action parked_actions[] = {
    {"resume", "Resume", &parked_resume, ROLE_OPERATOR,
     "put back into the outbox under their old ids, and published again"},
    {"discard", "Discard", &parked_discard, ROLE_ADMIN,
     "deleted for ever: they will never be published"}};
static const struct rows_action dead_actions[] = {
    {"replay", "Replay", &dead_replay, ROLE_OPERATOR, "tried again by a consumer of their group"},
    {"force-replay", "Replay by force", &dead_force_replay, ROLE_ADMIN,
     "tried again even where dedup rows may be gone or the producer knows of the rejection"},
    {"discard", "Discard", &dead_discard, ROLE_ADMIN,
     "deleted for ever: they will never be applied"}};
static const struct rows_action inbox_actions[] = {
    {"replay", "Replay", &inbox_replay, ROLE_OPERATOR, "given to the workers again"},
    {"discard", "Discard", &inbox_discard, ROLE_ADMIN, "ended for ever; their keys go on"}};
static const struct rows_action notify_actions[] = {
    {"resend", "Send again", &notify_resend, ROLE_OPERATOR,
     "called again, with a whole schedule before them"}};
static const struct rows_action half_actions[] = {
    {"resume", "Ask again", &half_resume, ROLE_OPERATOR, "asked about again, from the start"},
    {"commit", "Commit", &half_commit, ROLE_ADMIN,
     "decided: the local transaction took place, and their messages go out"},
    {"rollback", "Roll back", &half_rollback, ROLE_ADMIN,
     "decided: the local transaction did not take place and never will"}};
#define ACTIONS_OF(array) .actions = (array), .action_count = sizeof(array) / sizeof((array)[0])

static const struct rows kinds[] = {
    {.path = "/parked",
     .title = "Parked",
     .resource = &parked_rows,
     ACTIONS_OF(parked_actions),
     .groups = "SELECT topic, reason_code, outbox, COUNT(*), MIN(parked_at), MAX(parked_at) FROM"
               " (SELECT topic, reason_code, outbox, parked_at FROM outbox_parked FORCE INDEX"
               " (PRIMARY) ORDER BY parked_id LIMIT 10001) t GROUP BY topic, reason_code, outbox"
               " ORDER BY 4 DESC LIMIT 200",
     .group_of = "outbox"},
    {.path = "/dead",
     .title = "Dead",
     .resource = &dead_rows,
     .is_consumer = true,
     ACTIONS_OF(dead_actions),
     .groups =
         "SELECT topic, reason_code, consumer_group, COUNT(*), MIN(parked_at), MAX(parked_at)"
         " FROM (SELECT topic, reason_code, consumer_group, parked_at, state FROM inbox_parked"
         " FORCE INDEX (PRIMARY) ORDER BY id LIMIT 10001) t WHERE state = 'dead' GROUP BY"
         " topic, reason_code, consumer_group ORDER BY 4 DESC LIMIT 200",
     .group_of = "group"},
    {.path = "/inbox",
     .title = "Inbox",
     .resource = &inbox_rows,
     .is_consumer = true,
     ACTIONS_OF(inbox_actions)},
    {.path = "/notify",
     .title = "Notifications",
     .resource = &notify_rows,
     .is_consumer = true,
     ACTIONS_OF(notify_actions)},
    {.path = "/half", .title = "Half-messages", .resource = &half_rows, ACTIONS_OF(half_actions)},
};

const struct rows *rows_of(const char *path)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const size_t len = strlen(kinds[i].path);

        if (strncmp(path, kinds[i].path, len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return &kinds[i];
    }
    return NULL;
}

const char *rows_refusal(const struct page *page, const struct rows_action *action)
{
    if (page->access.role >= action->role)
        return NULL;
    return action->role == ROLE_ADMIN ? "needs the role admin" : "needs the role operator";
}

/* The words of the filters are those of outboxctl. */
static const char *const option_names[] = {
#define OPTION_NAME(id, name, value, help) name,
    CTL_OPTIONS(OPTION_NAME)};

bool rows_args(struct page *page, const struct rows *rows, struct ctl_args *args)
{
    const struct resource *resource = rows->resource;
    const char *limit = params_get(&page->params, "limit");
    const char *state = NULL;
    uint64_t number = ROWS_LIMIT;

    for (size_t i = 0; i < resource->filter_count; i++) {
        const enum ctl_option option = resource->filters[i].option;

        args->text[option] = params_get(&page->params, option_names[option]);
    }
    if (resource->states != NULL)
        args->text[CTL_STATE] = params_get(&page->params, "state");
    args->text[CTL_AFTER] = params_get(&page->params, "after");
    if (limit != NULL && !ctl_parse_number(limit, ROWS_LIMIT_MAX, &number))
        number = 0;
    args->limit = (uint32_t)number;
    if (number == 0 || !resource_state(args, resource, &state) ||
        (args->text[CTL_AFTER] != NULL &&
         !resource_key_is_valid(resource, args->text[CTL_AFTER]))) {
        page_say(page, 400, rows->title, "limit, state or after is none that there is");
        return false;
    }
    return true;
}

/* Half-messages are in the source that [half] names. */
static bool half_target(struct page *page, struct target *target)
{
    const struct relay_config *config = page->config;
    const struct source_config *source = relay_config_source(config, config->half.source);

    if (source == NULL) {
        page_say(page, 404, "Half-messages", "This relay has no half-messages ([half] source).");
        return false;
    }
    *target = (struct target){.source = source->name, .db = source->lane.db};
    return true;
}

bool rows_open(struct page *page, const struct rows *rows, const struct ctl_args *args,
               struct target *target, struct session *session)
{
    struct obx_err err = {0};

    *session = (struct session){.args = args, .resource = rows->resource, .target = target};
    session->targets.config = page->config;
    if (rows->resource == &half_rows ? !half_target(page, target)
                                     : !page_target(page, rows->is_consumer, target))
        return false;
    if (!page_open(page, target, &session->db))
        return false;
    if (schema_check(session->db, rows->resource->side, &err) == OBX_OK)
        return true;
    page_fail(page, target->source, &err);
    rows_close(page, session);
    return false;
}

void rows_close(struct page *page, struct session *session)
{
    page_close(page, session->db);
    session->db = NULL;
}
