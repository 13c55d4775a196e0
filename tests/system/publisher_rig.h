/*
 * A publisher under test and a record of what became of each message. The tests of publisher_test.c
 * and its neighbours drive it the way publisher.h tells: service, publish, poll.
 */
#ifndef OBX_TEST_PUBLISHER_RIG_H
#define OBX_TEST_PUBLISHER_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/publisher.h"
#include "broker.h"

enum { RIG_TOKENS_MAX = 200000, RIG_WAIT_MS = 60000 };

struct rig {
    struct broker broker;
    struct broker_admin *admin;
    struct bridge_publisher *pub;
    struct bridge_publisher_opts opts;
    uint64_t next_token;    /* tokens run from 0 */
    uint8_t *calls;         /* per token: how often on_result came for it */
    uint8_t *outcomes;      /* per token: the last one */
    uint64_t *order;        /* tokens as they came */
    uint64_t settled;       /* how many came */
    uint64_t by_outcome[5]; /* how many of each */
    char why[256];          /* the last one that was not NULL */
    uint64_t service_calls;
    uint64_t longest_publish_ms; /* of one call of bridge_publisher_publish */
    uint64_t last_unknown;       /* token + 1 of the last PUB_UNKNOWN: they come in publish order */
    uint32_t *ids;               /* per token: the number of the message, for rig_deliver_all */
    uint8_t *done;               /* per number: confirmed */
};

/** cmocka set-up and tear-down: *state becomes a rig with an admin connection and no publisher yet.
 */
int rig_setup(void **state);
int rig_teardown(void **state);

/** Make the publisher from rig->opts (filled with the broker's coordinates by set-up; the test
 * changes what it wants). */
void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);

/** One turn of the loop: service, then poll for at most max_ms. */
void rig_turn(struct rig *rig, int max_ms);
typedef bool rig_fn(struct rig *rig);
/** Turns until the condition holds; fails the test after RIG_WAIT_MS. */
void rig_until(struct rig *rig, rig_fn *condition);
/** Conditions. */
bool rig_is_up(struct rig *rig);
bool rig_is_down(struct rig *rig);
bool rig_is_blocked(struct rig *rig);
bool rig_all_settled(struct rig *rig);

/** A message to the default exchange with id "id-<token>" and a body of its own; fields may be
 * changed before rig_send. */
struct rig_message {
    struct bridge_message msg;
    char id[32];
    char body[64];
};
void rig_message(struct rig *rig, const char *queue, struct rig_message *out);
/** Publish, with turns in between while there is no room. */
void rig_send(struct rig *rig, const struct rig_message *message);
/** rig_message and rig_send, count times. */
void rig_send_many(struct rig *rig, const char *queue, size_t count);

/**
 * Publish messages "id-0" to "id-<count - 1>" and publish each again until it is confirmed,
 * whatever happens meanwhile; before each publish and each turn disturb (may be NULL) is called.
 * Checks that every publish had one outcome.
 */
void rig_deliver_all(struct rig *rig, const char *queue, uint32_t count,
                     void (*disturb)(struct rig *rig));
/** Takes everything off the queue and checks that all of those messages were there at least once.
 * Returns how many twice. */
uint32_t rig_expect_all_there(struct rig *rig, const char *queue, uint32_t count);

/** All tokens were told exactly once, and all had this outcome. */
void rig_expect_all(const struct rig *rig, enum pub_outcome outcome);
/** Each token was told exactly once. */
void rig_expect_once_each(const struct rig *rig);

#endif
