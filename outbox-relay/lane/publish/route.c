/*
 * Topic rules. See route.h.
 */
#include "route.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/partition.h"

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
                          .partitions = opts->partitions,
                          .on_park = PARK_FREEZE,
                          .max_attempts = opts->max_attempts,
                          .pack = 1,
                          .pack_bytes = LANE_PACK_BYTES};

    if (rule_index >= opts->rule_count)
        return route;
    rule = &opts->rules[rule_index];
    if (rule->exchange != NULL) {
        route.exchange = bytes_of(rule->exchange);
        route.partitions = rule->partitions;
    }
    if (rule->routing_key != NULL)
        route.routing_key = bytes_of(rule->routing_key);
    if (rule->max_attempts != 0)
        route.max_attempts = rule->max_attempts;
    if (rule->pack != 0)
        route.pack = rule->pack;
    if (rule->pack_bytes != 0)
        route.pack_bytes = rule->pack_bytes;
    route.on_park = rule->on_park;
    return route;
}

/* Without a key any partition will do, but the same one each time: a copy that is sent again then
 * meets the same consumer, which has seen the first. */
struct obx_bytes route_key(const struct route *route, const struct outbox_row *row,
                           char text[ROUTE_KEY_SIZE])
{
    struct obx_bytes key = route->routing_key.p != NULL ? route->routing_key : row->topic;
    const struct obx_bytes shared_by = row->key.p != NULL ? row->key : row->message_id;
    int prefix = 0;

    if (route->partitions == 0)
        return key;
    prefix = snprintf(text, ROUTE_KEY_SIZE, "%u.", partition_of(shared_by, route->partitions));
    if (key.len > (size_t)ROUTE_KEY_SIZE - (size_t)prefix)
        key.len = (size_t)ROUTE_KEY_SIZE - (size_t)prefix;
    memcpy(text + prefix, key.p, key.len);
    return (struct obx_bytes){.p = text, .len = (size_t)prefix + key.len};
}

bool route_freezes(const struct lane_opts *opts, uint16_t rule, uint64_t id)
{
    return id != 0 && route_of(opts, rule).on_park == PARK_FREEZE;
}
