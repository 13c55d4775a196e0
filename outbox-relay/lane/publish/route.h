/*
 * Topic rules: which exchange and routing key a topic gets, and what its refused messages deserve.
 * Pure; the first rule whose pattern matches wins. Proved by tests/unit/route_test.c.
 */
#ifndef RELAY_ROUTE_H
#define RELAY_ROUTE_H

#include "lane/lane.h"
#include "outbox/outbox_row.h"

/** No rule matches: the lane's defaults count. */
#define ROUTE_DEFAULT UINT16_MAX

struct route {
    struct obx_bytes exchange;
    struct obx_bytes routing_key; /* absent: the topic itself */
    unsigned partitions;          /* of the exchange; 0: it has none */
    enum park_policy on_park;
    uint32_t max_attempts;
    uint32_t pack, pack_bytes; /* as in struct topic_rule; pack is 1 at least */
};

/** The index of the rule for a topic, or ROUTE_DEFAULT. */
uint16_t route_find(const struct lane_opts *opts, struct obx_bytes topic);
/** What rule says, with the defaults of opts filled in. Borrows from opts. */
struct route route_of(const struct lane_opts *opts, uint16_t rule);
/** Room for the longest routing key that route_key makes. */
#define ROUTE_KEY_SIZE 272
/**
 * The routing key of one row: the rule's or the topic; on a partitioned exchange "P." and that, where
 * P is the partition of its ordering key, or of its message id where it has none. Borrows from route,
 * row or text. One that AMQP has no room for stays too long, so that the publisher refuses it.
 */
struct obx_bytes route_key(const struct route *route, const struct outbox_row *row,
                           char text[ROUTE_KEY_SIZE]);
/**
 * Whether a row of the rule freezes its key when it is parked. A key cannot be frozen by id 0, which
 * is no id for the server's counter and means "not frozen" wherever a head is named; a dump or an
 * application may have given it all the same.
 */
bool route_freezes(const struct lane_opts *opts, uint16_t rule, uint64_t id);
/** Whether pattern (exact, or a prefix that ends in '*') matches. */
bool route_matches(const char *pattern, struct obx_bytes topic);

#endif
