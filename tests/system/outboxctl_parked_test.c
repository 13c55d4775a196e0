/*
 * `outboxctl parked`: what a relay has parked is listed, shown, resumed and discarded by the real
 * program with the operator's account; bad arguments change nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program_rig.h"
#include "wait.h"

enum { ARGS_MAX = 20 };

/* "parked" and the arguments, as the operator. */
static int parked(struct program_rig *rig, const char *const *args)
{
    const char *all[ARGS_MAX] = {"parked"};
    char path[192], text[128];
    size_t count = 1;

    snprintf(text, sizeof(text), "%s\n", rig->operator.opts.password);
    rig_write(rig, "operator-password", text, path);
    for (; *args != NULL; args++) {
        assert_true(count < ARGS_MAX - 5);
        all[count++] = *args;
    }
    all[count++] = "--user";
    all[count++] = rig->operator.name;
    all[count++] = "--password-file";
    all[count++] = path;
    return rig_run_ctl(rig, NULL, all);
}

/* Topics that begin with n. have no queue: they are parked at the first try. */
static void park(struct program_rig *rig, const char *topic, const char *key, unsigned count)
{
    uint64_t before = rig_number(rig, "SELECT COUNT(*) FROM outbox_parked");

    for (unsigned i = 0; i < count; i++)
        rig_insert(rig, "outbox", topic, key, "the body");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), before + count);
}

static void start(struct program_rig *rig)
{
    rig_start_ready(rig, 0, WORDS("OBX_LANE_MAX_ATTEMPTS=1"));
}

/* The id of a parked message as an argument. */
static const char *id_of(struct program_rig *rig, const char *order, char id[24])
{
    snprintf(id, 24, "%" PRIu64,
             rig_number(rig, "SELECT parked_id FROM outbox_parked ORDER BY parked_id %s LIMIT 1",
                        order));
    return id;
}

static void bind_all(struct program_rig *rig)
{
    broker_bind(rig->admin, rig->queue, rig->exchange, "n.#");
}

static void list_with_filters_and_pages(void **state)
{
    struct program_rig *rig = *state;
    char id[24];

    assert_int_equal(parked(rig, WORDS("list")), 0);
    rig_said(rig, "nothing is parked");
    start(rig);
    park(rig, "n.one", NULL, 2);
    park(rig, "n.two", "key-a", 3);
    assert_int_equal(parked(rig, WORDS("list")), 0);
    rig_said(rig, "n.one");
    rig_said(rig, "(head of 2)");
    assert_int_equal(parked(rig, WORDS("list", "--topic", "n.o*")), 0);
    rig_said_not(rig, "n.two");
    assert_int_equal(parked(rig, WORDS("list", "--key", "key-a")), 0);
    rig_said_not(rig, "n.one");
    assert_int_equal(parked(rig, WORDS("list", "--topic", "n._ne")), 0);
    rig_said(rig, "nothing is parked"); /* an underscore is one here */
    assert_int_equal(parked(rig, WORDS("list", "--limit", "1")), 0);
    rig_said(rig, "more: --after ");
    assert_int_equal(parked(rig, WORDS("list", "--after", id_of(rig, "DESC", id))), 0);
    rig_said(rig, "nothing is parked");
    assert_int_equal(parked(rig, WORDS("list", "--json", "--topic", "n.two")), 0);
    rig_said(rig, "\"holds_key\": true");
    rig_said(rig, "\"followers\": 2");
    rig_said(rig, "\"ordering_key\": \"key-a\"");
    assert_int_equal(parked(rig, WORDS("list", "--reason", "OBX_E_MQ_UNROUTABLE", "--json")), 0);
    rig_said(rig, "OBX_E_MQ_UNROUTABLE");
}

