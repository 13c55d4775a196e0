/*
 * Topic rules: which exchange and routing key a topic gets, and what its refused messages deserve.
 * Pure; the first rule whose pattern matches wins. Proved by tests/unit/route_test.c.
 */
#ifndef RELAY_ROUTE_H
#define RELAY_ROUTE_H

#include "lane/lane.h"

/** No rule matches: the lane's defaults count. */
#define ROUTE_DEFAULT UINT16_MAX

struct route {
    struct obx_bytes exchange;
    struct obx_bytes routing_key; /* absent: the topic itself */
    enum park_policy on_park;
    uint32_t max_attempts;
};

/** The index of the rule for a topic, or ROUTE_DEFAULT. */
uint16_t route_find(const struct lane_opts *opts, struct obx_bytes topic);
/** What rule says, with the defaults of opts filled in. Borrows from opts. */
struct route route_of(const struct lane_opts *opts, uint16_t rule);
/**
 * Whether a row of the rule freezes its key when it is parked. A key cannot be frozen by id 0, which
 * is no id for the server's counter and means "not frozen" wherever a head is named; a dump or an
 * application may have given it all the same.
 */
bool route_freezes(const struct lane_opts *opts, uint16_t rule, uint64_t id);
/** Whether pattern (exact, or a prefix that ends in '*') matches. */
bool route_matches(const char *pattern, struct obx_bytes topic);

#endif
