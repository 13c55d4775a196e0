/*
 * `outbox-relay --check` on real servers: everything that can be wrong, one at a time, is named
 * together with its fix; what is right is said to be right beside it; nothing is changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "program_rig.h"
#include "sql/schema.h"
#include "wait.h"

/* --check with one thing wrong: exit status 1, and in one FAILED line of the subject what it is and
 * the way out. */
static void expect_failed(struct program_rig *rig, const char *const *env, const char *subject,
                          const char *what, const char *fix)
{
    char head[128];
    const char *line, *end;

    assert_int_equal(rig_run_relay(rig, env, WORDS("--check")), 1);
    snprintf(head, sizeof(head), "FAILED  %s: ", subject);
    for (line = strstr(rig->out.data, head); line != NULL; line = strstr(line + 1, head)) {
        char text[1024];

        end = strchr(line, '\n');
        assert_non_null(end);
        snprintf(text, sizeof(text), "%.*s", (int)(end - line), line);
        if (strstr(text, what) != NULL && strstr(text, " | fix: ") != NULL &&
            strstr(strstr(text, " | fix: "), fix) != NULL)
            return;
    }
    fail_msg("no line \"%s\" with \"%s\" and the fix \"%s\" in:\n%s", head, what, fix,
             rig->out.data);
}

static void all_is_well(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said_not(rig, "FAILED");
    rig_said(rig, "ok      database shop: ");
    rig_said(rig, "ok      broker: ");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("check")), 0);
    rig_said_not(rig, "FAILED");
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("check", "--json")), 0);
    rig_said(rig, "\"ok\": true");
    rig_said_not(rig, "\"ok\": false");
}

/* A look must not make what it looks for. */
static void a_check_changes_nothing(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said(rig, "not there yet; the relay declares it when it starts");
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said(rig, "not there yet; the relay declares it when it starts");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_lease"), 0);
}

static void database_trouble(void **state)
{
    struct program_rig *rig = *state;

    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_PASSWORD=not-the-password"), "database shop",
                  "Access denied for user", "password in [source shop]");
    rig_said_not(rig, "not-the-password");
    rig_said(rig, "ok      broker: ");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_DATABASE=no_such_db"), "database shop", "no_such_db",
                  "CREATE DATABASE `no_such_db`");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_PORT=1"), "database shop", "cannot connect",
                  "host and port (127.0.0.1:1) in [source shop]");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_SOCKET=/no/such/socket"), "database shop",
                  "cannot connect", "socket (/no/such/socket) in [source shop]");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_HOST=no.such.host.invalid"), "database shop",
                  "no.such.host.invalid", "host and port");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_HOST=127.0.0.1:1, 127.0.0.1:2"), "database shop",
                  "127.0.0.1:1: cannot connect",
                  "start the database servers, or correct host (127.0.0.1:1, 127.0.0.1:2)");
    rig_said(rig, "ok      database shop: WARNING: 127.0.0.1:2: cannot connect");
}

/* The client's certificate is signed by the authority and is none itself. */
static void database_tls_trouble(void **state)
{
    struct program_rig *rig = *state;
    char authority[256];

    snprintf(authority, sizeof(authority), "OBX_SOURCE_SHOP_TLS_CA_FILE=%s",
             test_env("OBX_TEST_TLS_CERT"));
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_TLS=verify-full", authority), "database shop",
                  "certificate", "tls_ca_file in [source shop]");
    expect_failed(
        rig,
        WORDS("OBX_SOURCE_SHOP_TLS=verify-full", "OBX_SOURCE_SHOP_TLS_CA_FILE=/no/such/ca.pem"),
        "database shop", "TLS", "/no/such/ca.pem");
}

