/*
 * Who is to have which lane, when several relays drain the same outboxes.
 *
 * Everybody works it out for himself from the same rows, and nobody leads: the same relays, lanes and
 * owners give the same answer. A lane stays where it is as long as its owner has no more than its
 * share, so the least that has to move moves. Pure: no clock, no database. Proved by
 * tests/unit/share_test.c. See docs/adr/0035-fleet.md.
 */
#ifndef FLEET_SHARE_H
#define FLEET_SHARE_H

#include <stddef.h>
#include <stdint.h>

#define SHARE_NONE SIZE_MAX

struct share_relay {
    const char *name;
    uint32_t weight; /* its part of all; 0: nothing, unless all have 0, which counts as 1 each */
    size_t quota;    /* out: how many lanes at most */
    size_t held;     /* scratch */
};

struct share_lane {
    size_t owner; /* index of the relay that has it now; SHARE_NONE: nobody, or none of these */
    size_t relay; /* out: index of the relay that is to have it; SHARE_NONE without relays */
};

/** Relays in the order of their names and lanes in the order of theirs, for everybody the same. Equal
 * weights: nobody gets more than the number of lanes over that of relays, rounded up. */
void share_out(struct share_relay *relays, size_t relay_count, struct share_lane *lanes,
               size_t lane_count);

#endif
