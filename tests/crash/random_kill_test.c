/*
 * kill -9 and silence at random moments under load, with two relays on one outbox and two consumers
 * of three workers each, rollbacks, transactions held open for seconds, bodies large and small;
 * then the audit (P1, P2, P3, P4, P7). Relays, consumers, RabbitMQ and MariaDB are killed or stand
 * still (SIGSTOP); the line between one program and one server holds back or swallows what goes one
 * way or both; rows are locked by somebody else; now and then a program is killed meanwhile.
 *
 * OBX_TEST_SEED=N repeats a run's choices, OBX_TEST_SECONDS=N makes it longer or shorter (60). By
 * hand: OBX_TEST_SILENCE_MS=N is the longest silence, OBX_TEST_DEFAULTS=1 leaves relay and consumer
 * all of their defaults, where a silence has to be some 60000 long to outlast their patience.
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
#include <time.h>

#include "base/random.h"
#include "crash/dice.h"
#include "crash/scene.h"
#include "cut_proxy.h"
#include "test_db.h"
#include "wait.h"

enum {
    DEFAULT_SECONDS = 60,
    CALM_MAX_MS = 2500,    /* between two deeds */
    AWAY_MAX_MS = 1000,    /* a killed one stays away */
    SILENCE_MAX_MS = 3000, /* the lease is half of it */
    KILL_PERCENT = 25,     /* of the silences: a program is killed meanwhile */
    HALF = 50,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
    DECIMAL = 10
};

struct play {
    struct scene *scene;
    struct dice dice;
    int64_t begin_ms;
    uint64_t silence_max_ms;
};

/* The moment of a kill is random: this pause is what is tested, not a guess how long something
 * takes. */
