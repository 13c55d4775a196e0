/*
 * Sharing lanes out among relays: everybody the same answer, shares that are even, the least that has
 * to move, and a fleet that comes to rest, whatever joins, dies, stands still or sees late.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "fleet/share.h"

enum { RELAYS_MAX = 6, LANES_MAX = 40, WORLDS = 3000, QUIET_LOOKS = 12 };

static size_t count_of(const struct share_lane *lanes, size_t lane_count, size_t relay)
{
    size_t count = 0;

    for (size_t i = 0; i < lane_count; i++)
        count += lanes[i].relay == relay;
    return count;
}

static void nobody_and_nothing(void **state)
{
    struct share_lane lanes[2] = {{.owner = SHARE_NONE}, {.owner = 3}};
    struct share_relay relay = {.name = "a", .weight = 1};

    (void)state;
    share_out(NULL, 0, lanes, 2);
    assert_int_equal(lanes[0].relay, SHARE_NONE);
    share_out(&relay, 1, lanes, 0);
    assert_int_equal(relay.quota, 0);
    share_out(&relay, 1, lanes, 2);
    assert_int_equal(lanes[0].relay, 0);
    assert_int_equal(lanes[1].relay, 0);
}

static void one_lane_stays_with_its_owner(void **state)
{
    struct share_relay relays[3] = {{"a", 1, 0, 0}, {"b", 1, 0, 0}, {"c", 1, 0, 0}};
    struct share_lane lane;

    (void)state;
    for (size_t owner = 0; owner < 3; owner++) {
        lane.owner = owner;
        share_out(relays, 3, &lane, 1);
        assert_int_equal(lane.relay, owner);
    }
}

static void one_that_joins_gets_its_share_and_no_more_moves(void **state)
{
    struct share_relay relays[3] = {{"a", 1, 0, 0}, {"b", 1, 0, 0}, {"c", 1, 0, 0}};
    struct share_lane lanes[10];
    size_t moved = 0;

    (void)state;
    for (size_t i = 0; i < 10; i++)
        lanes[i].owner = i % 2;
    share_out(relays, 3, lanes, 10);
    for (size_t i = 0; i < 10; i++)
        moved += lanes[i].relay != lanes[i].owner;
    assert_int_equal(moved, 3);
    assert_int_equal(count_of(lanes, 10, 2), 3);
}

static void weights_are_parts_and_none_is_none(void **state)
{
    struct share_relay relays[3] = {{"a", 3, 0, 0}, {"b", 0, 0, 0}, {"c", 1, 0, 0}};
    struct share_lane lanes[8];

    (void)state;
    for (size_t i = 0; i < 8; i++)
        lanes[i].owner = 1;
    share_out(relays, 3, lanes, 8);
    assert_int_equal(count_of(lanes, 8, 0), 6);
    assert_int_equal(count_of(lanes, 8, 1), 0);
    assert_int_equal(count_of(lanes, 8, 2), 2);
    relays[0].weight = relays[2].weight = 0;
    share_out(relays, 3, lanes, 8);
    for (size_t i = 0; i < 3; i++)
        assert_in_range(count_of(lanes, 8, i), 2, 3);
}

/* ---------------------------------------------------------------- a fleet in time */

/* What is true, and what each relay saw when it looked last: a look may be old. */
struct world {
    size_t relay_count, lane_count;
    bool is_alive[RELAYS_MAX];
    size_t owner[LANES_MAX]; /* RELAYS_MAX: nobody */
    struct view {
        bool is_alive[RELAYS_MAX];
        size_t owner[LANES_MAX];
        bool was_surplus[LANES_MAX]; /* at the look before */
    } views[RELAYS_MAX];
    uint64_t moves;
};

static size_t below(size_t n)
{
    return (size_t)(random_u64() % n);
}

static void look(struct world *world, size_t me)
{
    memcpy(world->views[me].is_alive, world->is_alive, sizeof(world->is_alive));
    memcpy(world->views[me].owner, world->owner, sizeof(world->owner));
}

/* As fleet.c and the lanes act: a lane that was surplus at two looks is given back; a free lane is
 * taken by the one that is to have it. */
