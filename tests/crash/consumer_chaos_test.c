/*
 * Silence at random moments, for the consumer alone: two processes of one group that are stopped
 * and continued, killed, cut off without a sign from database or broker; copies of messages; rows
 * that a third session locks; handlers that fail and reject. When it is quiet again, all is applied
 * within a bound, once, in the order of each key; what was rejected was reported and is not
 * applied. P3, P4, P7, P8.
 *
 * OBX_TEST_SEED=N repeats a run's choices, OBX_TEST_SECONDS=N makes it longer or shorter.
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
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"
#include "crash/dice.h"
#include "cut_proxy.h"
#include "process.h"
#include "system/consumer_rig.h"
#include "wait.h"

enum {
    ACTORS = 2,
    KEYS = 12,
    DEFAULT_SECONDS = 15,
    CALM_MAX_MS = 400,     /* between two disturbances */
    SILENCE_MAX_MS = 5000, /* longer than a heartbeat and than a session's silence */
    AT_ONCE = 40,          /* messages put in between two disturbances at most */
    COPY_PERCENT = 20,
    FAIL_PERCENT = 15,
    REJECT_PERCENT = 5,
    PATIENCE_MS = 60000, /* until all is applied once it is quiet */
    SEED_STEP = 1000003,
    DECIMAL = 10,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000
};

#define CHILD_ENV "OBX_TEST_CHAOS_CHILD"

struct actor {
    struct proc *proc;
    struct cut_proxy *db;
    struct cut_proxy *broker;
};

struct play {
    struct rig *rig;
    struct dice dice;
    struct actor actors[ACTORS];
    char receipts[96];
    unsigned messages;
    int64_t begin_ms;
    uint64_t seed;
    bool is_single; /* the queue has a single active consumer */
};

/* ------------------------------------------------------------------ the child */

static uint64_t mix(struct obx_bytes id, uint32_t attempt)
{
    const unsigned char *p = id.p;
    uint64_t hash = attempt * UINT64_C(0x9E3779B97F4A7C15);

    for (size_t i = 0; i < id.len; i++)
        hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
    return hash % 100;
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (bytes_is(msg->body, "reject")) {
        obx_tx_reason(tx, "as it says");
        return OBX_REJECT;
    }
    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    return mix(msg->message_id, msg->attempt) < FAIL_PERCENT ? OBX_RETRY : OBX_APPLIED;
}

static enum obx_verdict handle_many(const struct obx_message *const *messages, size_t count,
                                    struct obx_tx *tx, void *ctx)
{
    for (size_t i = 0; i < count; i++) {
        const enum obx_verdict verdict = handle(messages[i], tx, ctx);

        if (verdict != OBX_APPLIED)
            obx_tx_answer(tx, i, verdict, "as it says");
    }
    return OBX_APPLIED;
}

/* One start in two takes the handler for many. */
static enum obx_code subscribe(struct obx_consumer *consumer, struct obx_err *err)
{
    return getpid() % 2 == 0 ? obx_consumer_subscribe(consumer, handle, NULL, err)
                             : obx_consumer_subscribe_batch(consumer, handle_many, NULL, err);
}

enum { ARG_SELF, ARG_QUEUE, ARG_BROKER, ARG_PORT, ARG_USER, ARG_PASSWORD, ARG_NAME, ARG_SAC, ARGS };

/* A consumer until it is killed. */
static int be_consumer(char **argv)
{
    struct broker broker;
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};
    struct obx_consumer_opts opts = {.size = sizeof(opts),
                                     .group = "group-a",
                                     .queue = argv[ARG_QUEUE],
                                     .broker_addresses = argv[ARG_BROKER],
                                     .db_host = "127.0.0.1",
                                     .db_port = (uint16_t)strtoul(argv[ARG_PORT], NULL, DECIMAL),
                                     .db_user = argv[ARG_USER],
                                     .db_password = argv[ARG_PASSWORD],
                                     .db_name = argv[ARG_NAME]};

    if (!broker_from_env(&broker))
        return EXIT_FAILURE;
    opts.broker_vhost = broker.vhost;
    opts.broker_user = broker.user;
    opts.broker_password = broker.password;
    opts.single_active_consumer = argv[ARG_SAC][0] == '1';
    opts.workers = 2;
    /* All by default longer: the same, slower. */
    opts.broker_heartbeat_s = 2;
    opts.db_idle_s = 3;
    opts.db_timeout_ms = 3000;
    opts.db_lock_wait_s = 1;
    opts.retry_min_ms = 10;
    opts.retry_cap_ms = 1000;
    opts.outage_pause_max_ms = 1000;
    opts.max_attempts = 1000000; /* none dies of being disturbed: what is audited is all of them */
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        subscribe(consumer, &err) != OBX_OK || obx_consumer_run(consumer, &err) != OBX_OK)
        (void)fprintf(stderr, "%s\n", err.text);
    obx_consumer_close(consumer);
    return EXIT_FAILURE;
}