static void broker_trouble(void **state)
{
    struct program_rig *rig = *state;
    char other[64];

    expect_failed(rig, WORDS("OBX_BROKER_PASSWORD=not-the-password"), "broker", "ACCESS_REFUSED",
                  "password in [broker]");
    rig_said_not(rig, "not-the-password");
    rig_said(rig, "ok      database shop: ");
    expect_failed(rig, WORDS("OBX_BROKER_ADDRESSES=127.0.0.1:1"), "broker", "127.0.0.1:1",
                  "addresses in [broker]");
    expect_failed(rig, WORDS("OBX_BROKER_VHOST=no_such_vhost"), "broker", "no_such_vhost",
                  "rabbitmqctl add_vhost no_such_vhost");
    snprintf(other, sizeof(other), "OBX_BROKER_ADDRESSES=127.0.0.1:%s",
             test_env("OBX_TEST_DB_PORT"));
    expect_failed(rig, WORDS(other), "broker", "unexpected answer", "is no RabbitMQ");
}

static void broker_tls_trouble(void **state)
{
    struct program_rig *rig = *state;
    char tls_port[64];

    snprintf(tls_port, sizeof(tls_port), "OBX_BROKER_ADDRESSES=127.0.0.1:%s",
             test_env("OBX_TEST_AMQP_TLS_PORT"));
    expect_failed(rig, WORDS("OBX_BROKER_TLS=yes"), "broker", "TLS", "the port speaks no TLS");
    expect_failed(rig, WORDS("OBX_BROKER_TLS=yes", tls_port), "broker", "certificate",
                  "tls_ca_file in [broker]");
    expect_failed(rig,
                  WORDS("OBX_BROKER_TLS=yes", tls_port, "OBX_BROKER_TLS_CA_FILE=/no/such/ca.pem"),
                  "broker", "/no/such/ca.pem", "tls_ca_file in [broker]");
    expect_failed(rig, WORDS(tls_port), "broker", "127.0.0.1", "tls = yes");
}

static void missing_and_other_schemas(void **state)
{
    struct program_rig *rig = *state;

    rig_sql(rig, "INSERT INTO rowpost_schema (side, version, name) VALUES ('producer', 1000, 'x')");
    expect_failed(rig, NULL, "schema shop", "upgrade", "newer version of outbox-relay");
    rig_sql(rig, "DELETE FROM rowpost_schema WHERE side = 'producer'");
    expect_failed(rig, NULL, "schema shop", "", "outboxctl migrate");
    rig_sql(rig, "DROP TABLE rowpost_schema");
    expect_failed(rig, NULL, "schema shop", "", "outboxctl migrate");
}

static void missing_tables(void **state)
{
    struct program_rig *rig = *state;

    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_bulk"),
                  "outbox shop/outbox_bulk", "outbox_bulk",
                  "outboxctl migrate --outbox outbox_bulk");
    rig_said(rig, "ok      outbox shop/outbox: ");
    rig_sql(rig, "CREATE TABLE orders (id INT PRIMARY KEY, payload INT)");
    rig_sql(rig, "GRANT SELECT, INSERT, DELETE ON `%s`.orders TO '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_OUTBOXES=outbox,orders"), "outbox shop/orders",
                  "is not an outbox table", "correct outboxes in [source shop]");
    /* What is recorded as made, migrate does not make again. */
    rig_sql(rig, "RENAME TABLE outbox TO outbox_away");
    expect_failed(rig, NULL, "outbox shop/outbox", "outbox", "rename it back");
    rig_sql(rig, "RENAME TABLE outbox_away TO outbox");
    rig_sql(rig, "DROP TABLE outbox_lease");
    expect_failed(rig, NULL, "grants shop", "outbox_lease", "outboxctl migrate");
}

