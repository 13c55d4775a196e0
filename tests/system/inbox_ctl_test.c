/*
 * outboxctl inbox: what a service's workers could not apply is listed, shown, replayed and discarded
 * by the real program with the operator's account, beside inbox-relay and workers that use the
 * documented statements (P4, P7, P10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "inbox_rig.h"
#include "process.h"

enum { URL_MAX = 600, ARGS_MAX = 24, OUT_MAX = 1 << 20, ID_MAX = 24 };

#define AUDITS "SELECT COUNT(*) FROM inbox_audit"

struct scene {
    struct inbox_rig *rig;
    struct test_user operator;
    struct db *worker;
    char url[URL_MAX];
    char log_path[128];
    char *out; /* what the last command said */
    size_t out_len;
};

/* ---- set-up ---- */

static void add_escaped(char *url, const char *text)
{
    size_t len = strlen(url);

    for (; *text != '\0' && len + 4 < URL_MAX; text++)
        len +=
            (size_t)snprintf(url + len, URL_MAX - len,
                             isalnum((unsigned char)*text) ? "%c" : "%%%02X", (unsigned char)*text);
}

static int scene_setup(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    void *inner = NULL;
    const struct db_opts *db;

    if (scene == NULL || inbox_rig_setup(&inner) != 0)
        return -1;
    scene->rig = inner;
    scene->out = malloc(OUT_MAX);
    assert_non_null(scene->out);
    scene->worker = test_db_open(&scene->rig->worker_opts);
    test_user_create(&scene->operator, & scene->rig->rig->test_db, "inbox operator");
    db = &scene->operator.opts;
    (void)snprintf(scene->url, URL_MAX, "mysql://");
    add_escaped(scene->url, db->user);
    (void)snprintf(scene->url + strlen(scene->url), URL_MAX - strlen(scene->url), ":");
    add_escaped(scene->url, db->password);
    (void)snprintf(scene->url + strlen(scene->url), URL_MAX - strlen(scene->url), "@%s:%u/%s",
                   db->host, db->port, db->database);
    (void)snprintf(scene->log_path, sizeof(scene->log_path), "%s/ctl.out", scene->rig->dir);
    *state = scene;
    return 0;
}

static int scene_teardown(void **state)
{
    struct scene *scene = *state;
    void *inner = scene->rig;

    db_close(scene->worker);
    test_user_drop(&scene->operator);
    free(scene->out);
    free(scene);
    return inbox_rig_teardown(&inner);
}

/* "inbox" and the arguments; the exit status. */
static int inbox(struct scene *scene, const char *const *args)
{
    const char *argv[ARGS_MAX] = {INBOX_OUTBOXCTL, "--db", scene->url, "inbox"};
    const struct proc_opts opts = {.argv = argv, .log_path = scene->log_path};
    struct proc_exit how = {0};
    FILE *file;

    for (size_t count = 4; *args != NULL && count + 1 < ARGS_MAX; args++)
        argv[count++] = *args;
    (void)remove(scene->log_path);
    assert_true(proc_run(&opts, RIG_WAIT_MS, &how));
    file = fopen(scene->log_path, "r");
    assert_non_null(file);
    scene->out_len = fread(scene->out, 1, OUT_MAX - 1, file);
    scene->out[scene->out_len] = '\0';
    (void)fclose(file);
    if (getenv("OBX_TEST_LOG") != NULL)
        print_message("%s", scene->out);
    return how.code;
}
#define INBOX(scene, ...) inbox(scene, (const char *const[]){__VA_ARGS__, NULL})

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

static void put(struct scene *scene, const char *id, const char *key, const char *body)
{
    rig_put(scene->rig->rig, id, key, body);
    rig_flush(scene->rig->rig);
}

static void wait_stored(struct scene *scene, uint64_t rows)
{
    rig_wait_number(scene->rig->rig, "SELECT COUNT(*) FROM inbox", rows);
}

static uint64_t number(struct scene *scene, const char *sql)
{
    return rig_number(scene->rig->rig, sql);
}

/* The id of a message, as a word of the command line. */
static const char *id_of(struct scene *scene, const char *message, char *id)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT id FROM inbox WHERE message_id = '%s'", message);
    (void)snprintf(id, ID_MAX, "%" PRIu64, number(scene, sql));
    return id;
}