/* ------------------------------------------------------------------ the stage */

static void start_actor(struct play *play, struct actor *actor)
{
    const struct db_opts *db = &play->rig->test_db.opts;
    const char *const env[] = {CHILD_ENV "=1", NULL};
    char address[32];
    char port[16];
    const char *const argv[ARGS + 1] = {"/proc/self/exe",
                                        play->rig->queue,
                                        address,
                                        port,
                                        db->user,
                                        db->password,
                                        db->database,
                                        play->is_single ? "1" : "0",
                                        NULL};
    const struct proc_opts opts = {.argv = argv, .env = env};

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", cut_proxy_port(actor->broker));
    (void)snprintf(port, sizeof(port), "%u", cut_proxy_port(actor->db));
    actor->proc = proc_start(&opts);
    assert_non_null(actor->proc);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, DECIMAL) : otherwise;
}

static void declare(struct play *play)
{
    (void)snprintf(play->receipts, sizeof(play->receipts), "rowpost.receipts.%s", play->rig->queue);
    play->rig->opts.single_active_consumer = play->is_single;
    rig_declare(play->rig);
    broker_queue(play->rig->admin, play->receipts, NULL, 0);
}

static void begin(struct play *play, struct rig *rig, bool is_single)
{
    *play = (struct play){.rig = rig,
                          .seed = number_of("OBX_TEST_SEED", random_u64() % 100000),
                          .is_single = is_single};
    play->dice.state = play->seed;
    play->begin_ms = wait_now_ms();
    print_message("  seed %" PRIu64 "\n", play->seed);
    declare(play);
    for (size_t i = 0; i < ACTORS; i++) {
        play->actors[i].db = cut_proxy_create("127.0.0.1", rig->test_db.opts.port);
        play->actors[i].broker = cut_proxy_create("127.0.0.1", (uint16_t)rig->broker.port);
        assert_true(play->actors[i].db != NULL && play->actors[i].broker != NULL);
        start_actor(play, &play->actors[i]);
    }
}

static void end(struct play *play)
{
    for (size_t i = 0; i < ACTORS; i++) {
        proc_destroy(play->actors[i].proc);
        cut_proxy_destroy(play->actors[i].db);
        cut_proxy_destroy(play->actors[i].broker);
    }
}

/* ------------------------------------------------------------------ messages */

static bool is_rejected(const struct play *play, unsigned n)
{
    struct dice dice = {.state = play->seed * SEED_STEP + n};

    return dice_percent(&dice, REJECT_PERCENT);
}

static struct obx_header text_header(const char *name, const char *text)
{
    return (struct obx_header){
        .name = bytes_of(name), .type = OBX_H_TEXT, .v.text = bytes_of(text)};
}

/* The n-th message is the same each time it is put in. */
static void put(struct play *play, unsigned n)
{
    char id[32];
    const unsigned key_n = n % KEYS;
    char key[] = "key-00";
    const struct obx_header headers[] = {
        text_header("cloudEvents:partitionkey", key),
        text_header("x-obx-receipt-to", play->receipts),
        text_header("x-obx-receipt-from", "group-a"),
        text_header("x-obx-receipt-token", "1.token"),
    };
    struct bridge_message msg = {.type = bytes_of("test.topic"),
                                 .headers = headers,
                                 .header_count = 1,
                                 .body = bytes_of("ok")};

    key[4] = (char)('0' + key_n / DECIMAL);
    key[5] = (char)('0' + key_n % DECIMAL);
    (void)snprintf(id, sizeof(id), "m-%06u", n);
    msg.message_id = bytes_of(id);
    if (is_rejected(play, n)) {
        msg.header_count = sizeof(headers) / sizeof(headers[0]);
        msg.body = bytes_of("reject");
    }
    rig_put_message(play->rig, &msg);
}

