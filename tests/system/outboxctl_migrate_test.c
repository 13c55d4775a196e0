/*
 * `outboxctl migrate`, `status` and the help of every command, by the real program with the
 * documented accounts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "program_rig.h"
#include "wait.h"

/* A database without tables beside the rig's own, and its migrate account. */
struct empty {
    struct test_db test_db;
    struct test_user migrate;
    struct db *root;
    char url[256];      /* without a password */
    char password[192]; /* path of the file that has it */
};

static void empty_open(struct empty *empty, struct program_rig *rig)
{
    struct db_opts root = test_db_root_opts();
    char text[128];

    test_db_create(&empty->test_db, "empty");
    test_user_create(&empty->migrate, &empty->test_db, "migrate");
    root.database = empty->test_db.name;
    empty->root = test_db_open(&root);
    snprintf(empty->url, sizeof(empty->url), "mysql://%s@%s:%u/%s", empty->migrate.name,
             empty->migrate.opts.host, (unsigned)empty->migrate.opts.port, empty->test_db.name);
    snprintf(text, sizeof(text), "%s\n", empty->migrate.opts.password);
    rig_write(rig, "migrate-password", text, empty->password);
}

static void empty_close(struct empty *empty)
{
    db_close(empty->root);
    test_user_drop(&empty->migrate);
    test_db_drop(&empty->test_db);
}

static uint64_t tables(struct empty *empty)
{
    return test_db_number(empty->root, "SELECT COUNT(*) FROM information_schema.tables "
                                       "WHERE table_schema = DATABASE()");
}

static void migrate_says_what_it_does_and_does_it_once(void **state)
{
    struct program_rig *rig = *state;
    struct empty empty;
    uint64_t count;

    empty_open(&empty, rig);
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL,
                         WORDS("migrate", "--db", empty.url, "--password-file", empty.password,
                               "--side", "producer,consumer,half,barrier")),
        0);
    rig_said(rig, "applying producer version 1 (producer_0001_outbox)");
    rig_said(rig, "applying consumer version 1");
    rig_said(rig, "applying half version 1");
    rig_said(rig, "applying barrier version 1");
    count = tables(&empty);
    assert_true(count >= 8);
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL,
                         WORDS("migrate", "--db", empty.url, "--password-file", empty.password,
                               "--side", "producer,consumer,half,barrier")),
        0);
    rig_said_not(rig, "applying");
    rig_said(rig, "producer is at version ");
    assert_int_equal(tables(&empty), count);
    empty_close(&empty);
}

static void migrate_by_environment_and_by_configuration(void **state)
{
    struct program_rig *rig = *state;
    struct empty empty;
    char user[80], database[96], password[240], port[48];

    empty_open(&empty, rig);
    snprintf(user, sizeof(user), "OBX_SOURCE_SHOP_USER=%s", empty.migrate.name);
    snprintf(database, sizeof(database), "OBX_SOURCE_SHOP_DATABASE=%s", empty.test_db.name);
    snprintf(password, sizeof(password), "OBX_SOURCE_SHOP_PASSWORD_FILE=%s", empty.password);
    snprintf(port, sizeof(port), "OBX_SOURCE_SHOP_PORT=%u", (unsigned)empty.migrate.opts.port);
    assert_int_equal(rig_run_ctl_bare(rig,
                                      WORDS("OBX_SOURCES=shop", user, database, password, port),
                                      WORDS("migrate", "--json")),
                     0);
    rig_said(rig, "\"producer_0001_outbox\"");
    rig_said(rig, "\"done\": true");
    /* The relay's own configuration with another login, and an outbox that it names in addition. */
    assert_int_equal(rig_run_ctl(rig, WORDS(database, "OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_two"),
                                 WORDS("migrate", "--user", empty.migrate.name, "--password-file",
                                       empty.password)),
                     0);
    rig_said(rig, "outbox outbox_two is made");
    assert_int_equal(rig_run_ctl(rig, WORDS(database, "OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_two"),
                                 WORDS("migrate", "--user", empty.migrate.name, "--password-file",
                                       empty.password)),
                     0);
    rig_said(rig, "outbox outbox_two is there");
    empty_close(&empty);
}

