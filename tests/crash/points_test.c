/*
 * A kill at every crash point, one after the other: the program dies at the point under load, is
 * started again, everything comes through, and the audit finds the books in order (P1, P2, P3, P4,
 * P7).
 *
 * OBX_TEST_SEED=N repeats a run's choices; OBX_TEST_POINTS=NAME runs the points whose name contains
 * NAME only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "crash/dice.h"
#include "crash/points.h"
#include "crash/scene.h"
#include "test_db.h"
#include "wait.h"

enum {
    DEATH_MS = 60 * 1000,
    PROGRESS_MS = 60 * 1000,
    PROGRESS = 60,   /* transactions after the restart */
    PASSES_MAX = 12, /* the kill comes at the first to the twelfth pass of the point */
    FOLLOWERS = 3,
    DECIMAL = 10
};

static struct dice dice;

/* ---------------------------------------------------------------- under load */

/* Of the case that runs: one that fails leaves it to the tear-down, or the next ones would find its
 * messages in their audits. */
static struct load *running;

static void stop_load(struct load_counts *counts)
{
    load_stop(running, counts);
    running = NULL;
}

static struct load *start_load(const char *receipt_from)
{
    static struct load_opts opts; /* borrowed by the load */
    struct load *load = NULL;
    struct obx_err err = {0};

    opts = (struct load_opts){.db = scene_producer_opts(),
                              .topic = SCENE_TOPIC,
                              .receipt_from = receipt_from,
                              .keyless_percent = 30,
                              .rollback_percent = 20,
                              .hold_percent = 5,
                              .hold_max_ms = 300,
                              .big_percent = 2,
                              .pause_max_ms = 4,
                              .seed = dice_below(&dice, UINT32_MAX)};
    if (load_start(&opts, &load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    running = load;
    return load;
}

static void expect_death(struct scene *scene, enum scene_role role, const char *point)
{
    struct proc_exit how = {0};

    if (!proc_wait(scene_proc(scene, role, 0), DEATH_MS, &how))
        fail_msg("the %s never came to the point %s", scene_role_name(role), point);
    if (how.signal != SIGKILL)
        fail_msg("the %s ended by itself: status %d, signal %d", scene_role_name(role), how.code,
                 how.signal);
}

static void die_loaded(struct scene *scene, const struct point *point, const char *receipt_from)
{
    const bool is_relay = strcmp(point->program, "relay") == 0;
    const enum scene_role victim = is_relay ? SCENE_RELAY : SCENE_CONSUMER;
    char crash[POINT_NAME_MAX + 16];
    struct load *load = NULL;
    struct load_counts counts;

    snprintf(crash, sizeof(crash), "%s:%" PRIu64, point->name,
             strcmp(point->situation, "start") == 0 ? 1 : 1 + dice_below(&dice, PASSES_MAX));
    scene_start(scene, is_relay ? SCENE_CONSUMER : SCENE_RELAY, 0, NULL);
    scene_start(scene, victim, 0, crash);
    load = start_load(receipt_from);
    expect_death(scene, victim, crash);
    scene_start(scene, victim, 0, NULL);
    if (!load_wait(load, PROGRESS, PROGRESS_MS))
        fail_msg("the producers make no progress");
    stop_load(&counts);
    assert_true(counts.rolled_back > 0);
    scene_finish(scene);
}

/* What asks for receipts is not settled by the lane itself, which would never come to some points. */
static void die_packed(struct scene *scene, const struct point *point)
{
    scene_pack(scene);
    die_loaded(scene, point, strcmp(point->situation, "packed") == 0 ? SCENE_GROUP : NULL);
}

static void die_under_load(struct scene *scene, const struct point *point)
{
    die_loaded(scene, point, NULL);
}

/* Every message asks the consumers for a receipt: nothing may be left awaiting one. */
static void die_with_receipts(struct scene *scene, const struct point *point)
{
    die_loaded(scene, point, SCENE_GROUP);
}

/* ---------------------------------------------------------------- waiting for a receipt, or a time
 */

/* Nobody reports, so the relay sends again. */
static void die_resending(struct scene *scene, const struct point *point)
{
    enum { APPLIED = 20 };
    struct load *load = NULL;

    /* Once through, so that the queue is there. */
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    load = start_load(SCENE_GROUP);
    scene_wait_applied(scene, APPLIED);
    scene_kill(scene, SCENE_CONSUMER, 0);
    scene_kill(scene, SCENE_RELAY, 0);
    scene_start(scene, SCENE_RELAY, 0, point->name);
    expect_death(scene, SCENE_RELAY, point->name);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    if (!load_wait(load, PROGRESS, PROGRESS_MS))
        fail_msg("the producers make no progress");
    stop_load(NULL);
    scene_finish(scene);
}

static void die_moving_delayed(struct scene *scene, const struct point *point)
{
    enum { DELAYED = 40 };
    const struct db_opts opts = scene_producer_opts();
    struct db *db = test_db_open(&opts);

    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    for (int i = 0; i < DELAYED; i++) {
        char sql[512];

        snprintf(sql, sizeof(sql),
                 "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) VALUES "
                 "('delayed-%d', '" SCENE_TOPIC "', '0 x', UTC_TIMESTAMP(6) + INTERVAL %d * 50000 "
                 "MICROSECOND)",
                 i, i);
        test_db_run(db, sql);
        snprintf(sql, sizeof(sql), "INSERT INTO orders VALUES ('delayed-%d', NULL, 0)", i);
        test_db_run(db, sql);
    }
    db_close(db);
    scene_start(scene, SCENE_RELAY, 0, point->name);
    expect_death(scene, SCENE_RELAY, point->name);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    scene_finish(scene);
}

/* ---------------------------------------------------------------- the database dies there */

static bool is_stopped(void *ctx)
{
    char path[64];
    char text[512] = "";
    const char *state = NULL;
    FILE *file = NULL;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)proc_pid(ctx));
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof(text), file) != NULL)
        state = strrchr(text, ')');
    fclose(file);
    return state != NULL && strncmp(state, ") T", 3) == 0;
}