/* Every side that the configuration needs, and every database that it names. */
static void every_configured_side_is_looked_at(void **state)
{
    struct program_rig *rig = *state;
    struct obx_buf text = {0};
    struct obx_err err = {0};

    rig_config_text(rig, &text);
    assert_int_equal(buf_addf(&text,
                              "[half]\nsource = shop\nhttp_port = 0\n[producer orders]\ncheck = "
                              "barrier\nhost = %s\nport = %u\nuser = %s\npassword = %s\n"
                              "database = %s\n",
                              rig->relay.opts.host, (unsigned)rig->relay.opts.port, rig->relay.name,
                              rig->relay.opts.password, rig->test_db.name),
                     OBX_OK);
    rig_write(rig, "relay.conf", text.data, rig->config);
    buf_fini(&text);
    expect_failed(rig, NULL, "half-messages", "half", "outboxctl migrate --side half");
    expect_failed(rig, NULL, "producer orders", "half_barrier", "outboxctl migrate --side barrier");
    expect_failed(rig, WORDS("OBX_PRODUCER_ORDERS_PORT=1"), "producer orders", "cannot connect",
                  "[producer orders]");
    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_JOURNAL=yes"), "journal shop", "journal",
                  "outboxctl migrate --side journal");
    assert_int_equal(schema_migrate(rig->root, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig->root, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    expect_failed(rig, NULL, "half-messages", "half_message", "GRANT INSERT ON");
    expect_failed(rig, NULL, "producer orders", "half_barrier", "GRANT SELECT ON");
    rig_sql(rig, "GRANT ALL ON `%s`.* TO '%s'@'%%'", rig->test_db.name, rig->relay.name);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said(rig, "ok      half-messages: ");
    rig_said(rig, "ok      producer orders: ");
}

/* The rig's configuration has passwords in it. */
static void a_file_that_all_may_read_is_warned_of(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(chmod(rig->config, 0600), 0);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said_not(rig, "WARNING");
    assert_int_equal(chmod(rig->config, 0644), 0);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said(rig, "WARNING: broker.password is in a file that everybody on this machine may read");
    rig_start_ready(rig, 0, NULL); /* before that a TERM is not heard yet */
    rig_wait_log(rig, 0, "secret.exposed");
    rig_stop(rig, 0);
}

static void account_trouble(void **state)
{
    struct program_rig *rig = *state;
    struct db *one = NULL;

    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_DATABASE=mysql"), "database shop", "to database",
                  "correct database in [source shop]");
    rig_said_not(rig, "refused user or password");
    rig_sql(rig, "ALTER USER '%s'@'%%' PASSWORD EXPIRE", rig->relay.name);
    /* MariaDB lets such an account in and refuses its first statement, MySQL refuses the login. */
    expect_failed(rig, NULL, "database shop", db_server_is_mariadb(rig->root) ? "(1820)" : "(1862)",
                  "has expired");
    rig_sql(rig, "ALTER USER '%s'@'%%' PASSWORD EXPIRE NEVER", rig->relay.name);
    rig_sql(rig, "ALTER USER '%s'@'%%' IDENTIFIED BY '%s'", rig->relay.name,
            rig->relay.opts.password);
    rig_sql(rig, "ALTER USER '%s'@'%%' ACCOUNT LOCK", rig->relay.name);
    expect_failed(rig, NULL, "database shop", "locked", "ACCOUNT UNLOCK");
    rig_sql(rig, "ALTER USER '%s'@'%%' ACCOUNT UNLOCK", rig->relay.name);
    rig_sql(rig, "ALTER USER '%s'@'%%' WITH MAX_USER_CONNECTIONS 1", rig->relay.name);
    one = test_db_open(&rig->relay.opts);
    expect_failed(rig, NULL, "database shop", "max_user_connections", "limit of its own");
    db_close(one);
    rig_sql(rig, "ALTER USER '%s'@'%%' WITH MAX_USER_CONNECTIONS 0", rig->relay.name);
}