static void migrate_prints_what_can_be_run_by_hand(void **state)
{
    struct program_rig *rig = *state;
    struct empty empty;
    char path[192], command[400];

    empty_open(&empty, rig);
    assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS("migrate", "--print", "--outbox", "more")),
                     0);
    rig_said(rig, "CREATE TABLE IF NOT EXISTS `more` LIKE `outbox`;");
    rig_write(rig, "printed.sql", rig->out.data, path);
    snprintf(command, sizeof(command), "sql %s -e 'source %s'", empty.test_db.name, path);
    broker_servers(command);
    assert_int_equal(test_db_number(empty.root,
                                    "SELECT COUNT(*) FROM information_schema.tables "
                                    "WHERE table_schema = DATABASE() AND table_name = 'more'"),
                     1);
    empty_close(&empty);
}

static void migrate_refuses_with_the_way_out(void **state)
{
    struct program_rig *rig = *state;
    struct empty empty;
    char wrong[192];

    empty_open(&empty, rig);
    rig_write(rig, "wrong-password", "not-the-password\n", wrong);
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL, WORDS("migrate", "--db", empty.url, "--password-file", wrong)),
        1);
    rig_said(rig, "Access denied");
    rig_said_not(rig, "not-the-password");
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL, WORDS("migrate", "--db", "mysql://h/d", "--side", "prodcer")),
        2);
    rig_said(rig, "it is producer, consumer, half, barrier");
    assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS("migrate", "--db", "postgres://h/d")), 2);
    rig_said(rig, "mysql://user@host:port/database");
    assert_int_equal(
        rig_run_ctl_bare(
            rig, NULL, WORDS("migrate", "--db", "mysql://u@h:1/d", "--password-file", "/no/such")),
        2);
    rig_said(rig, "/no/such");
    assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS("migrate")), 2);
    rig_said(rig, "--config");
    /* Newer than this program: it does not touch it. */
    test_db_run(empty.root, "CREATE TABLE rowpost_schema (side VARCHAR(16), version INT UNSIGNED, "
                            "name VARCHAR(64), applied_at DATETIME(6))");
    test_db_run(empty.root, "INSERT INTO rowpost_schema VALUES ('producer', 1000, 'x', NULL)");
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL,
                         WORDS("migrate", "--db", empty.url, "--password-file", empty.password)),
        1);
    rig_said(rig, "upgrade the program");
    assert_int_equal(tables(&empty), 1);
    empty_close(&empty);
}

/* An account that may only read cannot migrate, and is told which right is missing. */
static void migrate_without_rights(void **state)
{
    struct program_rig *rig = *state;
    char password[192], text[128];

    snprintf(text, sizeof(text), "%s\n", rig->operator.opts.password);
    rig_write(rig, "operator-password", text, password);
    rig_sql(rig, "DELETE FROM rowpost_schema WHERE side = 'producer'");
    assert_int_equal(
        rig_run_ctl(rig, NULL,
                    WORDS("migrate", "--user", rig->operator.name, "--password-file", password)),
        1);
    rig_said(rig, "denied");
}

static void migrate_refuses_a_table_that_is_no_outbox(void **state)
{
    struct program_rig *rig = *state;
    char password[192], text[128];

    snprintf(text, sizeof(text), "%s\n", test_env("OBX_TEST_DB_ROOT_PASSWORD"));
    rig_write(rig, "root-password", text, password);
    assert_int_equal(rig_run_ctl(rig, NULL,
                                 WORDS("migrate", "--user", "root", "--password-file", password,
                                       "--outbox", "outbox_parked")),
                     1);
    rig_said_not(rig, "outbox_parked is there");
    rig_said(rig, "not an outbox table");
    (void)remove(password); /* the folder is searched for it */
}

/* Five at once: none fails, and each step is applied by one of them. */
static void concurrent_migrations(void **state)
{
    struct program_rig *rig = *state;
    struct empty empty;
    struct proc *procs[5];
    char log[192];

    empty_open(&empty, rig);
    snprintf(log, sizeof(log), "%s/migrations.log", rig->dir);
    for (unsigned i = 0; i < 5; i++) {
        const struct proc_opts opts = {.argv = WORDS(rig_outboxctl(), "migrate", "--db", empty.url,
                                                     "--password-file", empty.password),
                                       .log_path = log};

        procs[i] = proc_start(&opts);
        assert_non_null(procs[i]);
    }
    for (unsigned i = 0; i < 5; i++) {
        struct proc_exit how = {0};

        assert_true(proc_wait(procs[i], RIG_WAIT_MS, &how));
        assert_int_equal(how.code, 0);
        proc_destroy(procs[i]);
    }
    assert_int_equal(rig_count_in_file(log, "applying producer version 1 "), 1);
    assert_int_equal(rig_count_in_file(log, "producer is at version "), 5);
    empty_close(&empty);
}

