/*
 * Topic rules. See route.h.
 */
#include "route.h"

#include <string.h>

#include "base/bytes.h"

bool route_matches(const char *pattern, struct obx_bytes topic)
{
    size_t len = strlen(pattern);

    if (len > 0 && pattern[len - 1] == '*')
        return topic.len >= len - 1 && (len == 1 || memcmp(topic.p, pattern, len - 1) == 0);
    return bytes_is(topic, pattern);
}

uint16_t route_find(const struct lane_opts *opts, struct obx_bytes topic)
{
    for (size_t i = 0; i < opts->rule_count; i++) {
        if (route_matches(opts->rules[i].pattern, topic))
            return (uint16_t)i;
    }
    return ROUTE_DEFAULT;
}

struct route route_of(const struct lane_opts *opts, uint16_t rule_index)
{
    const struct topic_rule *rule = NULL;
    struct route route = {.exchange = bytes_of(opts->exchange),
                          .routing_key = {.p = NULL, .len = 0},
                          .on_park = PARK_FREEZE,
                          .max_attempts = opts->max_attempts};

    if (rule_index >= opts->rule_count)
        return route;
    rule = &opts->rules[rule_index];
    if (rule->exchange != NULL)
        route.exchange = bytes_of(rule->exchange);
    if (rule->routing_key != NULL)
        route.routing_key = bytes_of(rule->routing_key);
    if (rule->max_attempts != 0)
        route.max_attempts = rule->max_attempts;
    route.on_park = rule->on_park;
    return route;
}

bool route_freezes(const struct lane_opts *opts, uint16_t rule, uint64_t id)
{
    return id != 0 && route_of(opts, rule).on_park == PARK_FREEZE;
}
