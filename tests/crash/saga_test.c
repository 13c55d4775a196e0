/*
 * The saga example, with its services killed in between: every order ends, as ready or as
 * cancelled, and neither money nor goods are made or lost. docs/saga.md.
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "broker.h"
#include "process.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

enum { ROLES = 3, ORDERS = 150, BALANCE = 1000, AMOUNT = 300, STOCK = 40, WAIT_MS = 120000 };
static const char *const roles[ROLES] = {"shop", "payment", "stock"};

struct play {
    struct test_db bases[ROLES];
    struct db *dbs[ROLES];
    char dir[64];
    char config[96];
    struct proc *relay;
    struct proc *services[ROLES];
};

static struct play play;

/* The tables of one role: what stands between its heading and the next in saga.sql. */
static void make_tables(struct db *db, const char *role)
{
    FILE *file = fopen(SAGA_SQL, "r");
    char line[256];
    char heading[32];
    char sql[1024] = "";
    bool is_mine = false;

    assert_non_null(file);
    (void)snprintf(heading, sizeof(heading), "-- %s\n", role);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "-- ", 3) == 0)
            is_mine = strcmp(line, heading) == 0;
        else if (is_mine)
            (void)strncat(sql, line, sizeof(sql) - strlen(sql) - 1);
    }
    (void)fclose(file);
    sql[strcspn(sql, ";")] = '\0';
    test_db_run(db, sql);
}

static void make_database(int role)
{
    struct obx_err err = {0};

    test_db_create(&play.bases[role], roles[role]);
    play.dbs[role] = test_db_open(&play.bases[role].opts);
    if (schema_migrate(play.dbs[role], SCHEMA_PRODUCER, NULL, NULL, &err) != OBX_OK ||
        schema_migrate(play.dbs[role], SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    make_tables(play.dbs[role], roles[role]);
}

static void write_config(void)
{
    FILE *file = NULL;

    (void)snprintf(play.config, sizeof(play.config), "%s/relay.conf", play.dir);
    file = fopen(play.config, "w");
    assert_non_null(file);
    fprintf(file,
            "[relay]\nhttp_port = 0\ndrain = 1s\n[broker]\naddresses = %s:%s\nvhost = %s\n"
            "user = %s\npassword = %s\n[lane]\nlease = 2s\nmax_attempts = 1000\nretry_min = 50ms\n"
            "retry_max = 500ms\nreceipt_timeout = 2s\nreceipt_retry_max = 5s\nmax_sends = 1000\n",
            test_env("OBX_TEST_AMQP_HOST"), test_env("OBX_TEST_AMQP_PORT"),
            test_env("OBX_TEST_AMQP_VHOST"), test_env("OBX_TEST_AMQP_USER"),
            test_env("OBX_TEST_AMQP_PASSWORD"));
    for (int i = 0; i < ROLES; i++)
        fprintf(file,
                "[source %s]\nhost = %s\nport = %s\nuser = %s\npassword = %s\ndatabase = %s\n"
                "receipt_queue = rowpost.receipts.saga-%s\n",
                roles[i], test_env("OBX_TEST_DB_HOST"), test_env("OBX_TEST_DB_PORT"),
                test_env("OBX_TEST_DB_USER"), test_env("OBX_TEST_DB_PASSWORD"), play.bases[i].name,
                roles[i]);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(play.config, S_IRUSR | S_IWUSR), 0);
}

static struct proc *start(const char *const *argv, const char *const *env, const char *name)
{
    char log[128];
    struct proc_opts opts = {.argv = argv, .env = env, .log_path = log};
    struct proc *proc = NULL;

    (void)snprintf(log, sizeof(log), "%s/%s.log", play.dir, name);
    proc = proc_start(&opts);
    assert_non_null(proc);
    return proc;
}

static void start_relay(void)
{
    const char *const argv[] = {SAGA_RELAY, "--config", play.config, NULL};

    play.relay = start(argv, NULL, "relay");
}

static void start_service(int role)
{
    char vars[8][160];
    const char *env[9] = {0};
    const char *const argv[] = {SAGA_SERVICE, roles[role], NULL};

    (void)snprintf(vars[0], sizeof(vars[0]), "AMQP_ADDRESSES=%s:%s", test_env("OBX_TEST_AMQP_HOST"),
                   test_env("OBX_TEST_AMQP_PORT"));
    (void)snprintf(vars[1], sizeof(vars[1]), "AMQP_VHOST=%s", test_env("OBX_TEST_AMQP_VHOST"));
    (void)snprintf(vars[2], sizeof(vars[2]), "AMQP_USER=%s", test_env("OBX_TEST_AMQP_USER"));
    (void)snprintf(vars[3], sizeof(vars[3]), "AMQP_PASSWORD=%s",
                   test_env("OBX_TEST_AMQP_PASSWORD"));
    (void)snprintf(vars[4], sizeof(vars[4]), "DB_PORT=%s", test_env("OBX_TEST_DB_PORT"));
    (void)snprintf(vars[5], sizeof(vars[5]), "DB_USER=%s", test_env("OBX_TEST_DB_USER"));
    (void)snprintf(vars[6], sizeof(vars[6]), "DB_PASSWORD=%s", test_env("OBX_TEST_DB_PASSWORD"));
    (void)snprintf(vars[7], sizeof(vars[7]), "DB_NAME=%s", play.bases[role].name);
    for (int i = 0; i < 8; i++)
        env[i] = vars[i];
    play.services[role] = start(argv, env, roles[role]);
}

static void delete_queues(void)
{
    struct broker broker;
    struct broker_admin *admin = NULL;
    char name[64];

    assert_true(broker_from_env(&broker));
    admin = broker_admin_open(&broker);
    for (int i = 0; i < ROLES; i++) {
        (void)snprintf(name, sizeof(name), "saga-%s", roles[i]);
        broker_delete_queue(admin, name);
        (void)snprintf(name, sizeof(name), "saga-%s.dead", roles[i]);
        broker_delete_queue(admin, name);
        (void)snprintf(name, sizeof(name), "rowpost.receipts.saga-%s", roles[i]);
        broker_delete_queue(admin, name);
    }
    broker_admin_close(admin);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(play.dir, sizeof(play.dir), "/tmp/obx-saga-XXXXXX");
    assert_non_null(mkdtemp(play.dir));
    for (int i = 0; i < ROLES; i++)
        make_database(i);
    delete_queues();
    write_config();
    return 0;
}

static void end_all(void)
{
    proc_destroy(play.relay);
    play.relay = NULL;
    for (int i = 0; i < ROLES; i++) {
        proc_destroy(play.services[i]);
        play.services[i] = NULL;
    }
}

static int tear_down(void **state)
{
    (void)state;
    end_all();
    delete_queues();
    for (int i = 0; i < ROLES; i++) {
        db_close(play.dbs[i]);
        test_db_drop(&play.bases[i]);
    }
    return 0;
}

static void place(struct db *shop, int id)
{
    char sql[512];

    test_db_run(shop, "START TRANSACTION");
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO orders (id, customer, sku, amount) VALUES (%d, %d, 'sku-%d', %d)",
                   id, id % 30, id % 4, AMOUNT);
    test_db_run(shop, sql);
    /* The key is the customer's, so that a payment that is refused stands before later orders and
     * before the compensations of earlier ones, in one group. */
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO outbox (topic, ordering_key, payload, receipt_from, on_rejected) "
                   "VALUES ('order.placed', '%d', '{\"order\": %d, \"customer\": %d, \"sku\": "
                   "\"sku-%d\", \"amount\": %d}', 'payment', 'order.refused')",
                   id % 30, id, id % 30, id % 4, AMOUNT);
    test_db_run(shop, sql);
    test_db_run(shop, "COMMIT");
}