/* The consumer is held at the point, its database is killed, and only then does it go on. */
static void database_dies(struct scene *scene, const struct point *point)
{
    char crash[POINT_NAME_MAX + 32];
    struct load *load = NULL;
    struct load_counts counts;
    struct proc *consumer = NULL;

    snprintf(crash, sizeof(crash), "%s:%" PRIu64 ":stop", point->name,
             1 + dice_below(&dice, PASSES_MAX));
    scene_start(scene, SCENE_RELAY, 0, NULL);
    scene_start(scene, SCENE_CONSUMER, 0, crash);
    load = start_load(NULL);
    consumer = scene_proc(scene, SCENE_CONSUMER, 0);
    if (!wait_until(DEATH_MS, is_stopped, consumer))
        fail_msg("the consumer never came to the point %s", crash);
    scene_server(scene, "kill", "database");
    assert_true(proc_signal(consumer, SIGCONT));
    scene_server(scene, "start", "database");
    if (!load_wait(load, PROGRESS, PROGRESS_MS))
        fail_msg("the producers make no progress");
    stop_load(&counts);
    scene_finish(scene);
}

/* ---------------------------------------------------------------- parking and resuming */

/* A message that no queue is bound for, and followers of its key that could go if they were first.
 */
static void write_unroutable(void)
{
    const struct db_opts opts = scene_producer_opts();
    struct db *db = test_db_open(&opts);
    struct obx_err err = {0};
    enum obx_code rc = db_begin(db, &err);

    if (rc == OBX_OK)
        rc = load_write(db, SCENE_LATE_TOPIC, "key-0", NULL, bytes_of("first"), &err);
    for (int i = 0; rc == OBX_OK && i < FOLLOWERS; i++)
        rc = load_write(db, SCENE_TOPIC, "key-0", NULL, bytes_of("follower"), &err);
    if (rc != OBX_OK || db_commit(db, &err) != OBX_OK)
        fail_msg("%s", err.text);
    db_close(db);
}

static bool all_are_parked(void *scene)
{
    struct db *db = scene_db(scene);

    return test_db_number(db, "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox_parked") ==
               1 + FOLLOWERS &&
           test_db_number(db, "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox") == 0;
}

static void wait_parked(struct scene *scene)
{
    if (!wait_until(PROGRESS_MS, all_are_parked, scene))
        fail_msg("the message and its followers were not parked");
}

static void resume(struct scene *scene)
{
    static const char *const arguments[] = {"parked", "resume", "--all", "--wait", "0", NULL};

    scene_outboxctl(scene, arguments);
}

static void die_parking(struct scene *scene, const struct point *point)
{
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    write_unroutable();
    scene_start(scene, SCENE_RELAY, 0, point->name);
    expect_death(scene, SCENE_RELAY, point->name);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    wait_parked(scene);
    scene_bind_late(scene);
    resume(scene);
    scene_finish(scene);
}

static void die_resuming(struct scene *scene, const struct point *point)
{
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    write_unroutable();
    scene_start(scene, SCENE_RELAY, 0, NULL);
    wait_parked(scene);
    scene_bind_late(scene);
    scene_stop(scene, SCENE_RELAY, 0);
    scene_start(scene, SCENE_RELAY, 0, point->name);
    resume(scene);
    expect_death(scene, SCENE_RELAY, point->name);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    scene_finish(scene);
}