static void assert_state(struct scene *scene, const char *message, const char *wanted)
{
    char sql[160];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT COUNT(*) FROM inbox WHERE message_id = '%s' AND state = '%s'", message,
                   wanted);
    if (number(scene, sql) != 1)
        fail_msg("%s is not %s", message, wanted);
}

static enum inbox_act by_body(const struct inbox_taken *taken)
{
    return strcmp(taken->payload, "reject") == 0 ? INBOX_ACT_REJECT : INBOX_ACT_DONE;
}

/* One message by the worker; it has to be there. */
static void work(struct scene *scene, inbox_act_fn *act)
{
    struct obx_err err = {0};

    assert_true(inbox_work_once(scene->worker, NULL, act, &err));
}

static void wait_filed(struct scene *scene)
{
    rig_wait_number(scene->rig->rig,
                    "SELECT COUNT(*) FROM inbox WHERE state IN ('done', 'dead', 'discarded')"
                    " AND due_at IS NOT NULL",
                    0);
}

/* A frozen key of three, whose head is dead, and a message without a key that is. */
static void make_dead(struct scene *scene)
{
    inbox_rig_start(scene->rig, 0, NULL);
    put(scene, "a-1", "a", "reject");
    put(scene, "a-2", "a", "ok");
    put(scene, "a-3", "a", "ok");
    wait_stored(scene, 3);
    put(scene, "n-1", NULL, "reject");
    wait_stored(scene, 4);
    work(scene, by_body);
    work(scene, by_body);
    wait_filed(scene);
}

/* ---- list, show ---- */

static void lists_and_shows(void **state)
{
    struct scene *scene = *state;
    char id[ID_MAX];

    make_dead(scene);
    assert_int_equal(INBOX(scene, "list"), 0);
    said(scene, "OBX_E_REJECTED");
    said(scene, "no such order");
    not_said(scene, "blocked");
    assert_int_equal(INBOX(scene, "list", "--json", "--key", "a"), 0);
    said(scene, "\"message_id\": \"a-1\"");
    said(scene, "\"followers\": 2");
    said(scene, "\"next\": null");
    not_said(scene, "\"n-1\"");
    assert_int_equal(INBOX(scene, "list", "--json", "--state", "blocked", "--key", "a"), 0);
    said(scene, "\"a-2\"");
    said(scene, "\"a-3\"");
    not_said(scene, "\"a-1\"");
    assert_int_equal(INBOX(scene, "list", "--json", "--state", "any", "--limit", "2"), 0);
    said(scene, "\"a-2\"");
    not_said(scene, "\"a-3\"");
    (void)id_of(scene, "a-3", id);
    assert_int_equal(INBOX(scene, "list", "--json", "--state", "any", "--after", id), 0);
    said(scene, "\"n-1\"");
    not_said(scene, "\"a-3\"");
    assert_int_equal(INBOX(scene, "list", "--queue", "other"), 0);
    said(scene, "no message is like that");
    assert_int_equal(INBOX(scene, "list", "--reason", "OBX_E_HANDLER"), 0);
    said(scene, "no message is like that");
    assert_int_equal(INBOX(scene, "list", "--queue", "orders", "--message", "n-1", "--json"), 0);
    said(scene, "\"n-1\"");
    assert_int_equal(INBOX(scene, "list", "--state", "parked"), 2);

    assert_int_equal(INBOX(scene, "show", id_of(scene, "a-2", id)), 0);
    said(scene, "blocked by");
    assert_int_equal(INBOX(scene, "show", id_of(scene, "a-1", id), "--payload", "raw"), 0);
    assert_string_equal(scene->out, "reject");
    assert_int_equal(INBOX(scene, "show", "999999"), 1);
    said(scene, "there is no message of the inbox 999999");
    inbox_rig_stop(scene->rig, 0);
}

