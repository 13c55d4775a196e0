/*
 * outboxctl dead: what a consumer could not apply is listed, shown, replayed, edited and discarded
 * by the real program with the operator's account, beside a consumer that runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "consumer_rig.h"
#include "process.h"

enum { URL_MAX = 600, ARGS_MAX = 20, OUT_MAX = 16384, MANY = 40 };

#define DEAD_ROWS "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'"
#define ALL_ROWS  "SELECT COUNT(*) FROM inbox_parked"

struct scene {
    struct rig *rig;
    struct test_user operator;
    char url[URL_MAX];
    char log_path[64];
    char out[OUT_MAX]; /* what the last command said */
};

static void add_escaped(char *url, const char *text)
{
    size_t len = strlen(url);

    for (; *text != '\0' && len + 4 < URL_MAX; text++)
        len +=
            (size_t)snprintf(url + len, URL_MAX - len,
                             isalnum((unsigned char)*text) ? "%c" : "%%%02X", (unsigned char)*text);
}

static struct scene make_scene(struct rig *rig)
{
    struct scene scene = {.rig = rig, .url = "mysql://"};
    const struct db_opts *db = NULL;

    test_user_create(&scene.operator, & rig->test_db, "consumer operator");
    db = &scene.operator.opts;
    add_escaped(scene.url, db->user);
    (void)snprintf(scene.url + strlen(scene.url), URL_MAX - strlen(scene.url), ":");
    add_escaped(scene.url, db->password);
    (void)snprintf(scene.url + strlen(scene.url), URL_MAX - strlen(scene.url), "@%s:%u/%s",
                   db->host, db->port, db->database);
    (void)snprintf(scene.log_path, sizeof(scene.log_path), "dead_ctl_test.%ld.out", (long)getpid());
    return scene;
}

static void fill_argv(const char **argv, const struct scene *scene, const char *const *args)
{
    size_t count = 0;

    argv[count++] = DEAD_OUTBOXCTL;
    argv[count++] = "--db";
    argv[count++] = scene->url;
    argv[count++] = "dead";
    for (; *args != NULL && count + 1 < ARGS_MAX; args++)
        argv[count++] = *args;
    argv[count] = NULL;
}

/* "dead" and the arguments; the exit status. */
static int dead(struct scene *scene, const char *const *args)
{
    const char *argv[ARGS_MAX];
    const struct proc_opts opts = {.argv = argv, .log_path = scene->log_path};
    struct proc_exit how = {0};
    size_t len = 0;
    FILE *file;

    fill_argv(argv, scene, args);
    assert_true(proc_run(&opts, RIG_WAIT_MS, &how));
    file = fopen(scene->log_path, "r");
    assert_non_null(file);
    len = fread(scene->out, 1, sizeof(scene->out) - 1, file);
    scene->out[len] = '\0';
    (void)fclose(file);
    (void)remove(scene->log_path);
    if (getenv("OBX_TEST_LOG") != NULL)
        print_message("%s", scene->out);
    return how.code;
}
#define DEAD(scene, ...) dead(scene, (const char *const[]){__VA_ARGS__, NULL})

static void said(const struct scene *scene, const char *text)
{
    if (strstr(scene->out, text) == NULL)
        fail_msg("not said: %s\n%s", text, scene->out);
}

static void not_said(const struct scene *scene, const char *text)
{
    if (strstr(scene->out, text) != NULL)
        fail_msg("said: %s\n%s", text, scene->out);
}

/* "bad" is rejected until a test says otherwise. */
static enum obx_verdict obey(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    const _Atomic bool *is_fixed = ctx;

    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (!bytes_is(msg->body, "bad") || atomic_load(is_fixed))
        return OBX_APPLIED;
    obx_tx_reason(tx, "no such order");
    return OBX_REJECT;
}

static const char *id_of(struct rig *rig, const char *message_id)
{
    static char text[32];
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT id FROM inbox_parked WHERE message_id = '%s'",
                   message_id);
    (void)snprintf(text, sizeof(text), "%" PRIu64, rig_number(rig, sql));
    return text;
}

static struct obx_consumer *start(struct rig *rig, _Atomic bool *is_fixed)
{
    rig->opts.dead_letter_queue = NULL;
    return rig_start(rig, obey, is_fixed);
}