/* ---------------------------------------------------------------- status */

static void status_from_the_database_and_the_relay(void **state)
{
    struct program_rig *rig = *state;
    char port[48], password[192], text[128];

    snprintf(text, sizeof(text), "%s\n", rig->operator.opts.password);
    rig_write(rig, "operator-password", text, password);
    rig_fill(rig, "outbox", "t.x", 3, 0);
    assert_int_equal(
        rig_run_ctl(rig, NULL,
                    WORDS("status", "--user", rig->operator.name, "--password-file", password)),
        0);
    rig_said(rig, "nobody's");
    rig_said(rig, "http_port is 0");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--json")), 0);
    rig_said(rig, "\"waiting\": 3");
    rig_said(rig, "\"owned\": false");
    rig_start_ready(rig, 0, NULL);
    rig_wait_empty(rig, "outbox");
    snprintf(port, sizeof(port), "OBX_RELAY_HTTP_PORT=%u", (unsigned)rig->http_ports[0]);
    assert_int_equal(rig_run_ctl(rig, WORDS(port), WORDS("status")), 0);
    rig_said(rig, ", epoch 1, for ");
    rig_said(rig, "1 lanes ready");
    rig_said(rig, "shop/outbox  owner  up");
    rig_stop(rig, 0);
    assert_int_equal(rig_run_ctl(rig, WORDS(port), WORDS("status")), 0);
    rig_said(rig, "nobody answers");
    assert_int_equal(rig_run_ctl(rig, WORDS("OBX_SOURCE_SHOP_PORT=1"), WORDS("status")), 1);
    rig_said(rig, "shop: cannot connect to the database");
}

/* What is no outbox has a lease there, too. */
static void status_with_half_messages(void **state)
{
    struct program_rig *rig = *state;
    char url[256], password[192], text[128];

    snprintf(text, sizeof(text), "%s\n", rig->operator.opts.password);
    rig_write(rig, "operator-password", text, password);
    snprintf(url, sizeof(url), "mysql://%s@%s:%u/%s", rig->operator.name, rig->relay.opts.host,
             (unsigned)rig->relay.opts.port, rig->test_db.name);
    rig_sql(rig, "INSERT INTO outbox_lease (outbox, owner) VALUES ('half:check', 'me')");
    assert_int_equal(
        rig_run_ctl_bare(rig, NULL, WORDS("status", "--db", url, "--password-file", password)), 0);
    rig_said(rig, "outbox");
    rig_said_not(rig, "half:check");
    rig_sql(rig, "DELETE FROM outbox_lease");
}

/* Somebody else on the relay's port, with a text for the terminal of the user who asks. */
static void *answer_twice(void *ctx)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        "{\"reason\": \"\\u001b]0;owned\\u0007\", \"relay\": {\"owner\": \"\\u009b31m\", "
        "\"version\": \"1\\r\\n2\\u007f\"}, \"lanes\": [{\"state\": \"\\u001b[2J\"}]}";
    const int listener = *(const int *)ctx;

    for (int i = 0; i < 2; i++) {
        struct obx_buf request = {0};
        const int fd = accept(listener, NULL, NULL);
        char byte;

        while ((request.len < 4 || memcmp(request.data + request.len - 4, "\r\n\r\n", 4) != 0) &&
               read(fd, &byte, 1) == 1 && buf_add(&request, &byte, 1) == OBX_OK)
            ;
        if (write(fd, answer, sizeof(answer) - 1) < 0)
            perror("write");
        close(fd);
        buf_fini(&request);
    }
    return NULL;
}