/* Payloads are bytes: shown in hexadecimal, escaped in JSON, written raw without a change. */
static void show_text_and_bytes(void **state)
{
    struct program_rig *rig = *state;
    char id[24];

    start(rig);
    rig_sql(rig, "INSERT INTO outbox (topic, ordering_key, headers, payload) VALUES "
                 "('n.bin', 'k', '{\"h\": \"v\"}', x'00ff1b5b33316d0a80')");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    id_of(rig, "ASC", id);
    assert_int_equal(parked(rig, WORDS("show", id)), 0);
    rig_said(rig, "00 ff 1b 5b 33 31 6d 0a 80");
    rig_said(rig, "n.bin");
    rig_said(rig, "OBX_E_MQ_UNROUTABLE");
    rig_said(rig, "\"h\"");
    assert_null(memchr(rig->out.data, 0x1b, rig->out.len)); /* nothing for a terminal to obey */
    assert_int_equal(parked(rig, WORDS("show", id, "--json")), 0);
    rig_said(rig, "\"payload_hex\": \"00ff1b5b33316d0a80\"");
    assert_int_equal(parked(rig, WORDS("show", id, "--payload", "raw")), 0);
    assert_int_equal(rig->out.len, 9);
    assert_memory_equal(rig->out.data, "\0\xff\x1b[31m\n\x80", 9);
    park(rig, "n.text", NULL, 1);
    assert_int_equal(parked(rig, WORDS("show", id_of(rig, "DESC", id))), 0);
    rig_said(rig, "  the body");
    assert_int_equal(parked(rig, WORDS("show", "999999")), 1);
    rig_said(rig, "there is no parked message 999999");
    assert_int_equal(parked(rig, WORDS("show", "7x")), 2);
    assert_int_equal(parked(rig, WORDS("show")), 2);
    assert_int_equal(parked(rig, WORDS("show", id, "--payload", "hex")), 2);
}

/* By id, and the followers of a frozen key come along, in order. */
static void resume_by_id_takes_the_key_along(void **state)
{
    struct program_rig *rig = *state;
    struct broker_message msg;
    char id[24], body[16];

    start(rig);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(body, sizeof(body), "%u", i);
        rig_insert(rig, "outbox", "n.x", "k", body);
    }
    rig_wait_number(rig, 5, "SELECT COUNT(*) FROM outbox_parked");
    bind_all(rig);
    assert_int_equal(parked(rig, WORDS("resume", id_of(rig, "ASC", id), "--note", "queue is there",
                                       "--wait", "50")),
                     0);
    rig_said(rig, ": resumed");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_empty(rig, "outbox");
    for (unsigned i = 0; i < 5; i++) {
        assert_true(broker_get(rig->admin, rig->queue, &msg));
        assert_int_equal(strtoul(msg.body, NULL, 10), i);
    }
}

static void resume_by_filter_and_all(void **state)
{
    struct program_rig *rig = *state;

    start(rig);
    park(rig, "n.one", NULL, 2);
    park(rig, "n.two", "k", 2);
    bind_all(rig);
    assert_int_equal(parked(rig, WORDS("resume", "--topic", "n.one", "--wait", "50")), 0);
    rig_wait_number(rig, 2, "SELECT COUNT(*) FROM outbox_parked");
    assert_int_equal(parked(rig, WORDS("resume", "--key", "nobody", "--wait", "50")), 0);
    rig_said(rig, "nothing fits");
    assert_int_equal(parked(rig, WORDS("resume", "--all", "--json", "--wait", "50")), 0);
    rig_said(rig, "\"result\": \"done\"");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(broker_count(rig->admin, rig->queue), 4);
}