static void listed_shown_and_replayed(void **state)
{
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);
    _Atomic bool is_fixed = false;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put(rig, "m-0", "k", "bad");
    rig_put(rig, "m-1", "k", "ok");
    rig_put(rig, "m-2", NULL, "bad");
    rig_flush(rig);
    consumer = start(rig, &is_fixed);
    RIG_WAIT_STAT(consumer, acked, 3);
    assert_int_equal(DEAD(&scene, "list"), 0);
    said(&scene, "OBX_E_REJECTED");
    said(&scene, "no such order");
    not_said(&scene, "blocked");
    assert_int_equal(DEAD(&scene, "list", "--state", "blocked"), 0);
    said(&scene, "blocked");
    assert_int_equal(DEAD(&scene, "list", "--json", "--key", "k"), 0);
    said(&scene, "\"message_id\": \"m-0\"");
    not_said(&scene, "m-2");
    assert_int_equal(DEAD(&scene, "list", "--topic", "other.*"), 0);
    said(&scene, "no message is like that");
    assert_int_equal(DEAD(&scene, "show", id_of(rig, "m-0")), 0);
    said(&scene, "no such order");
    said(&scene, "cloudEvents:partitionkey=k");
    said(&scene, "test.topic");
    assert_int_equal(DEAD(&scene, "show", id_of(rig, "m-0"), "--payload", "raw"), 0);
    assert_string_equal(scene.out, "bad");
    /* Nothing without saying what; nothing that is not there. */
    assert_int_equal(DEAD(&scene, "replay"), 2);
    assert_int_equal(DEAD(&scene, "replay", "1", "--all"), 2);
    assert_int_equal(DEAD(&scene, "replay", "x"), 2);
    assert_int_equal(DEAD(&scene, "replay", "--all", "--rate", "0"), 2);
    assert_int_equal(DEAD(&scene, "list", "--state", "lost"), 2);
    assert_int_equal(DEAD(&scene, "show", "999999"), 1);
    assert_int_equal(DEAD(&scene, "replay", "999999"), 1);
    assert_int_equal(DEAD(&scene, "replay", id_of(rig, "m-1")), 1);
    said(&scene, "is not dead");
    /* Replayed without a cure it is dead again, and says who asked and why. */
    assert_int_equal(DEAD(&scene, "replay", id_of(rig, "m-2"), "--note", "try"), 0);
    said(&scene, "1 replayed");
    rig_wait_number(
        rig, DEAD_ROWS " AND replays = 1 AND request_note = 'try' AND requested_by <> ''", 1);
    atomic_store(&is_fixed, true);
    assert_int_equal(DEAD(&scene, "replay", "--reason", "OBX_E_REJECTED", "--rate", "1000"), 0);
    said(&scene, "2 replayed");
    rig_wait_applied(rig, 3);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, 3);
    test_user_drop(&scene.operator);
}

static void edited_and_discarded(void **state)
{
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);
    _Atomic bool is_fixed = false;
    struct obx_consumer *consumer = NULL;
    char path[] = "dead_ctl_body.XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0 && write(fd, "edited", 6) == 6);
    close(fd);
    rig_declare(rig);
    rig_put(rig, "m-0", "k", "bad");
    rig_put(rig, "m-1", "k", "bad");
    rig_put(rig, "m-2", "k", "ok");
    rig_flush(rig);
    consumer = start(rig, &is_fixed);
    RIG_WAIT_STAT(consumer, acked, 3);
    assert_int_equal(DEAD(&scene, "edit-replay", id_of(rig, "m-0")), 2);
    assert_int_equal(DEAD(&scene, "edit-replay", id_of(rig, "m-0"), "--body", path), 2);
    assert_int_equal(
        DEAD(&scene, "edit-replay", id_of(rig, "m-0"), "--body", path, "--note", "typo"), 0);
    rig_wait_number(rig, "SELECT COUNT(*) FROM applied WHERE body = 'edited'", 1);
    /* The next of the key has died meanwhile. */
    rig_wait_number(rig, DEAD_ROWS " AND message_id = 'm-1'", 1);
    assert_int_equal(DEAD(&scene, "discard", id_of(rig, "m-1")), 2);
    assert_int_equal(DEAD(&scene, "discard", "--all", "--note", "test"), 2);
    assert_int_equal(DEAD(&scene, "discard", id_of(rig, "m-1"), "--note", "test"), 0);
    said(&scene, "1 discarded");
    rig_wait_applied(rig, 2);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(DEAD(&scene, "history", "--message", "m-1"), 0);
    said(&scene, "discard");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_audit WHERE message_id = 'm-0' "
                                     "AND action = 'replay-edited' AND note = 'typo'"),
                     1);
    rig_stop(consumer);
    rig_audit(rig, 2);
    (void)unlink(path);
    test_user_drop(&scene.operator);
}

/* Larger than the server takes at once: written whole, never as the nothing that its row has. */
static void a_body_in_pieces_is_written_whole(void **state)
{
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);

    test_db_run(rig->db, "INSERT INTO inbox_parked (id, consumer_group, message_id, lane, state,"
                         " replay_until, queue, properties, body, pieces, size) VALUES (7, 'g',"
                         " 'large', 1, 'dead', UTC_TIMESTAMP(6), 'q', '', '', 2, 6)");
    test_db_run(rig->db, "INSERT INTO inbox_parked_piece (parked_id, n, piece) VALUES"
                         " (7, 1, 'two'), (7, 0, 'one')");
    assert_int_equal(DEAD(&scene, "show", "7", "--payload", "raw"), 0);
    assert_string_equal(scene.out, "onetwo");
    assert_int_equal(DEAD(&scene, "show", "7"), 0);
    said(&scene, "in 2 pieces");
    assert_int_equal(DEAD(&scene, "show", "7", "--json"), 0);
    said(&scene, "\"payload\": null");
    said(&scene, "\"pieces\": 2");
    test_db_run(rig->db, "DELETE FROM inbox_parked_piece WHERE n = 1");
    assert_int_equal(DEAD(&scene, "show", "7", "--payload", "raw"), 1);
    said(&scene, "piece 1 of the payload is not there");
    test_user_drop(&scene.operator);
}

