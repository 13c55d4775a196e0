/*
 * Readiness. Called by admin.c, status.c, metrics.c and daemon.c, on the main thread.
 */
#include "readiness.h"

#include <stdio.h>

#include "daemon/half_role.h"
#include "daemon/receipts_role.h"

const char *slot_state_name(enum slot_state state)
{
    switch (state) {
    case SLOT_WAITING:
        return "waiting";
    case SLOT_RUNNING:
        return "running";
    case SLOT_DRAINING:
        return "draining";
    case SLOT_STOPPING:
        return "stopping";
    }
    return "unknown";
}

static bool not_ready(char *reason, size_t size, const char *what, const char *why)
{
    if (why == NULL || why[0] == '\0')
        snprintf(reason, size, "%s", what);
    else
        snprintf(reason, size, "%s: %s", what, why);
    return false;
}

static bool owner_is_ready(const struct lane_stats *stats, char *reason, size_t size)
{
    switch (stats->broker_state) {
    case BRIDGE_UP:
        break;
    case BRIDGE_DOWN:
        return not_ready(reason, size, "broker not connected", stats->trouble);
    case BRIDGE_BLOCKED:
        return not_ready(reason, size, "broker takes no messages (alarm)", stats->trouble);
    case BRIDGE_CLOSED:
        return not_ready(reason, size, "broker connection closed", stats->trouble);
    }
    if (stats->trouble[0] != '\0')
        return not_ready(reason, size, "owner with a condition", stats->trouble);
    return true;
}

/* Somebody else does the work: that is what a standby is ready for. */
static bool standby_is_ready(const struct lane_stats *stats, char *reason, size_t size)
{
    if (stats->trouble[0] != '\0')
        return not_ready(reason, size, "standby", stats->trouble);
    if (stats->is_served)
        return true;
    return not_ready(reason, size, "standby, and nobody works",
                     stats->lease_owner[0] == '\0' ? "no lease is held"
                                                   : "a lease of this relay is in doubt");
}

static bool running_is_ready(const struct lane_stats *stats, char *reason, size_t size)
{
    switch (stats->state) {
    case LANE_OWNER:
        return owner_is_ready(stats, reason, size);
    case LANE_STANDBY:
        return standby_is_ready(stats, reason, size);
    case LANE_STARTING:
        return not_ready(reason, size, "not yet connected to the database", stats->trouble);
    case LANE_DB_DOWN:
        return not_ready(reason, size, "database lost or unfit", stats->trouble);
    case LANE_DRAINING:
        return not_ready(reason, size, "draining", stats->trouble);
    case LANE_STOPPED:
        return not_ready(reason, size, "stopped", stats->trouble);
    }
    return not_ready(reason, size, "unknown state", stats->trouble);
}

bool lane_view_is_ready(const struct lane_view *lane, char *reason, size_t size)
{
    reason[0] = '\0';
    switch (lane->slot) {
    case SLOT_RUNNING:
        return running_is_ready(&lane->stats, reason, size);
    case SLOT_WAITING:
        return not_ready(reason, size, "not started", lane->trouble);
    case SLOT_DRAINING:
        return not_ready(reason, size, "draining", lane->stats.trouble);
    case SLOT_STOPPING:
        return not_ready(reason, size, "stopping", lane->stats.trouble);
    }
    return not_ready(reason, size, "unknown state", lane->trouble);
}

/* The first reader of receipts that cannot work; NULL: all can. */
static const struct receipts_view *unready_receipts(const struct relay_view *view)
{
    for (size_t i = 0; i < view->receipts_count; i++) {
        const struct receipts_stats *stats = &view->receipts[i].stats;

        if (!stats->db_up || !stats->broker_up || stats->trouble[0] != '\0')
            return &view->receipts[i];
    }
    return NULL;
}

/* How many lanes are, and the first that is not; NULL: all are. */
static const struct lane_view *unready_lane(const struct relay_view *view, size_t *ready)
{
    const struct lane_view *first = NULL;
    char reason[OBX_ERR_TEXT_MAX];

    *ready = 0;
    for (size_t i = 0; i < view->lane_count; i++) {
        if (lane_view_is_ready(&view->lanes[i], reason, sizeof(reason)))
            (*ready)++;
        else if (first == NULL)
            first = &view->lanes[i];
    }
    return first;
}

/* In the order in which a person would look: what holds up everything comes first. */
bool relay_view_summary(const struct relay_view *view, char *text, size_t size)
{
    size_t ready = 0;
    char reason[OBX_ERR_TEXT_MAX];
    const struct lane_view *lane = unready_lane(view, &ready);
    const struct receipts_view *receipts = unready_receipts(view);

    if (view->is_stopping)
        return not_ready(text, size, "stopping", NULL);
    if (!view->topology.is_done)
        return not_ready(text, size, "topology",
                         view->topology.trouble[0] == '\0' ? "not yet there"
                                                           : view->topology.trouble);
    if (view->half != NULL && !view->half->store.is_up)
        return not_ready(text, size, "half-messages", view->half->store.trouble);
    if (lane != NULL) {
        (void)lane_view_is_ready(lane, reason, sizeof(reason));
        snprintf(text, size, "%zu of %zu lanes ready; %s/%s: %s", ready, view->lane_count,
                 lane->source, lane->outbox, reason);
    } else if (receipts != NULL) {
        snprintf(text, size, "receipts of %s: %s", receipts->source,
                 receipts->stats.trouble[0] == '\0' ? "not yet connected"
                                                    : receipts->stats.trouble);
    } else {
        snprintf(text, size, "%zu lanes ready", ready);
    }
    return lane == NULL && receipts == NULL;
}

bool relay_view_is_ready(const struct relay_view *view)
{
    char text[2 * OBX_ERR_TEXT_MAX];

    return relay_view_summary(view, text, sizeof(text));
}