/* P10: also where the server gives no such row at once. `size` says so here, whatever the payload. */
static void a_large_payload_is_written_whole(void **state)
{
    struct scene *scene = *state;
    struct db *db = scene->rig->rig->db;
    size_t good = 0;

    test_db_run(db, "INSERT INTO inbox (queue, state, message_id, topic, size, payload) SELECT"
                    " 'orders', 'dead', 'l', 't', 2 * @@max_allowed_packet,"
                    " REPEAT('0123456789abcde', 40000)");
    assert_int_equal(INBOX(scene, "show", "1"), 0);
    said(scene, "--payload raw writes it");
    assert_int_equal(INBOX(scene, "show", "1", "--payload", "raw"), 0);
    assert_int_equal(scene->out_len, 600000);
    for (size_t i = 0; i < scene->out_len; i++)
        good += scene->out[i] == "0123456789abcde"[i % 15];
    assert_int_equal(good, scene->out_len);
}

/* ---- replay, discard ---- */

static void a_replayed_head_holds_its_key_until_it_is_done(void **state)
{
    struct scene *scene = *state;
    struct inbox_workers *workers;
    char id[ID_MAX];

    make_dead(scene);
    test_db_run(scene->rig->rig->db, "UPDATE inbox SET payload = 'ok'");
    assert_int_equal(INBOX(scene, "replay", id_of(scene, "a-2", id)), 1);
    said(scene, "refused: is not dead");
    assert_int_equal(number(scene, AUDITS), 0);
    assert_int_equal(INBOX(scene, "replay", id_of(scene, "a-1", id), id, "--note", "fixed"), 0);
    said(scene, "replayed");
    assert_state(scene, "a-1", "ready");
    assert_state(scene, "a-2", "blocked");
    assert_int_equal(number(scene, AUDITS " WHERE action = 'inbox-replay' AND note = 'fixed'"
                                          " AND consumer_group = 'orders' AND message_id = 'a-1'"
                                          " AND ordering_key = 'a' AND actor <> ''"
                                          " AND reason_code = 'OBX_E_REJECTED'"),
                     1);
    work(scene, by_body);
    assert_state(scene, "a-2", "ready");
    assert_state(scene, "a-3", "blocked");
    workers = inbox_workers_start(scene->rig, 2, NULL);
    rig_wait_applied(scene->rig->rig, 3);
    assert_int_equal(INBOX(scene, "replay", "--reason", "OBX_E_REJECTED", "--json"), 0);
    said(scene, "\"done\": 1");
    rig_wait_applied(scene->rig->rig, 4);
    wait_stored(scene, 0);
    (void)inbox_workers_stop(workers);
    assert_int_equal(INBOX(scene, "replay", "--all"), 1);
    said(scene, "nothing fits");
    inbox_rig_stop(scene->rig, 0);
    rig_audit(scene->rig->rig, 4);
}