static void status_passes_no_control_characters(void **state)
{
    struct program_rig *rig = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    char port[48];

    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 2), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(pthread_create(&thread, NULL, answer_twice, &listener), 0);
    snprintf(port, sizeof(port), "OBX_RELAY_HTTP_PORT=%u", (unsigned)ntohs(address.sin_port));
    assert_int_equal(rig_run_ctl(rig, WORDS(port), WORDS("status")), 0);
    rig_said(rig, "relay ?31m, version 1??2?, up");
    rig_said(rig, "?]0;owned?");
    rig_said_not(rig, "\033");
    rig_said_not(rig, "\302\233");
    assert_int_equal(rig_run_ctl(rig, WORDS(port), WORDS("status", "--json")), 0);
    rig_said(rig, "\\u009B31m");
    rig_said(rig, "2\\u007f");
    rig_said_not(rig, "\177");
    rig_said_not(rig, "\033");
    rig_said_not(rig, "\302\233");
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(listener);
}

/* ---------------------------------------------------------------- the command line */

/* A misspelt name waits for ever: the metric shows it, and so does the tool. */
static void status_names_delayed_messages_that_nobody_drains(void **state)
{
    struct program_rig *rig = *state;

    rig_sql(rig, "INSERT INTO outbox_delayed (outbox, topic, payload, deliver_at) VALUES"
                 " ('outbx', 't', 'x', UTC_TIMESTAMP(6)), ('outbx', 't', 'x', '2100-01-01'),"
                 " ('outbox', 't', 'x', '2100-01-01')");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status")), 0);
    rig_said(rig, "outbox_delayed has 2 messages for outbox 'outbx', which no relay drains");
    rig_said_not(rig, "for outbox 'outbox'");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--json")), 0);
    rig_said(rig, "\"delayed\": 2");
    rig_sql(rig, "DELETE FROM outbox_delayed");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status")), 0);
    rig_said_not(rig, "no relay drains");
}

static void every_help_teaches(void **state)
{
    static const char *const commands[][3] = {
        {"migrate", NULL, "--side SIDES"},      {"check", NULL, "FAILED with what to do"},
        {"status", NULL, "owns the lease"},     {"ring", NULL, "doorbell"},
        {"parked", "list", "--limit N"},        {"parked", "show", "--payload raw"},
        {"parked", "resume", "--wait SECONDS"}, {"parked", "discard", "--note TEXT"},
    };
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS("--help")), 0);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        rig_said(rig, commands[i][0]);
    rig_said(rig, "exit status");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i][1] == NULL)
            assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS(commands[i][0], "--help")), 0);
        else
            assert_int_equal(
                rig_run_ctl_bare(rig, NULL, WORDS(commands[i][0], commands[i][1], "--help")), 0);
        rig_said(rig, "usage: outboxctl ");
        rig_said(rig, commands[i][2]);
        rig_said(rig, "which database:");
    }
    assert_int_equal(rig_run_ctl_bare(rig, NULL, WORDS("--version")), 0);
    rig_said(rig, "outboxctl ");
}

static void wrong_command_lines(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_ctl_bare(rig, NULL, (const char *const[]){NULL}), 2);
    rig_said(rig, "which command?");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("migrat")), 2);
    rig_said(rig, "there is no command migrat");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("parked")), 2);
    rig_said(rig, "list, show, resume, discard, history");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--topic", "x")), 2);
    rig_said(rig, "status takes no --topic");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--outbx", "x")), 2);
    rig_said(rig, "no option --outbx");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--outbox")), 2);
    rig_said(rig, "a value is missing");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--source", "mall")), 2);
    rig_said(rig, "no source named mall");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "extra")), 2);
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("status", "--db", "mysql://h/d")), 2);
    rig_said(rig, "either --config or --db");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, program_setup, program_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(migrate_says_what_it_does_and_does_it_once),
        cmocka_unit_test(migrate_by_environment_and_by_configuration),
        cmocka_unit_test(migrate_prints_what_can_be_run_by_hand),
        cmocka_unit_test(migrate_refuses_with_the_way_out),
        cmocka_unit_test(concurrent_migrations),
        cmocka_unit_test(every_help_teaches),
        cmocka_unit_test(wrong_command_lines),
        CASE(migrate_without_rights),
        CASE(migrate_refuses_a_table_that_is_no_outbox),
        cmocka_unit_test_setup(status_from_the_database_and_the_relay, program_reset),
        cmocka_unit_test_setup(status_names_delayed_messages_that_nobody_drains, program_reset),
        cmocka_unit_test_setup(status_with_half_messages, program_reset),
        cmocka_unit_test_setup(status_passes_no_control_characters, program_reset),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