/* Too old, or its producer knows: refused, with the reason, until it is forced. */
static void a_replay_that_may_do_harm_is_refused(void **state)
{
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);
    _Atomic bool is_fixed = false;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put(rig, "m-0", NULL, "bad");
    rig_put(rig, "m-1", NULL, "bad");
    rig_flush(rig);
    consumer = start(rig, &is_fixed);
    RIG_WAIT_STAT(consumer, dead, 2);
    atomic_store(&is_fixed, true);
    test_db_run(rig->db, "UPDATE inbox_parked SET replay_until = UTC_TIMESTAMP(6) - INTERVAL 1 DAY "
                         "WHERE message_id = 'm-0'");
    test_db_run(rig->db, "UPDATE inbox_parked SET is_reported = 1 WHERE message_id = 'm-1'");
    assert_int_equal(DEAD(&scene, "replay", "--all"), 1);
    said(&scene, "older than the dedup rows");
    said(&scene, "its producer knows");
    assert_int_equal(rig_number(rig, DEAD_ROWS " AND request IS NULL"), 2);
    assert_int_equal(DEAD(&scene, "show", id_of(rig, "m-0")), 0);
    said(&scene, "with --force only");
    assert_int_equal(DEAD(&scene, "replay", "--all", "--force"), 0);
    rig_wait_applied(rig, 2);
    rig_stop(consumer);
    rig_audit(rig, 2);
    test_user_drop(&scene.operator);
}

/* Two operators at once, each for all: every message is replayed once, and applied once. */
static void two_replays_at_once_do_no_harm(void **state)
{
    static const char *const args[] = {"replay", "--all", "--wait", "0", NULL};
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);
    _Atomic bool is_fixed = false;
    struct obx_consumer *consumer = NULL;
    struct proc *both[2] = {NULL, NULL};

    rig_declare(rig);
    for (int i = 0; i < MANY; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        rig_put(rig, id, NULL, "bad");
    }
    rig_flush(rig);
    consumer = start(rig, &is_fixed);
    RIG_WAIT_STAT(consumer, dead, MANY);
    rig_stop(consumer);
    /* Nobody is there to run it: the request stands. */
    for (size_t i = 0; i < 2; i++) {
        const char *argv[ARGS_MAX];
        const struct proc_opts opts = {.argv = argv};

        fill_argv(argv, &scene, args);
        both[i] = proc_start(&opts);
        assert_non_null(both[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_true(proc_wait(both[i], RIG_WAIT_MS, NULL));
        proc_destroy(both[i]);
    }
    assert_int_equal(rig_number(rig, DEAD_ROWS " AND request = 'replay'"), MANY);
    assert_int_equal(DEAD(&scene, "replay", "--all", "--wait", "0"), 1);
    said(&scene, "has a request");
    atomic_store(&is_fixed, true);
    consumer = start(rig, &is_fixed);
    rig_wait_applied(rig, MANY);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_stats(consumer).replayed, MANY);
    rig_stop(consumer);
    rig_audit(rig, MANY);
    test_user_drop(&scene.operator);
}

static void a_rate_is_kept(void **state)
{
    enum { RATE = 20 };
    struct rig *rig = *state;
    struct scene scene = make_scene(rig);
    _Atomic bool is_fixed = false;
    struct obx_consumer *consumer = NULL;
    uint64_t began_ms = 0;

    rig_declare(rig);
    for (int i = 0; i < MANY; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        rig_put(rig, id, NULL, "bad");
    }
    rig_flush(rig);
    consumer = start(rig, &is_fixed);
    RIG_WAIT_STAT(consumer, dead, MANY);
    atomic_store(&is_fixed, true);
    began_ms = clock_now_ms();
    assert_int_equal(DEAD(&scene, "replay", "--all", "--rate", "20"), 0);
    assert_true(clock_now_ms() - began_ms >= (MANY - RATE / 10) * 1000 / RATE);
    rig_wait_applied(rig, MANY);
    rig_stop(consumer);
    test_user_drop(&scene.operator);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(listed_shown_and_replayed),         CASE(edited_and_discarded),
        CASE(a_body_in_pieces_is_written_whole), CASE(a_replay_that_may_do_harm_is_refused),
        CASE(two_replays_at_once_do_no_harm),    CASE(a_rate_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
