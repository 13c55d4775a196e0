/*
 * What the system tests of the lane share: a database with the producer's schema, an exchange with
 * a queue, lanes over them, and a look at what came out, in the order of the queue. Everything
 * fails the running cmocka test when it does not work.
 */
#ifndef OBX_TEST_LANE_RIG_H
#define OBX_TEST_LANE_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker.h"
#include "lane/lane.h"
#include "test_db.h"

enum { RIG_WAIT_MS = 60000 };

/** A message as it stood in the queue. */
struct rig_message {
    uint64_t id; /* x-obx-outbox-id */
    char key[64];
    char topic[64];
    char message_id[65];
    size_t body_len;
    char receipt_to[64]; /* "" when not there, as the two below */
    char receipt_from[64];
    char receipt_token[1200];
};

struct lane_rig {
    struct test_db test_db;
    struct broker broker;
    struct broker_admin *admin;
    struct db *db; /* the test's own connection */
    char exchange[64];
    char queue[72];
    struct lane_opts opts; /* for the lanes to come; a test may change it */
    struct lane *lane;
    struct rig_message *seen;
    size_t seen_count, seen_cap;
    size_t packs, packed; /* of these, that came in packs */
};

/** A cmocka setup: rig in *state. The queue is bound for every topic "t*" that rig_bind names. */
int rig_setup(void **state);
int rig_teardown(void **state);

/** Bind rig->queue for a topic. */
void rig_bind(struct lane_rig *rig, const char *topic);
/** Make and start a lane from rig->opts; rig->lane. */
void rig_start(struct lane_rig *rig);
/** Another one beside it, with its own owner name; the caller ends it with rig_end_lane. */
struct lane *rig_start_another(struct lane_rig *rig, const char *owner);
/** lane_drain, join, destroy; NULL is fine. */
void rig_drain_lane(struct lane *lane);
/** lane_stop, join, destroy: as good as a kill, but for the memory. NULL is fine. */
void rig_end_lane(struct lane *lane);

/** One row; key NULL: none. Returns its id. On rig->db, in its transaction if there is one. */
uint64_t rig_insert(struct lane_rig *rig, const char *topic, const char *key, const char *payload);
/** rows rows of topic "t", keys "k0".."k<keys-1>" in turn (none when keys is 0), bodies of body_len
 * bytes. */
void rig_fill(struct lane_rig *rig, uint64_t rows, unsigned keys, unsigned body_len);
/** Run a statement built like printf on rig->db. */
void rig_run(struct lane_rig *rig, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t rig_number(struct lane_rig *rig, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Wait until the query gives the number. */
void rig_wait_number(struct lane_rig *rig, uint64_t wanted, const char *sql);
/** Wait until the outbox is empty. */
void rig_wait_empty(struct lane_rig *rig);
/** Wait until the lane says so. */
void rig_wait_state(struct lane *lane, enum lane_state state);
struct lane_stats rig_stats(struct lane *lane);
/** Wait until the lane has had so many confirms. */
void rig_wait_confirmed(struct lane *lane, uint64_t count);

/** Take everything off the queue, in order, behind what was taken before, until there are count in
 * all. */
void rig_collect(struct lane_rig *rig, size_t count);
/** Collect what is there now, until the queue is empty. */
void rig_collect_all(struct lane_rig *rig);
/** How often an id came out so far. */
size_t rig_times(const struct lane_rig *rig, uint64_t id);
/** Where an id came out first; SIZE_MAX: it did not. */
size_t rig_place(const struct lane_rig *rig, uint64_t id);
/** Each id of one key came out for the first time after all lower ones of the key. */
void rig_assert_order(const struct lane_rig *rig);

#endif
