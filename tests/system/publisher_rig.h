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

enum { RIG_TOKENS_MAX = 200000, RIG_WAIT_MS = 30000 };

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
    uint64_t by_outcome[4]; /* how many of each */
    char why[256];          /* the last one that was not NULL */
    uint64_t service_calls;
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

/** Each token was told exactly once. */
void rig_expect_once_each(const struct rig *rig);

#endif