static void put_some(struct play *play)
{
    for (uint64_t left = dice_below(&play->dice, AT_ONCE + 1); left > 0; left--) {
        if (play->messages > 0 && dice_percent(&play->dice, COPY_PERCENT))
            put(play, (unsigned)dice_below(&play->dice, play->messages));
        put(play, play->messages++);
    }
    rig_flush(play->rig);
}

static unsigned count_rejected(const struct play *play)
{
    unsigned count = 0;

    for (unsigned n = 0; n < play->messages; n++)
        count += is_rejected(play, n);
    return count;
}

/* ------------------------------------------------------------------ disturbances */

/* The moment is random: this pause is what is tested, not a guess how long something takes. */
static void random_pause(struct play *play, uint64_t max_ms)
{
    uint64_t ms = dice_below(&play->dice, max_ms + 1);
    const struct timespec pause = {.tv_sec = (time_t)(ms / MS_PER_S),
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

static void say(const struct play *play, const char *what, const struct actor *actor)
{
    print_message("%6.1f s  %s %d\n", (double)(wait_now_ms() - play->begin_ms) / MS_PER_S, what,
                  (int)(actor - play->actors));
}

static struct actor *any_actor(struct play *play)
{
    return &play->actors[dice_below(&play->dice, ACTORS)];
}

static void stop_one(struct play *play)
{
    struct actor *actor = any_actor(play);

    say(play, "stop", actor);
    assert_true(proc_signal(actor->proc, SIGSTOP));
    put_some(play);
    random_pause(play, SILENCE_MAX_MS);
    assert_true(proc_signal(actor->proc, SIGCONT));
}

static void kill_one(struct play *play)
{
    struct actor *actor = any_actor(play);

    say(play, "kill", actor);
    proc_destroy(actor->proc);
    put_some(play);
    start_actor(play, actor);
}

static void silence(struct play *play, struct cut_proxy *proxy)
{
    cut_proxy_set_flow(proxy, CUT_TO_SERVER, CUT_SWALLOW);
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_SWALLOW);
    put_some(play);
    random_pause(play, SILENCE_MAX_MS);
    cut_proxy_set_flow(proxy, CUT_TO_SERVER, CUT_PASS);
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_PASS);
}

static void silence_database(struct play *play)
{
    struct actor *actor = any_actor(play);

    say(play, "silent database of", actor);
    silence(play, actor->db);
}

static void silence_broker(struct play *play)
{
    struct actor *actor = any_actor(play);

    say(play, "silent broker of", actor);
    silence(play, actor->broker);
}

static void cut_database(struct play *play)
{
    struct actor *actor = any_actor(play);

    say(play, "cut database of", actor);
    cut_proxy_cut_after(actor->db, dice_percent(&play->dice, 50) ? CUT_TO_SERVER : CUT_TO_CLIENT,
                        dice_below(&play->dice, 5000));
}

