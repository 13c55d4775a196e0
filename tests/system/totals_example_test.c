/*
 * examples/totals_service.c as a user would run it: killed with SIGKILL in mid-work and started again,
 * it has added up each order once, and what is no order is dead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "process.h"

enum { ORDERS = 3000, ARTICLES = 7, BAD = 3, TEXT = 320 };

static struct proc *start(const struct rig *rig)
{
    const struct db_opts *db = &rig->test_db.opts;
    char text[10][TEXT];
    const char *const env[] = {text[0], text[1], text[2], text[3], text[4], text[5],
                               text[6], text[7], text[8], text[9], NULL};
    const char *const argv[] = {TOTALS_PROGRAM, NULL};
    const struct proc_opts opts = {.argv = argv, .env = env};
    struct proc *proc = NULL;

    (void)snprintf(text[0], TEXT, "DB_HOST=127.0.0.1");
    (void)snprintf(text[1], TEXT, "DB_PORT=%u", db->port);
    (void)snprintf(text[2], TEXT, "DB_USER=%s", db->user);
    (void)snprintf(text[3], TEXT, "DB_PASSWORD=%s", db->password);
    (void)snprintf(text[4], TEXT, "DB_NAME=%s", db->database);
    (void)snprintf(text[5], TEXT, "AMQP_ADDRESSES=%s", rig->broker.address);
    (void)snprintf(text[6], TEXT, "AMQP_VHOST=%s", rig->broker.vhost);
    (void)snprintf(text[7], TEXT, "AMQP_USER=%s", rig->broker.user);
    (void)snprintf(text[8], TEXT, "AMQP_PASSWORD=%s", rig->broker.password);
    (void)snprintf(text[9], TEXT, "QUEUE=%s", rig->queue);
    proc = proc_start(&opts);
    assert_non_null(proc);
    return proc;
}

static void each_order_counts_once(void **state)
{
    struct rig *rig = *state;
    struct proc *proc = NULL;
    struct proc_exit how = {0};
    uint64_t quantity = 0;

    test_db_run(rig->db,
                "CREATE TABLE article_total (sku VARCHAR(40) PRIMARY KEY, ordered BIGINT NOT"
                " NULL)");
    rig->opts.single_active_consumer = true;
    rig_declare(rig);
    for (int i = 0; i < ORDERS; i++) {
        char id[TEXT];
        char body[TEXT];

        (void)snprintf(id, sizeof(id), "order-%06d", i);
        (void)snprintf(body, sizeof(body), "{\"sku\": \"a-%d\", \"quantity\": %d}", i % ARTICLES,
                       1 + i % 3);
        rig_put(rig, id, NULL, body);
        quantity += 1 + (uint64_t)(i % 3);
        if (i % (ORDERS / BAD) == 0) {
            (void)snprintf(id, sizeof(id), "bad-%06d", i);
            rig_put(rig, id, NULL, "no order");
        }
    }
    rig_flush(rig);
    proc = start(rig);
    rig_wait_number(rig, "SELECT COUNT(*) > 0 FROM article_total", 1);
    proc_kill(proc);
    proc_destroy(proc);
    proc = start(rig);
    rig_wait_number(rig, "SELECT COALESCE(SUM(ordered), 0) FROM article_total", quantity);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'", BAD);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM article_total"), ARTICLES);
    assert_true(proc_signal(proc, SIGTERM));
    assert_true(proc_wait(proc, RIG_WAIT_MS, &how));
    assert_int_equal(how.code, 0);
    proc_destroy(proc);
    rig_assert_empty(rig, rig->queue);
    assert_int_equal(rig_number(rig, "SELECT SUM(ordered) FROM article_total"), quantity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_order_counts_once, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests_name("totals_example", tests, NULL, NULL);
}