static void discard_is_hard_to_do_by_accident(void **state)
{
    struct program_rig *rig = *state;
    char id[24];

    start(rig);
    park(rig, "n.one", NULL, 3);
    assert_int_equal(parked(rig, WORDS("discard", "--all", "--note", "n")), 2);
    rig_said(rig, "add --yes");
    rig_said(rig, "3 messages");
    assert_int_equal(parked(rig, WORDS("discard", "--all", "--yes")), 2);
    rig_said(rig, "--note TEXT");
    assert_int_equal(parked(rig, WORDS("discard", id_of(rig, "ASC", id))), 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked WHERE request IS NULL"),
                     3);
    assert_int_equal(parked(rig, WORDS("discard", id, "--note", "a test", "--wait", "50")), 0);
    rig_said(rig, ": discarded");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 2);
    assert_int_equal(
        parked(rig, WORDS("discard", "--all", "--yes", "--note", "a test", "--wait", "50")), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_audit WHERE note = 'a test'"), 3);
    assert_int_equal(parked(rig, WORDS("history", "--limit", "2")), 0);
    rig_said(rig, "a test");
    assert_int_equal(parked(rig, WORDS("history", "--message", "nobody's", "--json")), 0);
    rig_said(rig, "[]");
    assert_int_equal(broker_count(rig->admin, rig->queue), 0);
}

static void bad_arguments_change_nothing(void **state)
{
    static const char *const lines[][4] = {
        {"resume", NULL},         {"resume", "seven", NULL},
        {"resume", "1", "--all"}, {"resume", "-5", NULL},
        {"resume", "1,2", NULL},  {"resume", "--all", "--wait", "soon"},
        {"discard", NULL},        {"resume", "99999999999999999999999", NULL},
        {"list", "--limit", "0"}, {"list", "--limit", "ten"},
        {"list", "7", NULL},
    };
    struct program_rig *rig = *state;

    start(rig);
    park(rig, "n.one", NULL, 2);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *const args[] = {
            lines[i][0], lines[i][1], lines[i][1] == NULL ? NULL : lines[i][2],
            lines[i][1] == NULL || lines[i][2] == NULL ? NULL : lines[i][3], NULL};

        if (parked(rig, args) != 2)
            fail_msg("parked %s %s: %s", lines[i][0], lines[i][1], rig->out.data);
        assert_true(rig->out.len > 10);
    }
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked WHERE request IS NULL"),
                     2);
    assert_int_equal(parked(rig, WORDS("resume", "424242", "--wait", "0")), 1);
    rig_said(rig, "there is no parked message 424242");
}

/* Without a relay the request stands; it says so, and the next owner runs it. */
static void requests_outlive_the_relay(void **state)
{
    struct program_rig *rig = *state;
    char id[24];

    start(rig);
    park(rig, "n.one", NULL, 1);
    rig_stop(rig, 0);
    bind_all(rig);
    id_of(rig, "ASC", id);
    assert_int_equal(parked(rig, WORDS("resume", id, "--wait", "1", "--note", "why not")), 1);
    rig_said(rig, "no relay owns it now");
    assert_int_equal(parked(rig, WORDS("resume", id, "--wait", "0")), 0);
    assert_int_equal(parked(rig, WORDS("discard", id, "--wait", "0", "--note", "changed my mind")),
                     1);
    rig_said(rig, "has another request");
    assert_int_equal(parked(rig, WORDS("show", id)), 0);
    rig_said(rig, "why not");
    start(rig);
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(broker_count(rig->admin, rig->queue), 1);
}