/* ---------------------------------------------------------------- rejecting */

/* A message that is no order: the consumer's handler refuses it for good. It may be dead-lettered
 * twice, never not at all. */
static void die_rejecting(struct scene *scene, const struct point *point)
{
    const struct db_opts opts = scene_producer_opts();
    struct db *db = test_db_open(&opts);
    struct load *load = NULL;

    scene_start(scene, SCENE_RELAY, 0, NULL);
    scene_start(scene, SCENE_CONSUMER, 0, point->name);
    load = start_load(NULL);
    test_db_run(db, "INSERT INTO outbox (topic, payload) VALUES ('" SCENE_POISON_TOPIC "', 'x')");
    db_close(db);
    expect_death(scene, SCENE_CONSUMER, point->name);
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    if (!load_wait(load, PROGRESS, PROGRESS_MS))
        fail_msg("the producers make no progress");
    stop_load(NULL);
    scene_finish_with_dead(scene, 1, 2);
}

/* ---------------------------------------------------------------- one test a point */

static const struct {
    const char *name;
    void (*run)(struct scene *scene, const struct point *point);
} situations[] = {
    {"load", die_under_load},  {"start", die_under_load},       {"park", die_parking},
    {"resume", die_resuming},  {"reject", die_rejecting},       {"receipts", die_with_receipts},
    {"resend", die_resending}, {"delayed", die_moving_delayed}, {"packed", die_packed},
};

static struct scene *scene;

static int set_up(void **state)
{
    (void)state;
    scene = scene_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop_load(NULL);
    scene_destroy(scene);
    scene = NULL;
    return 0;
}

static void its_database_dies_at_the_point(void **state)
{
    database_dies(scene, *state);
}

static void dies_at_the_point(void **state)
{
    const struct point *point = *state;

    for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
        if (strcmp(situations[i].name, point->situation) == 0) {
            situations[i].run(scene, point);
            return;
        }
    }
    fail_msg("points.txt: there is no situation \"%s\"", point->situation);
}

static void dies_at_the_point_packed(void **state)
{
    die_packed(scene, *state);
}

/* Under ordinary load every message may as well come in a pack. */
static bool is_for_packs(const struct point *point)
{
    return strcmp(point->situation, "load") == 0;
}

/* What a consumer does in its database under ordinary load. */
static bool is_for_database(const struct point *point)
{
    return strcmp(point->program, "consumer") == 0 && strcmp(point->situation, "load") == 0;
}

int main(void)
{
    static struct point points[POINTS_MAX];
    static struct CMUnitTest tests[3 * POINTS_MAX];
    static char names[2 * POINTS_MAX][POINT_NAME_MAX + 32];
    const char *seed = getenv("OBX_TEST_SEED");
    const char *only = getenv("OBX_TEST_POINTS");
    size_t listed = points_read(CRASH_POINTS_FILE, points, POINTS_MAX);
    size_t count = 0;

    for (size_t i = 0; i < listed; i++)
        if (!point_has_own_test(&points[i]) &&
            (only == NULL || strstr(points[i].name, only) != NULL))
            tests[count++] = (struct CMUnitTest){.name = points[i].name,
                                                 .test_func = dies_at_the_point,
                                                 .setup_func = set_up,
                                                 .teardown_func = tear_down,
                                                 .initial_state = &points[i]};
    for (size_t i = 0; i < listed; i++) {
        if (!is_for_database(&points[i]) || (only != NULL && strstr(points[i].name, only) == NULL))
            continue;
        snprintf(names[i], sizeof(names[i]), "%.80s, database", points[i].name);
        tests[count++] = (struct CMUnitTest){.name = names[i],
                                             .test_func = its_database_dies_at_the_point,
                                             .setup_func = set_up,
                                             .teardown_func = tear_down,
                                             .initial_state = &points[i]};
    }
    for (size_t i = 0; i < listed; i++) {
        char *name = names[POINTS_MAX + i];

        if (!is_for_packs(&points[i]) || (only != NULL && strstr(points[i].name, only) == NULL))
            continue;
        snprintf(name, sizeof(names[0]), "%.80s, packed", points[i].name);
        tests[count++] = (struct CMUnitTest){.name = name,
                                             .test_func = dies_at_the_point_packed,
                                             .setup_func = set_up,
                                             .teardown_func = tear_down,
                                             .initial_state = &points[i]};
    }
    if (count == 0)
        return EXIT_FAILURE;
    dice.state = seed != NULL ? strtoull(seed, NULL, DECIMAL) : random_u64() % UINT32_MAX;
    print_message("OBX_TEST_SEED=%" PRIu64 "\n", dice.state);
    return _cmocka_run_group_tests("points", tests, count, NULL, NULL);
}
