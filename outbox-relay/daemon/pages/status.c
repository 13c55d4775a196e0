/*
 * Writes the state with jansson. A member that cannot be added for want of memory makes the whole
 * answer fail, so that nobody reads half a state. Called by admin.c.
 */
#include "status.h"

#include <stdlib.h>

#include <jansson.h>

#include "daemon/receipts_role.h"
#include "readiness.h"

enum { US_PER_MS = 1000 };

/* Adds one text member; text that is not UTF-8 (a server's message) is said to be so rather than
 * fail the answer. */
static int add_text(json_t *object, const char *name, const char *text)
{
    json_t *value = json_string(text);

    if (value == NULL)
        value = json_string("(not UTF-8)");
    return json_object_set_new(object, name, value);
}

static int add_u64(json_t *object, const char *name, uint64_t value)
{
    return json_object_set_new(object, name, json_integer((json_int_t)value));
}

static int add_bool(json_t *object, const char *name, bool value)
{
    return json_object_set_new(object, name, json_boolean(value));
}

/* Success is 0, and so is the sum of nothing but successes. The names are those of the lists that
 * make the structs and the metrics too. */
#define ADD_MEMBER(member, ...) rc |= add_u64(object, #member, stats->member);

static int add_numbers(json_t *object, const struct lane_stats *stats)
{
    int rc = 0;

    LANE_COUNTERS(ADD_MEMBER)
    LANE_GAUGES(ADD_MEMBER)
    rc |= add_bool(object, "waiting_capped", stats->waiting_capped);
    return rc | add_u64(object, "oldest_age_ms", stats->oldest_age_us / US_PER_MS);
}

static int add_lease(json_t *lane, const struct lane_stats *stats)
{
    json_t *lease = json_object();
    int rc = 0;

    rc |= add_u64(lease, "epoch", stats->lease_epoch);
    rc |= add_text(lease, "owner", stats->lease_owner);
    rc |= add_text(lease, "address", stats->lease_address);
    return rc | json_object_set_new(lane, "lease", lease);
}

static int add_identity(json_t *object, const struct lane_view *lane)
{
    char reason[OBX_ERR_TEXT_MAX];
    bool is_ready = lane_view_is_ready(lane, reason, sizeof(reason));
    int rc = 0;

    rc |= add_text(object, "source", lane->source);
    rc |= add_text(object, "outbox", lane->outbox);
    rc |= add_bool(object, "ready", is_ready);
    rc |= add_text(object, "state",
                   lane->slot == SLOT_WAITING ? slot_state_name(lane->slot)
                                              : lane_state_name(lane->stats.state));
    return rc | add_text(object, "reason", reason);
}

static int add_lane_short(json_t *lanes, const struct lane_view *lane)
{
    json_t *object = json_object();
    int rc = add_identity(object, lane);

    return rc | json_array_append_new(lanes, object);
}

static int add_lane(json_t *lanes, const struct lane_view *lane)
{
    json_t *object = json_object();
    int rc = add_identity(object, lane);

    rc |= add_text(object, "broker", bridge_state_name(lane->stats.broker_state));
    rc |= add_u64(object, "starts", lane->starts);
    rc |= add_lease(object, &lane->stats);
    rc |= add_numbers(object, &lane->stats);
    return rc | json_array_append_new(lanes, object);
}

static int add_lanes(json_t *root, const struct relay_view *view,
                     int (*add)(json_t *lanes, const struct lane_view *lane))
{
    json_t *lanes = json_array();
    int rc = 0;

    for (size_t i = 0; i < view->lane_count; i++)
        rc |= add(lanes, &view->lanes[i]);
    return rc | json_object_set_new(root, "lanes", lanes);
}

static int add_readiness(json_t *root, const struct relay_view *view)
{
    char summary[2 * OBX_ERR_TEXT_MAX];
    int rc = add_bool(root, "ready", relay_view_summary(view, summary, sizeof(summary)));

    return rc | add_text(root, "reason", summary);
}

