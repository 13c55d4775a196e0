/*
 * Lanes without a thread, in the place of outbox-relay's own: a test sets what they report and sees
 * what was asked of them. Link fake_lane.c instead of the library of the lanes. One test program,
 * one thread.
 */
#ifndef OBX_TEST_FAKE_LANE_H
#define OBX_TEST_FAKE_LANE_H

#include "lane/lane.h"

struct lane {
    struct lane_opts opts; /* as given to lane_create */
    struct lane_stats stats;
    struct hist commit_to_confirm;
    struct hist publish_to_confirm;
    bool is_created; /* and not destroyed */
    bool is_started;
    bool is_joined;
    bool is_elsewhere;
    unsigned rings;
    unsigned gate_opens;
    unsigned drains;
    unsigned stops;
};

enum { FAKE_LANES_MAX = 16 };

/** Every lane that was ever created since fake_lanes_reset, in order. */
extern struct lane fake_lanes[FAKE_LANES_MAX];
extern unsigned fake_lane_count;
/** The next so many calls of lane_start fail. */
extern unsigned fake_lane_start_failures;

void fake_lanes_reset(void);
/** The living lane of an outbox; NULL when there is none. Fails the test when there are two. */
struct lane *fake_lane_of(const char *source, const char *outbox);
/** How many have been created and not destroyed. */
unsigned fake_lanes_alive(void);

#endif