static void random_pause(struct play *play, uint64_t max_ms)
{
    uint64_t ms = dice_below(&play->dice, max_ms + 1);
    const struct timespec pause = {.tv_sec = (time_t)(ms / MS_PER_S),
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

static void say(const struct play *play, const char *what, const char *whom, unsigned index)
{
    print_message("%6.1f s  %s %s %u\n", (double)(wait_now_ms() - play->begin_ms) / MS_PER_S, what,
                  whom, index);
}

static void kill_program(struct play *play, enum scene_role role)
{
    unsigned index = (unsigned)dice_below(&play->dice, SCENE_ACTORS);

    if (!proc_is_alive(scene_proc(play->scene, role, index)))
        fail_msg("%s %u ended by itself", scene_role_name(role), index);
    say(play, "kill -9", scene_role_name(role), index);
    scene_kill(play->scene, role, index);
    random_pause(play, AWAY_MAX_MS);
    scene_start(play->scene, role, index, NULL);
}

static void kill_relay(struct play *play)
{
    kill_program(play, SCENE_RELAY);
}

static void kill_consumer(struct play *play)
{
    kill_program(play, SCENE_CONSUMER);
}

/* Something is silent now: for a while, and maybe a program, the same or another, is killed. */
static void while_silent(struct play *play)
{
    random_pause(play, play->silence_max_ms);
    if (!dice_percent(&play->dice, KILL_PERCENT))
        return;
    kill_program(play, dice_percent(&play->dice, HALF) ? SCENE_RELAY : SCENE_CONSUMER);
    random_pause(play, play->silence_max_ms);
}

static void stop_program(struct play *play, enum scene_role role)
{
    unsigned index = (unsigned)dice_below(&play->dice, SCENE_ACTORS);

    say(play, "SIGSTOP", scene_role_name(role), index);
    assert_true(proc_signal(scene_proc(play->scene, role, index), SIGSTOP));
    while_silent(play);
    assert_true(proc_signal(scene_proc(play->scene, role, index), SIGCONT));
}

static void stop_relay(struct play *play)
{
    stop_program(play, SCENE_RELAY);
}

static void stop_consumer(struct play *play)
{
    stop_program(play, SCENE_CONSUMER);
}

/* One line is silent one way or both: what is in flight comes late, or never comes. */
static void silence_line(struct play *play, enum scene_role role, enum scene_line line)
{
    unsigned index = (unsigned)dice_below(&play->dice, SCENE_ACTORS);
    struct cut_proxy *proxy = scene_proxy(play->scene, role, index, line);
    const enum cut_flow flow = dice_percent(&play->dice, HALF) ? CUT_HOLD : CUT_SWALLOW;
    const uint64_t ways = 1 + dice_below(&play->dice, 3);

    say(play,
        line == SCENE_TO_DATABASE ? "silent line to the database:" : "silent line to the broker:",
        scene_role_name(role), index);
    for (int dir = CUT_TO_SERVER; dir <= CUT_TO_CLIENT; dir++)
        if ((ways & (UINT64_C(1) << dir)) != 0)
            cut_proxy_set_flow(proxy, (enum cut_dir)dir, flow);
    while_silent(play);
    for (int dir = CUT_TO_SERVER; dir <= CUT_TO_CLIENT; dir++)
        cut_proxy_set_flow(proxy, (enum cut_dir)dir, CUT_PASS);
}

static void silence_relay_database(struct play *play)
{
    silence_line(play, SCENE_RELAY, SCENE_TO_DATABASE);
}

static void silence_relay_broker(struct play *play)
{
    silence_line(play, SCENE_RELAY, SCENE_TO_BROKER);
}

static void silence_consumer_database(struct play *play)
{
    silence_line(play, SCENE_CONSUMER, SCENE_TO_DATABASE);
}

static void silence_consumer_broker(struct play *play)
{
    silence_line(play, SCENE_CONSUMER, SCENE_TO_BROKER);
}

static void kill_server(struct play *play, const char *server)
{
    say(play, "kill -9", server, 0);
    scene_server(play->scene, "kill", server);
    random_pause(play, AWAY_MAX_MS);
    scene_server(play->scene, "start", server);
    say(play, "back:", server, 0);
}

static void pause_server(struct play *play, const char *server)
{
    say(play, "pause", server, 0);
    scene_server(play->scene, "pause", server);
    while_silent(play);
    scene_server(play->scene, "resume", server);
}

static void kill_broker(struct play *play)
{
    kill_server(play, "rabbitmq");
}

static void kill_database(struct play *play)
{
    kill_server(play, "database");
}

static void pause_broker(struct play *play)
{
    pause_server(play, "rabbitmq");
}

static void pause_database(struct play *play)
{
    pause_server(play, "database");
}

/* Somebody else locks whichever rows are there, in one of the tables, and takes his time. */
static void hold_rows(struct play *play)
{
    static const char *const tables[] = {
        LEDGER_PRODUCER_DB ".outbox", LEDGER_PRODUCER_DB ".outbox_awaiting",
        LEDGER_CONSUMER_DB ".inbox_parked", LEDGER_CONSUMER_DB ".inbox_applied"};
    const struct db_opts root = test_db_root_opts();
    struct db *other = test_db_open(&root);
    unsigned table = (unsigned)dice_below(&play->dice, sizeof(tables) / sizeof(tables[0]));
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    char sql[128];

    say(play, "rows are held:", tables[table], 0);
    snprintf(sql, sizeof(sql), "SELECT 1 FROM %s LIMIT 3 FOR UPDATE SKIP LOCKED", tables[table]);
    test_db_run(other, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
    test_db_run(other, "BEGIN");
    if (db_query(other, sql, DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s: %s", sql, err.text);
    db_rows_free(rows);
    while_silent(play);
    db_close(other);
}

/* The first of each come in this order, so that none is left to chance; then the weights decide. */
static const struct {
    void (*run)(struct play *play);
    uint32_t weight;
} deeds[] = {
    {kill_relay, 18},
    {kill_consumer, 16},
    {kill_database, 7},
    {kill_broker, 7},
    {stop_relay, 9},
    {stop_consumer, 9},
    {pause_database, 5},
    {pause_broker, 5},
    {silence_relay_database, 5},
    {silence_relay_broker, 5},
    {silence_consumer_database, 5},
    {silence_consumer_broker, 5},
    {hold_rows, 4},
};
enum { DEEDS = sizeof(deeds) / sizeof(deeds[0]), WEIGHTS = 100 };

static void do_something(struct play *play, unsigned turn)
{
    uint64_t rolled = dice_below(&play->dice, WEIGHTS);
    unsigned deed = 0;

    while (rolled >= deeds[deed].weight)
        rolled -= deeds[deed++].weight;
    random_pause(play, CALM_MAX_MS);
    deeds[turn < DEEDS ? turn : deed].run(play);
}

static void start_programs(struct scene *scene)
{
    for (unsigned i = 0; i < SCENE_ACTORS; i++) {
        scene_start(scene, SCENE_CONSUMER, i, NULL);
        scene_start(scene, SCENE_RELAY, i, NULL);
    }
}

static uint64_t number_from_env(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, DECIMAL) : fallback;
}

static void books_are_in_order_after_kills_and_silence(void **state)
{
    const uint64_t seed = number_from_env("OBX_TEST_SEED", random_u64() % UINT32_MAX);
    const int64_t length_ms =
        (int64_t)number_from_env("OBX_TEST_SECONDS", DEFAULT_SECONDS) * MS_PER_S;
    const struct load_opts opts = {.db = scene_producer_opts(),
                                   .topic = SCENE_TOPIC,
                                   .receipt_from = SCENE_GROUP,
                                   .receipt_percent = 20,
                                   .producers = 6,
                                   .keyless_percent = 30,
                                   .rollback_percent = 20,
                                   .hold_percent = 1,
                                   .hold_max_ms = 4000,
                                   .big_percent = 2,
                                   .pause_max_ms = 10,
                                   .seed = seed};
    struct play play = {.dice.state = seed,
                        .begin_ms = wait_now_ms(),
                        .silence_max_ms = number_from_env("OBX_TEST_SILENCE_MS", SILENCE_MAX_MS)};
    struct load_counts counts;
    struct load *load = NULL;
    struct obx_err err = {0};

    (void)state;
    print_message("OBX_TEST_SEED=%" PRIu64 "\n", seed);
    play.scene = scene_create();
    if (dice_percent(&play.dice, HALF))
        scene_pack(play.scene);
    scene_put_proxies(play.scene);
    start_programs(play.scene);
    if (load_start(&opts, &load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    scene_wait_applied(play.scene, 1);
    for (unsigned turn = 0; turn < DEEDS || wait_now_ms() - play.begin_ms < length_ms; turn++)
        do_something(&play, turn);
    load_stop(load, &counts);
    print_message("transactions: committed=%" PRIu64 " rolled_back=%" PRIu64 " failed=%" PRIu64
                  " unknown=%" PRIu64 "\n",
                  counts.committed, counts.rolled_back, counts.failed, counts.unknown);
    assert_true(counts.committed > 0 && counts.rolled_back > 0);
    scene_finish(play.scene);
    scene_destroy(play.scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(books_are_in_order_after_kills_and_silence),
    };

    return cmocka_run_group_tests_name("random_kill", tests, NULL, NULL);
}