static int add_topology(json_t *root, const struct topology_view *view)
{
    json_t *topology = json_object();
    int rc = 0;

    rc |= add_bool(topology, "wanted", view->is_wanted);
    rc |= add_bool(topology, "done", view->is_done);
    rc |= add_text(topology, "condition", view->trouble);
    return rc | json_object_set_new(root, "topology", topology);
}

static int add_receipts(json_t *root, const struct relay_view *view)
{
    json_t *array = json_array();
    int rc = 0;

    for (size_t i = 0; i < view->receipts_count; i++) {
        const struct receipts_stats *stats = &view->receipts[i].stats;
        json_t *object = json_object();

        rc |= add_text(object, "source", view->receipts[i].source);
        rc |= add_bool(object, "database", stats->db_up != 0);
        rc |= add_bool(object, "broker", stats->broker_up != 0);
        RECEIPTS_NUMBERS(ADD_MEMBER)
        rc |= add_text(object, "condition", stats->trouble);
        rc |= json_array_append_new(array, object);
    }
    return rc | json_object_set_new(root, "receipts", array);
}

static int add_fleets(json_t *root, const struct relay_view *view)
{
    json_t *array = json_array();
    int rc = 0;

    for (size_t i = 0; i < view->fleet_count; i++) {
        const struct fleet_view *fleet = &view->fleets[i].view;
        json_t *object = json_object();

        rc |= add_text(object, "source", view->fleets[i].source);
        rc |= add_u64(object, "relays", fleet->relays);
        rc |= add_u64(object, "lanes_mine", fleet->mine);
        rc |= add_text(object, "condition", fleet->trouble);
        rc |= json_array_append_new(array, object);
    }
    return rc | json_object_set_new(root, "fleet", array);
}

static int add_bell(json_t *root, const struct bell_stats *stats)
{
    json_t *object = json_object();
    int rc = 0;

    BELL_COUNTERS(ADD_MEMBER)
    return rc | json_object_set_new(root, "doorbell", object);
}

static int add_process(json_t *root, const struct relay_view *view)
{
    json_t *process = json_object();
    int rc = 0;

    rc |= add_text(process, "version", view->version);
    rc |= add_text(process, "owner", view->owner);
    rc |= add_u64(process, "uptime_ms", view->uptime_us / US_PER_MS);
    rc |= add_u64(process, "resident_bytes", view->process.resident_bytes);
    rc |= add_u64(process, "cpu_ms", view->process.cpu_us / US_PER_MS);
    rc |= add_u64(process, "open_fds", view->process.open_fds);
    rc |= add_u64(process, "reloads", view->reloads);
    rc |= add_u64(process, "reloads_refused", view->reloads_refused);
    rc |= add_bool(process, "restart_needed", view->restart_needed);
    rc |= add_bool(process, "stopping", view->is_stopping);
    return rc | json_object_set_new(root, "relay", process);
}

/* Takes root. */
static enum obx_code write_json(json_t *root, int rc, struct obx_buf *out)
{
    char *text = rc == 0 ? json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    enum obx_code code = OBX_E_NOMEM;

    if (text != NULL)
        code = buf_addf(out, "%s\n", text);
    free(text);
    json_decref(root);
    return code;
}

enum obx_code status_write_readiness(const struct relay_view *view, struct obx_buf *out)
{
    json_t *root = json_object();
    int rc = add_readiness(root, view) | add_lanes(root, view, add_lane_short);

    return write_json(root, rc, out);
}

enum obx_code status_write(const struct relay_view *view, struct obx_buf *out)
{
    json_t *root = json_object();
    int rc = add_readiness(root, view);

    rc |= add_process(root, view);
    rc |= add_topology(root, &view->topology);
    rc |= add_bell(root, &view->bell);
    rc |= add_receipts(root, view);
    rc |= add_fleets(root, view);
    rc |= add_lanes(root, view, add_lane);
    return write_json(root, rc, out);
}
