/*
 * Failover of the database under load: two relays, two consumers of three workers each and four
 * producers, all of which know both servers of a pair (tests/support/db_pair), and the audit (P1, P2,
 * P3, P4, P7).
 *
 * With semi-synchronous replication (AFTER_SYNC) nothing that was answered is lost, nothing is applied
 * twice, and nothing was published of what is gone: the primary is killed, stands still and is killed
 * later (in between it may take writes beside the new one), is made read-only and back, changes places
 * with its replica; the replica is killed. With asynchronous replication what is lost is counted.
 *
 * OBX_TEST_SEED=N repeats a run's choices, OBX_TEST_TURNS=N is how many faults there are (6).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "crash/dice.h"
#include "crash/scene.h"
#include "db_pair.h"
#include "test_db.h"
#include "wait.h"

/* A silent server is given up after this; by default it is half a minute. */
#define DB_TIMEOUT_MS "2000"

enum {
    DEFAULT_TURNS = 6,
    CALM_MAX_MS = 1000,
    AWAY_MAX_MS = 800,
    LAG_MS = 500,
    PROGRESS = 20, /* transactions after each fault */
    PROGRESS_MS = 60 * 1000,
    HALF = 50,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
    DECIMAL = 10
};

struct play {
    struct scene *scene;
    struct load *load;
    struct dice dice;
    unsigned primary; /* 1 or 2 */
    int64_t begin_ms;
};

static void pause_ms(uint64_t ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(ms / MS_PER_S),
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

/* The moment of a fault is random: this pause is what is tested, not a guess how long something
 * takes. */
static void random_pause(struct play *play, uint64_t max_ms)
{
    pause_ms(dice_below(&play->dice, max_ms + 1));
}

static unsigned replica_of(const struct play *play)
{
    return 3 - play->primary;
}

static void say(const struct play *play, const char *what)
{
    print_message("%6.1f s  primary %u: %s\n", (double)(wait_now_ms() - play->begin_ms) / MS_PER_S,
                  play->primary, what);
}

/* Producers, relay and consumers go on by themselves. */
static void expect_progress(struct play *play)
{
    const int64_t began_ms = wait_now_ms();

    if (!load_wait(play->load, PROGRESS, PROGRESS_MS))
        fail_msg("the producers write nothing more");
    scene_wait_applied(play->scene, PROGRESS);
    print_message("          going on after %.1f s\n",
                  (double)(wait_now_ms() - began_ms) / MS_PER_S);
}

static void promote(struct play *play)
{
    db_pair("promote", replica_of(play));
    play->primary = replica_of(play);
    expect_progress(play);
}

static void kill_primary(struct play *play)
{
    say(play, "kill -9");
    db_pair("kill", play->primary);
    random_pause(play, AWAY_MAX_MS);
    promote(play);
    db_pair("follow", replica_of(play));
}

/* Those for which it is the primary hear nothing. When it goes on, it takes writes until it is killed;
 * but no replica has what it is told, so it answers no COMMIT. */
static void pause_primary(struct play *play)
{
    const unsigned old = play->primary;

    say(play, "SIGSTOP");
    db_pair("pause", old);
    random_pause(play, AWAY_MAX_MS);
    promote(play);
    if (dice_percent(&play->dice, HALF)) {
        say(play, "the old one goes on beside it");
        db_pair("resume", old);
        random_pause(play, AWAY_MAX_MS);
    }
    db_pair("kill", old);
    expect_progress(play);
    db_pair("follow", old);
}

static void switch_over(struct play *play)
{
    say(play, "changes places with its replica");
    db_pair("switch", replica_of(play));
    play->primary = replica_of(play);
    expect_progress(play);
}

static void read_only_and_back(struct play *play)
{
    say(play, "read-only, and back");
    db_pair("demote", play->primary);
    random_pause(play, AWAY_MAX_MS);
    db_pair("undemote", play->primary);
}

static void kill_replica(struct play *play)
{
    say(play, "its replica is killed");
    db_pair("kill", replica_of(play));
    random_pause(play, AWAY_MAX_MS);
    db_pair("follow", replica_of(play));
}

/* Each comes once in this order, so that none is left to chance. */
static void (*const deeds[])(struct play *play) = {kill_primary, read_only_and_back, switch_over,
                                                   pause_primary, kill_replica};
enum { DEEDS = sizeof(deeds) / sizeof(deeds[0]) };

static uint64_t number_from_env(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, DECIMAL) : fallback;
}