/* Many: several portions, and on a terminal a bar that moves. */
static void many_and_a_progress_bar(void **state)
{
    struct program_rig *rig = *state;
    char command[512], log[192];
    const char *const argv[] = {"script", "-qec", command, "/dev/null", NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = log};
    struct proc_exit how = {0};
    struct proc *proc;

    rig_sql(rig,
            "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, "
            "created_at, reason_code) SELECT 'outbox', seq, CONCAT('m', seq), 't.x', 'text/plain', "
            "'b', UTC_TIMESTAMP(6), 'OBX_E_TEST' FROM " TEST_SEQ " WHERE seq <= 600");
    snprintf(log, sizeof(log), "%s/bar.log", rig->dir);
    /* No relay for as long as it takes until the bar is there. */
    snprintf(command, sizeof(command), "%s --config %s parked resume --all --wait 110",
             rig_outboxctl(), rig->config);
    proc = proc_start(&opts);
    assert_non_null(proc);
    assert_true(proc_wait_log(proc, 0, "0 of 600 resumed", RIG_WAIT_MS));
    start(rig);
    assert_true(proc_wait(proc, 2L * RIG_WAIT_MS, &how));
    assert_int_equal(how.code, 0);
    assert_true(proc_log_has(proc, 0, "\033[K600 resumed"));
    proc_destroy(proc);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(broker_count(rig->admin, rig->queue), 600);
    /* Not on a terminal: no bar. */
    rig_sql(rig,
            "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, "
            "created_at, reason_code) SELECT 'outbox', seq, CONCAT('n', seq), 't.x', 'text/plain', "
            "'b', UTC_TIMESTAMP(6), 'OBX_E_TEST' FROM " TEST_SEQ
            " WHERE seq BETWEEN 4001 AND 4100");
    assert_int_equal(parked(rig, WORDS("resume", "--all", "--wait", "50")), 0);
    rig_said(rig, "100 resumed");
    rig_said_not(rig, " of 100");
}

/* What seems lost may be in the queue of a dead consumer: the broker knows, where it is asked. */
static void reconcile_says_how_deep_a_queue_is(void **state)
{
    struct program_rig *rig = *state;
    char password[192], text[128], url[256];

    start(rig);
    for (unsigned i = 0; i < 2; i++)
        rig_insert(rig, "outbox", "t.x", NULL, "x");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(
        rig_run_ctl(
            rig, NULL,
            WORDS(
                "migrate", "--side", "journal,consumer", "--user", rig->test_db.opts.user,
                "--password-file",
                (rig_write(rig, "all-password",
                           (snprintf(text, sizeof(text), "%s\n", rig->test_db.opts.password), text),
                           password),
                 password))),
        0);
    rig_sql(rig, "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at,"
                 " settled_at) VALUES (1, 'lost', 'outbox', 't.x', UTC_TIMESTAMP(6) - INTERVAL 30"
                 " MINUTE, UTC_TIMESTAMP(6) - INTERVAL 30 MINUTE)");
    snprintf(url, sizeof(url), "mysql://%s@%s:%u/%s", rig->test_db.opts.user,
             rig->test_db.opts.host, (unsigned)rig->test_db.opts.port, rig->test_db.name);
#define RECONCILE                                                                                  \
    "reconcile", "--group", "g", "--consumer-db", url, "--consumer-password-file", password,       \
        "--user", rig->test_db.opts.user, "--password-file", password
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS(RECONCILE)), 3);
    rig_said(rig, "how deep the queues of the group are is not known");
    snprintf(text, sizeof(text), "%s,not-there", rig->queue);
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS(RECONCILE, "--queue", text)), 3);
    rig_said(rig, ": 2 messages, 0 consumers");
    rig_said(rig, "queue not-there: ");
    rig_said(rig, "404");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS(RECONCILE, "--queue", rig->queue, "--json")), 3);
    rig_said(rig, "\"messages\": 2,");
    rig_sql(rig, "DROP TABLE outbox_journal, inbox_applied, inbox_parked, inbox_parked_piece,"
                 " inbox_audit");
    rig_sql(rig, "DELETE FROM rowpost_schema WHERE side IN ('journal', 'consumer')");
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(list_with_filters_and_pages),
        CASE(show_text_and_bytes),
        CASE(resume_by_id_takes_the_key_along),
        CASE(resume_by_filter_and_all),
        CASE(discard_is_hard_to_do_by_accident),
        CASE(bad_arguments_change_nothing),
        CASE(reconcile_says_how_deep_a_queue_is),
        CASE(requests_outlive_the_relay),
        CASE(many_and_a_progress_bar),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