/* Every right of the documented ones, taken away one by one. */
static void missing_grants(void **state)
{
    static const struct {
        const char *right, *table, *subject;
    } all[] = {
        {"SELECT", "outbox", "outbox shop/outbox"},   {"INSERT", "outbox", "outbox shop/outbox"},
        {"DELETE", "outbox", "outbox shop/outbox"},   {"SELECT", "outbox_parked", "grants shop"},
        {"INSERT", "outbox_parked", "grants shop"},   {"UPDATE", "outbox_parked", "grants shop"},
        {"DELETE", "outbox_parked", "grants shop"},   {"SELECT", "outbox_lease", "grants shop"},
        {"INSERT", "outbox_lease", "grants shop"},    {"UPDATE", "outbox_relay", "grants shop"},
        {"UPDATE", "outbox_lease", "grants shop"},    {"SELECT", "rowpost_schema", "schema shop"},
        {"SELECT", "outbox_delayed", "grants shop"},  {"DELETE", "outbox_delayed", "grants shop"},
        {"SELECT", "outbox_awaiting", "grants shop"}, {"INSERT", "outbox_awaiting", "grants shop"},
        {"UPDATE", "outbox_awaiting", "grants shop"}, {"DELETE", "outbox_awaiting", "grants shop"},
        {"SELECT", "outbox_receipt", "grants shop"},  {"INSERT", "outbox_receipt", "grants shop"},
        {"DELETE", "outbox_receipt", "grants shop"},  {"SELECT", "outbox_secret", "grants shop"},
        {"INSERT", "outbox_secret", "grants shop"},   {"SELECT", "outbox_audit", "grants shop"},
        {"INSERT", "outbox_audit", "grants shop"},    {"DELETE", "outbox_audit", "grants shop"},
    };
    struct program_rig *rig = *state;
    char fix[192];

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        rig_sql(rig, "REVOKE %s ON `%s`.`%s` FROM '%s'@'%%'", all[i].right, rig->test_db.name,
                all[i].table, rig->relay.name);
        snprintf(fix, sizeof(fix), "GRANT %s ON `%s`.`%s` TO '%s'@", all[i].right,
                 rig->test_db.name, all[i].table, rig->relay.name);
        expect_failed(rig, NULL, all[i].subject, all[i].right, fix);
        rig_sql(rig, "GRANT %s ON `%s`.`%s` TO '%s'@'%%'", all[i].right, rig->test_db.name,
                all[i].table, rig->relay.name);
    }
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
}