static void act(struct world *world, size_t me)
{
    static const char *const names[RELAYS_MAX] = {"a", "b", "c", "d", "e", "f"};
    struct view *view = &world->views[me];
    struct share_relay relays[RELAYS_MAX];
    struct share_lane lanes[LANES_MAX];
    size_t index[RELAYS_MAX] = {0}, count = 0, mine = SHARE_NONE;

    for (size_t i = 0; i < world->relay_count; i++) {
        if (!view->is_alive[i] && i != me)
            continue;
        index[i] = count;
        mine = i == me ? count : mine;
        relays[count++] = (struct share_relay){.name = names[i], .weight = 1};
    }
    for (size_t i = 0; i < world->lane_count; i++) {
        const size_t owner = view->owner[i];

        lanes[i].owner = owner < RELAYS_MAX && (view->is_alive[owner] || owner == me) ? index[owner]
                                                                                      : SHARE_NONE;
    }
    share_out(relays, count, lanes, world->lane_count);
    for (size_t i = 0; i < world->lane_count; i++) {
        const bool is_mine = lanes[i].relay == mine;

        if (world->owner[i] == me && !is_mine && view->was_surplus[i]) {
            world->owner[i] = RELAYS_MAX;
            world->moves++;
        } else if (world->owner[i] == RELAYS_MAX && is_mine) {
            world->owner[i] = me;
        }
        view->was_surplus[i] = !is_mine;
    }
}

static size_t alive_in(const struct world *world)
{
    size_t count = 0;

    for (size_t i = 0; i < world->relay_count; i++)
        count += world->is_alive[i];
    return count;
}

/* Everybody looks and acts, in any order; some act by what they saw before. */
static void round_of(struct world *world, bool may_be_late)
{
    const size_t first = below(world->relay_count);

    for (size_t k = 0; k < world->relay_count; k++) {
        const size_t me = (first + k) % world->relay_count;

        if (!world->is_alive[me])
            continue;
        if (!may_be_late || below(3) > 0)
            look(world, me);
        if (!may_be_late || below(4) > 0)
            act(world, me);
    }
}

static void upset(struct world *world)
{
    const size_t who = below(world->relay_count);

    world->is_alive[who] = !world->is_alive[who];
    if (alive_in(world) == 0)
        world->is_alive[who] = true;
    /* Its leases expire. */
    for (size_t i = 0; i < world->lane_count; i++) {
        if (world->owner[i] < RELAYS_MAX && !world->is_alive[world->owner[i]])
            world->owner[i] = RELAYS_MAX;
    }
}

static void assert_at_rest(struct world *world, uint64_t seed)
{
    const size_t alive = alive_in(world);
    const size_t most = (world->lane_count + alive - 1) / alive;
    uint64_t moves = 0;

    for (int i = 0; i < QUIET_LOOKS; i++)
        round_of(world, false);
    moves = world->moves;
    for (int i = 0; i < QUIET_LOOKS; i++)
        round_of(world, false);
    if (world->moves != moves)
        fail_msg("world %llu does not come to rest", (unsigned long long)seed);
    for (size_t r = 0; r < world->relay_count; r++) {
        size_t held = 0;

        for (size_t i = 0; i < world->lane_count; i++)
            held += world->owner[i] == r;
        if (held > most)
            fail_msg("world %llu: relay %zu has %zu of %zu lanes", (unsigned long long)seed, r,
                     held, world->lane_count);
    }
    for (size_t i = 0; i < world->lane_count; i++) {
        if (world->owner[i] == RELAYS_MAX)
            fail_msg("world %llu: nobody has lane %zu", (unsigned long long)seed, i);
    }
}

static void every_fleet_comes_to_rest(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < WORLDS; seed++) {
        struct world world = {.relay_count = 1 + below(RELAYS_MAX),
                              .lane_count = 1 + below(LANES_MAX)};

        for (size_t i = 0; i < RELAYS_MAX; i++)
            world.is_alive[i] = i < world.relay_count;
        for (size_t i = 0; i < LANES_MAX; i++)
            world.owner[i] = below(2) == 0 ? RELAYS_MAX : below(world.relay_count);
        for (int i = 0; i < 20; i++) {
            if (below(4) == 0)
                upset(&world);
            round_of(&world, true);
        }
        assert_at_rest(&world, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_and_nothing),
        cmocka_unit_test(one_lane_stays_with_its_owner),
        cmocka_unit_test(one_that_joins_gets_its_share_and_no_more_moves),
        cmocka_unit_test(weights_are_parts_and_none_is_none),
        cmocka_unit_test(every_fleet_comes_to_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
