/*
 * Turns the view of the relay into that of the console, which knows nothing of lanes. Called by
 * daemon.c.
 */
#include "console_role.h"

#include <stdio.h>

#include "base/alloc.h"
#include "console/console.h"
#include "daemon/pages/readiness.h"

struct console_role {
    struct console_role_opts opts;
    struct console *console;
    struct console_lane *lanes; /* owned, room for lane_room, as the next */
    char (*reasons)[OBX_ERR_TEXT_MAX];
    size_t lane_room;
};

/* Without memory the console shows fewer lanes than there are. */
static size_t make_room(struct console_role *role, size_t count)
{
    struct console_lane *lanes;
    char(*reasons)[OBX_ERR_TEXT_MAX];

    if (count <= role->lane_room)
        return count;
    lanes = obx_realloc(role->lanes, count * sizeof(*lanes));
    if (lanes != NULL)
        role->lanes = lanes;
    reasons = lanes == NULL ? NULL : obx_realloc(role->reasons, count * sizeof(*reasons));
    if (reasons == NULL)
        return role->lane_room;
    role->reasons = reasons;
    role->lane_room = count;
    return count;
}

static void get_view(struct console_view *view, void *ctx)
{
    struct console_role *role = ctx;
    struct relay_view relay = {0};

    role->opts.get_view(&relay, role->opts.ctx);
    view->owner = relay.owner;
    view->version = relay.version;
    view->uptime_us = relay.uptime_us;
    view->is_ready = relay_view_summary(&relay, view->summary, sizeof(view->summary));
    view->lane_count = make_room(role, relay.lane_count);
    view->lanes = role->lanes;
    for (size_t i = 0; i < view->lane_count; i++) {
        const struct lane_view *lane = &relay.lanes[i];
        const struct lane_stats *stats = &lane->stats;

        (void)lane_view_is_ready(lane, role->reasons[i], sizeof(role->reasons[i]));
        role->lanes[i] = (struct console_lane){.source = lane->source,
                                               .outbox = lane->outbox,
                                               .state = lane->slot == SLOT_WAITING
                                                            ? slot_state_name(lane->slot)
                                                            : lane_state_name(stats->state),
                                               .reason = role->reasons[i],
                                               .owner = stats->lease_owner,
                                               .epoch = stats->lease_epoch,
                                               .confirmed = stats->confirmed,
                                               .inflight = stats->inflight,
                                               .retrying = stats->retrying,
                                               .parked = stats->parked_now,
                                               .frozen_keys = stats->frozen_keys,
                                               .awaiting = stats->awaiting_now,
                                               .waiting = stats->waiting,
                                               .oldest_us = stats->oldest_age_us,
                                               .waiting_capped = stats->waiting_capped};
    }
}

static struct relay_config *get_config(void *ctx)
{
    const struct console_role *role = ctx;

    return *role->opts.config;
}

enum obx_code console_role_create(const struct console_role_opts *opts, struct console_role **out,
                                  struct obx_err *err)
{
    struct console_role *role = NULL;
    enum obx_code rc;

    *out = NULL;
    if ((*opts->config)->console.http.port == 0)
        return OBX_OK;
    role = obx_calloc(1, sizeof(*role));
    if (role == NULL)
        return obx_fail(err, OBX_E_NOMEM, "console");
    role->opts = *opts;
    rc = console_create(
        &(struct console_opts){
            .base = opts->base, .get_view = get_view, .get_config = get_config, .ctx = role},
        &role->console, err);
    if (rc != OBX_OK) {
        console_role_destroy(role);
        return rc;
    }
    *out = role;
    return OBX_OK;
}

void console_role_destroy(struct console_role *role)
{
    if (role == NULL)
        return;
    console_destroy(role->console);
    obx_free(role->lanes);
    obx_free(role->reasons);
    obx_free(role);
}
