/* See fake_lane.h. */
#include "fake_lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct lane fake_lanes[FAKE_LANES_MAX];
unsigned fake_lane_count;
unsigned fake_lane_start_failures;

void fake_lanes_reset(void)
{
    memset(fake_lanes, 0, sizeof(fake_lanes));
    fake_lane_count = 0;
    fake_lane_start_failures = 0;
}

struct lane *fake_lane_of(const char *source, const char *outbox)
{
    struct lane *found = NULL;

    for (unsigned i = 0; i < fake_lane_count; i++) {
        struct lane *lane = &fake_lanes[i];

        if (!lane->is_created || strcmp(lane->opts.source, source) != 0 ||
            strcmp(lane->opts.outbox, outbox) != 0)
            continue;
        assert_null(found);
        found = lane;
    }
    return found;
}

unsigned fake_lanes_alive(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < fake_lane_count; i++)
        count += fake_lanes[i].is_created;
    return count;
}

const char *lane_state_name(enum lane_state state)
{
    static const char *const names[] = {"starting", "standby",  "owner",
                                        "db_down",  "draining", "stopped"};

    return names[state];
}

enum obx_code lane_create(const struct lane_opts *opts, struct lane **out, struct obx_err *err)
{
    (void)err;
    assert_true(fake_lane_count < FAKE_LANES_MAX);
    *out = &fake_lanes[fake_lane_count++];
    (*out)->opts = *opts;
    (*out)->is_created = true;
    return OBX_OK;
}

enum obx_code lane_start(struct lane *lane, struct obx_err *err)
{
    if (fake_lane_start_failures > 0) {
        fake_lane_start_failures--;
        return obx_fail(err, OBX_E_SYSTEM, "no more threads");
    }
    lane->is_started = true;
    return OBX_OK;
}

void lane_ring(struct lane *lane)
{
    lane->rings++;
}

void lane_open_gate(struct lane *lane)
{
    lane->gate_opens++;
}

void lane_set_elsewhere(struct lane *lane, bool is_elsewhere)
{
    lane->is_elsewhere = is_elsewhere;
}

void lane_drain(struct lane *lane)
{
    lane->drains++;
}

void lane_stop(struct lane *lane)
{
    lane->stops++;
}

void lane_join(struct lane *lane)
{
    assert_int_equal(lane->stats.state, LANE_STOPPED);
    lane->is_joined = true;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL)
        return;
    assert_true(lane->is_joined || !lane->is_started);
    lane->is_created = false;
}

const char *lane_source(const struct lane *lane)
{
    return lane->opts.source;
}

const char *lane_outbox(const struct lane *lane)
{
    return lane->opts.outbox;
}

void lane_get_stats(struct lane *lane, struct lane_stats *out)
{
    *out = lane->stats;
}

const struct hist *lane_hist_commit_to_confirm(const struct lane *lane)
{
    return &lane->commit_to_confirm;
}

const struct hist *lane_hist_publish_to_confirm(const struct lane *lane)
{
    return &lane->publish_to_confirm;
}
