/*
 * The fleets. What is wanted is what the newest configuration says; a fleet that was made from other
 * values leaves and, once it has ended, is replaced. Called by daemon.c.
 */
#include "fleet_role.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/version.h"

enum { START_PAUSE_MS = 5000 };

struct part {
    struct fleet *fleet;
    struct relay_config *config; /* reference: what it was made from */
    const struct source_config *source;
    bool is_leaving;
};

struct fleet_role {
    const char *owner;
    struct wake news;
    struct relay_config *wanted; /* reference; NULL: none */
    struct part *parts;
    struct source_fleet *views; /* as many as parts */
    size_t count;
    uint64_t not_before_ms; /* after a start that failed */
};

enum obx_code fleet_role_create(const char *owner, struct fleet_role **out, struct obx_err *err)
{
    struct fleet_role *role = obx_calloc(1, sizeof(*role));
    enum obx_code rc = OBX_OK;

    *out = role;
    if (role == NULL)
        return obx_fail(err, OBX_E_NOMEM, "fleet");
    role->owner = owner;
    rc = wake_init(&role->news, err);
    if (rc != OBX_OK) {
        obx_free(role);
        *out = NULL;
    }
    return rc;
}

static void free_part(struct part *part)
{
    fleet_destroy(part->fleet);
    relay_config_unref(part->config);
}

void fleet_role_destroy(struct fleet_role *role)
{
    if (role == NULL)
        return;
    for (size_t i = 0; i < role->count; i++)
        fleet_stop(role->parts[i].fleet);
    for (size_t i = 0; i < role->count; i++)
        free_part(&role->parts[i]);
    relay_config_unref(role->wanted);
    wake_fini(&role->news);
    obx_free(role->parts);
    obx_free(role->views);
    obx_free(role);
}

void fleet_role_apply(struct fleet_role *role, struct relay_config *config)
{
    struct relay_config *old = role->wanted;

    role->wanted = config == NULL ? NULL : relay_config_ref(config);
    relay_config_unref(old);
    role->not_before_ms = 0;
}

bool fleet_role_is_idle(const struct fleet_role *role)
{
    return role == NULL || role->count == 0;
}

/* Outboxes are not among what restarts a lane: one more is one lane more. */
static bool has_same_outboxes(const struct source_config *a, const struct source_config *b)
{
    bool is_same = a->outbox_count == b->outbox_count;

    for (size_t i = 0; is_same && i < a->outbox_count; i++)
        is_same = strcmp(a->outboxes[i], b->outboxes[i]) == 0;
    return is_same;
}

static bool is_wanted(const struct fleet_role *role, const struct part *part)
{
    const struct source_config *source =
        role->wanted == NULL ? NULL : relay_config_source(role->wanted, part->source->name);

    return source != NULL && has_same_outboxes(part->source, source) &&
           relay_config_is_same(part->config, role->wanted, RESTARTS_LANE, source->name);
}

static struct part *find_part(const struct fleet_role *role, const char *source)
{
    for (size_t i = 0; i < role->count; i++) {
        if (strcmp(role->parts[i].source->name, source) == 0)
            return &role->parts[i];
    }
    return NULL;
}

/* Room for one more. */
static bool reserve(struct fleet_role *role)
{
    struct part *parts = obx_realloc(role->parts, (role->count + 1) * sizeof(*parts));
    struct source_fleet *views = NULL;

    if (parts == NULL)
        return false;
    role->parts = parts;
    views = obx_realloc(role->views, (role->count + 1) * sizeof(*views));
    if (views == NULL)
        return false;
    role->views = views;
    return true;
}

static enum obx_code start_one(struct fleet_role *role, const struct source_config *source,
                               struct obx_err *err)
{
    const struct fleet_opts opts = {.source = source->name,
                                    .db = source->lane.db,
                                    .relay = role->owner,
                                    .version = OBX_VERSION,
                                    .address = role->wanted->advertise_address,
                                    .weight = role->wanted->weight,
                                    .lease_ms = source->lane.lease_ms,
                                    .outboxes = source->outboxes,
                                    .outbox_count = source->outbox_count,
                                    .news = &role->news};
    struct part *part = NULL;
    enum obx_code rc = OBX_OK;

    if (!reserve(role))
        return obx_fail(err, OBX_E_NOMEM, "fleet");
    part = &role->parts[role->count];
    memset(part, 0, sizeof(*part));
    rc = fleet_create(&opts, &part->fleet, err);
    if (rc != OBX_OK)
        return rc;
    part->config = relay_config_ref(role->wanted);
    part->source = source;
    role->count++;
    return OBX_OK;
}

static void start_missing(struct fleet_role *role)
{
    struct obx_err err = {0};

    for (size_t i = 0; role->wanted != NULL && i < role->wanted->source_count; i++) {
        const struct source_config *source = &role->wanted->sources[i];

        if (!role->wanted->share || find_part(role, source->name) != NULL ||
            start_one(role, source, &err) == OBX_OK)
            continue;
        role->not_before_ms = clock_now_ms() + START_PAUSE_MS;
        OBX_LOG(LOG_LVL_ERROR, "fleet", "start_failed", KV_STR("source", source->name),
                KV_ERR(&err));
    }
}

void fleet_role_turn(struct fleet_role *role)
{
    for (size_t i = role->count; i > 0; i--) {
        struct part *part = &role->parts[i - 1];

        if (!part->is_leaving && !is_wanted(role, part)) {
            part->is_leaving = true;
            fleet_stop(part->fleet);
        }
        if (part->is_leaving && fleet_has_ended(part->fleet)) {
            free_part(part);
            *part = role->parts[--role->count];
        }
    }
    if (clock_now_ms() >= role->not_before_ms)
        start_missing(role);
}

int fleet_role_fd(const struct fleet_role *role)
{
    return role->news.fd;
}

void fleet_role_take_news(struct fleet_role *role)
{
    (void)wake_clear(&role->news);
}

bool fleet_role_is_elsewhere(const char *source, const char *outbox,
                             char address[FLEET_ADDRESS_MAX], void *ctx)
{
    const struct part *part = find_part(ctx, source);

    address[0] = '\0';
    return part != NULL && !part->is_leaving && fleet_is_elsewhere(part->fleet, outbox, address);
}

const struct source_fleet *fleet_role_views(struct fleet_role *role, size_t *count)
{
    for (size_t i = 0; i < role->count; i++) {
        role->views[i].source = role->parts[i].source->name;
        fleet_get_view(role->parts[i].fleet, &role->views[i].view);
    }
    *count = role->count;
    return role->views;
}