static void begin(struct play *play, struct load_opts *opts)
{
    const uint64_t seed = number_from_env("OBX_TEST_SEED", random_u64() % UINT32_MAX);
    struct obx_err err = {0};

    print_message("OBX_TEST_SEED=%" PRIu64 "\n", seed);
    db_pair("start", 0);
    db_pair_take_env();
    assert_int_equal(setenv("OBX_TEST_DB_TIMEOUT_MS", DB_TIMEOUT_MS, 1), 0);
    *play = (struct play){.dice.state = seed, .primary = 1, .begin_ms = wait_now_ms()};
    play->scene = scene_create();
    for (unsigned i = 0; i < SCENE_ACTORS; i++) {
        scene_start(play->scene, SCENE_CONSUMER, i, NULL);
        scene_start(play->scene, SCENE_RELAY, i, NULL);
    }
    *opts = (struct load_opts){.db = scene_producer_opts(),
                               .topic = SCENE_TOPIC,
                               .receipt_from = SCENE_GROUP,
                               .receipt_percent = 20,
                               .producers = 4,
                               .keyless_percent = 30,
                               .rollback_percent = 20,
                               .big_percent = 2,
                               .pause_max_ms = 20,
                               .seed = seed};
    opts->db.read_timeout_ms = (uint32_t)strtoul(DB_TIMEOUT_MS, NULL, DECIMAL);
    if (load_start(opts, &play->load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    scene_wait_applied(play->scene, 1);
}

static void end(struct play *play)
{
    scene_destroy(play->scene);
    db_pair("stop", 0);
}

static void nothing_is_lost_with_a_semi_synchronous_replica(void **state)
{
    const uint64_t turns = number_from_env("OBX_TEST_TURNS", DEFAULT_TURNS);
    struct load_counts counts;
    struct load_opts opts;
    struct play play;
    uint64_t orders = 0;

    (void)state;
    begin(&play, &opts);
    for (uint64_t turn = 0; turn < turns; turn++) {
        random_pause(&play, CALM_MAX_MS);
        deeds[turn < DEEDS ? turn : dice_below(&play.dice, DEEDS)](&play);
        expect_progress(&play);
    }
    load_stop(play.load, &counts);
    orders =
        test_db_number(scene_db(play.scene), "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".orders");
    print_message("messages answered=%" PRIu64 " doubtful=%" PRIu64 " there=%" PRIu64 "\n",
                  counts.messages, counts.doubtful, orders);
    /* What a producer was told to be committed is on the server that is the primary now. */
    assert_in_range(orders, counts.messages, counts.messages + counts.doubtful);
    scene_finish(play.scene);
    end(&play);
}

/* The replica is half a second late when the primary dies: what is lost then is the database's, and
 * what was published of it is a ghost. The rest goes on, and nothing is applied twice. */
static void an_asynchronous_replica_loses_what_it_has_not_got(void **state)
{
    struct audit_report report;
    struct load_counts counts;
    struct load_opts opts;
    struct play play;
    uint64_t orders = 0;

    (void)state;
    assert_int_equal(setenv("OBX_SERVERS_PAIR_ASYNC", "1", 1), 0);
    begin(&play, &opts);
    say(&play, "its replica is late, and it is killed");
    db_pair("lag", replica_of(&play));
    pause_ms(LAG_MS);
    db_pair("kill", play.primary);
    promote(&play);
    load_stop(play.load, &counts);
    orders =
        test_db_number(scene_db(play.scene), "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".orders");
    scene_settle(play.scene, &report);
    print_message("asynchronous, %d ms late: messages answered=%" PRIu64 " there=%" PRIu64
                  " ghosts=%" PRIu64 " effects lost=%" PRIu64 "\n",
                  LAG_MS, counts.messages, orders, report.ghosts, report.lost);
    assert_int_equal(report.doubled, 0);
    assert_true(orders < counts.messages); /* or the test shows nothing */
    end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_with_a_semi_synchronous_replica),
        cmocka_unit_test(an_asynchronous_replica_loses_what_it_has_not_got),
    };

    return cmocka_run_group_tests_name("failover", tests, NULL, NULL);
}