static void a_discarded_head_lets_its_key_go_on(void **state)
{
    struct scene *scene = *state;
    struct inbox_workers *workers;
    char id[ID_MAX];

    make_dead(scene);
    assert_int_equal(INBOX(scene, "discard", id_of(scene, "a-1", id)), 2);
    assert_int_equal(INBOX(scene, "discard", "--all", "--note", "no such orders"), 2);
    said(scene, "this would discard 2 messages for ever");
    assert_int_equal(INBOX(scene, "discard", id_of(scene, "a-3", id), "--note", "n"), 1);
    said(scene, "refused: waits for an earlier one of its key");
    assert_state(scene, "a-1", "dead");
    assert_int_equal(INBOX(scene, "discard", "--all", "--yes", "--note", "no such orders"), 0);
    said(scene, "2 discarded");
    rig_wait_number(scene->rig->rig,
                    "SELECT COUNT(*) FROM inbox WHERE message_id = 'a-2' AND state = 'ready'", 1);
    workers = inbox_workers_start(scene->rig, 2, NULL);
    rig_wait_applied(scene->rig->rig, 2);
    wait_stored(scene, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(scene->rig, 0);
    rig_audit(scene->rig->rig, 2);
    assert_int_equal(number(scene, AUDITS " WHERE action = 'inbox-discard'"), 2);
}

/* The worker that has taken a message decides on it; the operator does not wait for that. */
static void a_message_that_a_worker_has_is_left_alone(void **state)
{
    struct scene *scene = *state;
    struct inbox_taken taken = {0};
    struct obx_err err = {0};
    bool found = false;
    char id[ID_MAX];

    inbox_rig_start(scene->rig, 0, NULL);
    put(scene, "a-1", "a", "ok");
    put(scene, "a-2", "a", "ok");
    wait_stored(scene, 2);
    (void)id_of(scene, "a-1", id);
    assert_int_equal(db_begin(scene->worker, &err), OBX_OK);
    assert_int_equal(inbox_take(scene->worker, "orders", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found);
    assert_int_equal(INBOX(scene, "discard", id, "--note", "n"), 1);
    said(scene, "somebody has it in a transaction");
    assert_int_equal(number(scene, AUDITS), 0);
    assert_int_equal(db_rollback(scene->worker, &err), OBX_OK);
    assert_int_equal(INBOX(scene, "discard", id, "--note", "n"), 0);
    rig_wait_number(scene->rig->rig, "SELECT COUNT(*) FROM inbox WHERE state = 'ready'", 1);
    work(scene, NULL);
    wait_stored(scene, 0);
    inbox_rig_stop(scene->rig, 0);
    rig_audit(scene->rig->rig, 1);
}

static void what_its_producer_knows_as_rejected_is_not_replayed(void **state)
{
    struct scene *scene = *state;
    char id[ID_MAX];

    test_db_run(scene->rig->rig->db,
                "INSERT INTO inbox (queue, state, is_reported, message_id, topic, size, payload)"
                " VALUES ('orders', 'dead', 1, 'r-1', 't', 1, 'x')");
    assert_int_equal(INBOX(scene, "replay", id_of(scene, "r-1", id)), 1);
    said(scene, "its producer knows that it was rejected");
    assert_state(scene, "r-1", "dead");
}

/* Each row is left by the program as by the statement of the contract. */
static void does_what_the_documented_statements_do(void **state)
{
    static const struct {
        const char *command, *state;
        enum inbox_statement statement;
    } cases[] = {{"replay", "dead", INBOX_REPLAY},
                 {"discard", "dead", INBOX_DISCARD},
                 {"discard", "ready", INBOX_DISCARD}};
    struct scene *scene = *state;
    struct db *db = scene->rig->rig->db;
    struct obx_err err = {0};
    char sql[512];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        test_db_run(db, "TRUNCATE inbox");
        (void)snprintf(sql, sizeof(sql),
                       "INSERT INTO inbox (queue, state, key_hash, after_id, attempts, reason_code,"
                       " reason, first_failed_at, last_failed_at, message_id, topic, ordering_key,"
                       " size, payload) SELECT 'orders', '%s', 'k', 7, 3, 'r', 'because',"
                       " '2026-01-01', '2026-01-02', CONCAT('m-', n), 't', 'k', 1, 'x'"
                       " FROM (SELECT 1 AS n UNION SELECT 2) two",
                       cases[i].state);
        test_db_run(db, sql);
        assert_int_equal(
            db_exec(db, inbox_statement_text(cases[i].statement), DB_ARGS(DB_U64(1)), NULL, &err),
            OBX_OK);
        assert_int_equal(INBOX(scene, cases[i].command, "2", "--note", "n"), 0);
        assert_int_equal(
            number(scene, "SELECT COUNT(*) FROM (SELECT DISTINCT queue, state, due_at IS NULL AS d,"
                          " key_hash, after_id, attempts, max_attempts, holds_key, is_reported,"
                          " reason_code, reason, first_failed_at, last_failed_at, topic,"
                          " ordering_key, size, payload FROM inbox) x"),
            1);
        assert_int_equal(number(scene, "SELECT COUNT(*) FROM inbox WHERE due_at >="
                                       " UTC_TIMESTAMP(6) - INTERVAL 1 HOUR"),
                         2);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(lists_and_shows),
        CASE(a_large_payload_is_written_whole),
        CASE(a_replayed_head_holds_its_key_until_it_is_done),
        CASE(a_discarded_head_lets_its_key_go_on),
        CASE(a_message_that_a_worker_has_is_left_alone),
        CASE(what_its_producer_knows_as_rejected_is_not_replayed),
        CASE(does_what_the_documented_statements_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