static uint64_t count(int role, const char *sql)
{
    return test_db_number(play.dbs[role], sql);
}

static bool all_have_ended(void *ctx)
{
    (void)ctx;
    if (count(0, "SELECT COUNT(*) FROM orders WHERE state = 'placed'") > 0)
        return false;
    for (int i = 0; i < ROLES; i++) {
        if (count(i, "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM"
                     " outbox_awaiting)") > 0)
            return false;
    }
    return true;
}

static void kill_one(int role)
{
    proc_destroy(play.services[role]);
    start_service(role);
}

static void every_order_ends_and_nothing_is_made_or_lost(void **state)
{
    uint64_t ready = 0;

    (void)state;
    for (int i = 0; i < 30; i++) {
        char sql[128];

        (void)snprintf(sql, sizeof(sql), "INSERT INTO account VALUES (%d, %d)", i, BALANCE);
        test_db_run(play.dbs[1], sql);
    }
    test_db_run(play.dbs[2], "INSERT INTO article VALUES ('sku-0', 40), ('sku-1', 0), ('sku-2', 5),"
                             " ('sku-3', 40)");
    for (int i = 0; i < ROLES; i++)
        start_service(i);
    start_relay();
    for (int i = 0; i < ORDERS; i++) {
        place(play.dbs[0], i);
        if (i % 40 == 20)
            kill_one(i / 40 % ROLES);
        if (i == 100) {
            proc_destroy(play.relay);
            start_relay();
        }
    }
    if (!wait_until(WAIT_MS, all_have_ended, NULL))
        fail_msg("%" PRIu64 " orders have not ended; logs in %s",
                 count(0, "SELECT COUNT(*) FROM orders WHERE state = 'placed'"), play.dir);
    ready = count(0, "SELECT COUNT(*) FROM orders WHERE state = 'ready'");
    print_message("%" PRIu64 " of %d orders are ready\n", ready, (int)ORDERS);
    assert_true(ready > 0);
    assert_true(count(0, "SELECT COUNT(*) FROM orders WHERE why = 'not enough money'") > 0);
    /* Those out of stock were paid, and paid back. */
    assert_true(count(0, "SELECT COUNT(*) FROM orders WHERE state = 'cancelled' AND why = ''") > 0);
    assert_int_equal(count(1, "SELECT SUM(balance) FROM account") + ready * AMOUNT, 30 * BALANCE);
    assert_int_equal(count(2, "SELECT SUM(on_hand) FROM article") + ready, 85);
    assert_int_equal(count(0, "SELECT COUNT(*) FROM outbox_parked") +
                         count(1, "SELECT COUNT(*) FROM outbox_parked") +
                         count(2, "SELECT COUNT(*) FROM outbox_parked"),
                     0);
    /* And nobody had to lend a hand: what was rejected has ended, no key waits for it. */
    for (int i = 0; i < ROLES; i++)
        assert_int_equal(count(i, "SELECT COUNT(*) FROM inbox_parked WHERE state <> 'dead' OR "
                                  "is_reported = 0"),
                         0);
    {
        const char *const argv[] = {"rm", "-rf", play.dir, NULL};
        const struct proc_opts opts = {.argv = argv, .log_path = "/dev/null"};

        end_all();
        assert_true(proc_run(&opts, WAIT_MS, NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_order_ends_and_nothing_is_made_or_lost, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("saga", tests, NULL, NULL);
}