/* All that is missing is said at once, so that nobody fixes it one run at a time. */
static void all_missing_grants_at_once(void **state)
{
    struct program_rig *rig = *state;

    rig_sql(rig, "REVOKE INSERT, DELETE ON `%s`.`outbox` FROM '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
    rig_sql(rig, "REVOKE UPDATE ON `%s`.`outbox_lease` FROM '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 1);
    rig_said(rig, "fix: GRANT INSERT ON");
    rig_said(rig, "fix: GRANT DELETE ON");
    rig_said(rig, "fix: GRANT UPDATE ON");
    rig_sql(rig, "GRANT INSERT, DELETE ON `%s`.`outbox` TO '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
    rig_sql(rig, "GRANT UPDATE ON `%s`.`outbox_lease` TO '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
}

static void topology_trouble(void **state)
{
    struct program_rig *rig = *state;
    char subject[128], verify[] = "OBX_BROKER_TOPOLOGY=verify";
    struct obx_buf text = {0};

    snprintf(subject, sizeof(subject), "exchange %s", rig->exchange);
    expect_failed(rig, WORDS(verify), subject, "404", "topology = declare in [broker]");
    broker_exchange(rig->admin, rig->exchange); /* a direct one, where a topic one is wanted */
    expect_failed(rig, NULL, subject, "type", "[exchange ");
    snprintf(subject, sizeof(subject), "queue %s", rig->queue);
    expect_failed(rig, WORDS(verify), subject, "404", "topology = declare in [broker]");
    broker_queue(rig->admin, rig->queue, NULL, 0); /* a classic one */
    rig_config_text(rig, &text);
    memcpy(strstr(text.data, "type = classic"), "type = quorum ", strlen("type = quorum "));
    rig_write(rig, "relay.conf", text.data, rig->config);
    expect_failed(rig, NULL, subject, "x-queue-type", "[queue ");
    buf_fini(&text);
}

/* A user that may publish and not configure. */
static void broker_grants(void **state)
{
    struct program_rig *rig = *state;
    char subject[128], user[96], command[160];

    snprintf(user, sizeof(user), "OBX_BROKER_USER=weak_%.50s", rig->test_db.name);
    snprintf(command, sizeof(command), "rabbitmqctl add_user %s weak-pw", strchr(user, '=') + 1);
    broker_servers(command);
    snprintf(command, sizeof(command), "rabbitmqctl set_permissions %s '^$' '.*' '^$'",
             strchr(user, '=') + 1);
    broker_servers(command);
    broker_exchange(rig->admin, rig->exchange);
    snprintf(subject, sizeof(subject), "exchange %s", rig->exchange);
    expect_failed(rig, WORDS(user, "OBX_BROKER_PASSWORD=weak-pw"), subject, "ACCESS_REFUSED",
                  "rabbitmqctl set_permissions");
    snprintf(command, sizeof(command), "rabbitmqctl delete_user %s", strchr(user, '=') + 1);
    broker_servers(command);
}

static bool is_listening(void *ctx)
{
    struct program_rig *rig = ctx;

    return rig_run_relay(rig, NULL, WORDS("--check")) == 0;
}

/* Both ends away at once: both are named. */
/* What works and may lose a message later is said, and is no failure. */
static void a_queue_with_a_low_delivery_limit(void **state)
{
    struct program_rig *rig = *state;
    const struct broker_arg there[] = {{.name = "x-queue-type", .text = "quorum"},
                                       {.name = "x-delivery-limit", .number = 20}};
    struct obx_buf text = {0};

    broker_queue(rig->admin, "relay_check_limit", there, 2);
    rig_config_text(rig, &text);
    assert_int_equal(buf_add_text(&text, "[queue relay_check_limit]\n"), OBX_OK);
    rig_write(rig, "relay.conf", text.data, rig->config);
    buf_fini(&text);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 0);
    rig_said(rig, "queue relay_check_limit: there, WARNING");
    rig_said(rig, "current is '20'");
    broker_delete_queue(rig->admin, "relay_check_limit");
}

static void both_servers_absent(void **state)
{
    struct program_rig *rig = *state;

    expect_failed(rig, WORDS("OBX_SOURCE_SHOP_PORT=1", "OBX_BROKER_ADDRESSES=127.0.0.1:1"),
                  "database shop", "cannot connect", "start");
    rig_said(rig, "FAILED  broker: ");
    assert_true(wait_until(RIG_WAIT_MS, is_listening, rig));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_is_well, program_reset),
        cmocka_unit_test_setup(a_check_changes_nothing, program_reset),
        cmocka_unit_test_setup(database_trouble, program_reset),
        cmocka_unit_test_setup(database_tls_trouble, program_reset),
        cmocka_unit_test_setup(broker_trouble, program_reset),
        cmocka_unit_test_setup(broker_tls_trouble, program_reset),
        cmocka_unit_test_setup_teardown(missing_and_other_schemas, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(missing_tables, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(every_configured_side_is_looked_at, program_setup,
                                        program_teardown),
        cmocka_unit_test_setup(a_file_that_all_may_read_is_warned_of, program_reset),
        cmocka_unit_test_setup_teardown(account_trouble, program_setup, program_teardown),
        cmocka_unit_test_setup(missing_grants, program_reset),
        cmocka_unit_test_setup(all_missing_grants_at_once, program_reset),
        cmocka_unit_test_setup(topology_trouble, program_reset),
        cmocka_unit_test_setup(broker_grants, program_reset),
        cmocka_unit_test_setup(a_queue_with_a_low_delivery_limit, program_reset),
        cmocka_unit_test_setup(both_servers_absent, program_reset),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