/* An operator, a report: whichever row is there. */
static void lock_row(struct play *play)
{
    struct db *other = test_db_open(&play->rig->test_db.opts);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    test_db_run(other, "START TRANSACTION");
    if (db_query(other,
                 "SELECT id FROM inbox_parked FORCE INDEX (PRIMARY) ORDER BY id LIMIT 3 "
                 "FOR UPDATE SKIP LOCKED",
                 DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    db_rows_free(rows);
    put_some(play);
    random_pause(play, SILENCE_MAX_MS / 2);
    test_db_run(other, "ROLLBACK");
    db_close(other);
}

static void disturb(struct play *play)
{
    static void (*const ways[])(struct play * play) = {
        stop_one, stop_one, kill_one, silence_database, silence_broker, cut_database, lock_row,
    };
    const int64_t until =
        wait_now_ms() + (int64_t)number_of("OBX_TEST_SECONDS", DEFAULT_SECONDS) * MS_PER_S;

    while (wait_now_ms() < until) {
        put_some(play);
        random_pause(play, CALM_MAX_MS);
        ways[dice_below(&play->dice, sizeof(ways) / sizeof(ways[0]))](play);
    }
}

/* ------------------------------------------------------------------ the audit */

static void quiet(struct play *play)
{
    for (size_t i = 0; i < ACTORS; i++) {
        cut_proxy_cut_all(play->actors[i].db);
        cut_proxy_cut_all(play->actors[i].broker);
    }
}

static bool is_done(void *ctx)
{
    struct play *play = ctx;
    const unsigned rejected = count_rejected(play);

    return rig_number(play->rig, "SELECT COUNT(*) FROM applied") >= play->messages - rejected &&
           rig_number(play->rig, "SELECT COUNT(*) FROM inbox_parked WHERE state <> 'dead'") == 0 &&
           rig_number(play->rig, "SELECT COUNT(*) FROM inbox_applied WHERE outcome = 'rejected'") ==
               rejected &&
           broker_count(play->rig->admin, play->rig->queue) == 0;
}

static void audit(struct play *play)
{
    struct rig *rig = play->rig;
    const unsigned applied = play->messages - count_rejected(play);

    if (!wait_until(PATIENCE_MS, is_done, play))
        fail_msg("%" PRIu64 " of %u applied, %" PRIu64 " rows wait, %" PRIu32 " in the queue",
                 rig_number(rig, "SELECT COUNT(*) FROM applied"), applied,
                 rig_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state <> 'dead'"),
                 broker_count(rig->admin, rig->queue));
    assert_int_equal(rig_number(rig, "SELECT COUNT(DISTINCT message_id) FROM applied"), applied);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), applied);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE body <> 'ok'"), 0);
    /* Without a single active consumer the order across processes is not promised. */
    if (play->is_single)
        assert_int_equal(
            rig_number(rig, "SELECT COUNT(*) FROM (SELECT message_id < LAG(message_id) OVER "
                            "(PARTITION BY ordering_key ORDER BY seq) AS wrong FROM applied) o "
                            "WHERE wrong"),
            0);
}

/* Marks what a report names: in a batch with others, and maybe more than once. */
static unsigned read_report(const struct play *play, const struct bridge_delivery *delivery,
                            bool *is_reported)
{
    char *body = calloc(1, delivery->msg.body.len + 1);
    unsigned news = 0;

    assert_non_null(body);
    memcpy(body, delivery->msg.body.p, delivery->msg.body.len);
    for (const char *at = body; (at = strstr(at, "\"m-")) != NULL; at++) {
        const unsigned long n = strtoul(at + 3, NULL, DECIMAL);

        assert_true(n < play->messages);
        news += !is_reported[n];
        is_reported[n] = true;
    }
    free(body);
    return news;
}

/* Each rejected message is reported, if not at once then for the copy that its producer sends as
 * long as it has heard nothing. */
static void audit_receipts(struct play *play)
{
    const int64_t deadline = wait_now_ms() + PATIENCE_MS;
    bool *is_reported = calloc(play->messages + 1, sizeof(*is_reported));
    unsigned left = count_rejected(play);

    assert_non_null(is_reported);
    while (left > 0) {
        struct bridge_delivery *delivery = rig_take(play->rig, play->receipts, MS_PER_S);

        if (wait_now_ms() > deadline)
            fail_msg("%u of %u rejections were not reported", left, count_rejected(play));
        if (delivery != NULL)
            left -= read_report(play, delivery, is_reported);
        for (unsigned n = 0; delivery == NULL && n < play->messages; n++) {
            if (is_rejected(play, n) && !is_reported[n])
                put(play, n);
        }
        rig_flush(play->rig);
        bridge_delivery_free(delivery);
    }
    free(is_reported);
}

static void run(struct rig *rig, bool is_single)
{
    struct play play;

    begin(&play, rig, is_single);
    disturb(&play);
    quiet(&play);
    audit(&play);
    audit_receipts(&play);
    end(&play);
    print_message("  %u messages, %u rejected\n", play.messages, count_rejected(&play));
    broker_delete_queue(rig->admin, play.receipts);
}

static void nobody_waits_for_who_is_silent(void **state)
{
    run(*state, false);
}

/* The broker takes the queue away from a process that goes on applying what it has. */
static void order_is_kept_when_the_active_consumer_is_silent(void **state)
{
    run(*state, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_waits_for_who_is_silent, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(order_is_kept_when_the_active_consumer_is_silent, rig_setup,
                                        rig_teardown),
    };

    if (getenv(CHILD_ENV) != NULL && argc == ARGS)
        return be_consumer(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
