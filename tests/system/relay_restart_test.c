/*
 * RabbitMQ and MariaDB killed and started again while the real outbox-relay has rows on the way:
 * it works again by itself, by the ordinary path, and every row comes out (P1, P7).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "program_rig.h"

/* Connections of the rig that a restart has taken. */
static void reconnect(struct program_rig *rig)
{
    struct db_opts root = test_db_root_opts();

    db_close(rig->root);
    db_close(rig->app);
    root.database = rig->test_db.name;
    rig->root = test_db_open(&root);
    rig->app = test_db_open(&rig->producer.opts);
    broker_admin_close(rig->admin);
    rig->admin = broker_admin_open(&rig->broker);
}

static void restart(struct program_rig *rig, const char *server)
{
    char command[64];

    snprintf(command, sizeof(command), "kill %s", server);
    broker_servers(command);
    snprintf(command, sizeof(command), "start %s", server);
    broker_servers(command);
    reconnect(rig);
}

struct drained {
    struct program_rig *rig;
    bool seen[4096];
    unsigned distinct;
};

/* Takes off the queue what is there; duplicates are allowed, gaps are not. */
static void drain_queue(struct drained *drained)
{
    struct broker_message msg;

    while (broker_get(drained->rig->admin, drained->rig->queue, &msg)) {
        unsigned long number = strtoul(msg.body, NULL, 10);

        assert_true(number < 4096);
        drained->distinct += !drained->seen[number];
        drained->seen[number] = true;
    }
}

static void number_rows(struct program_rig *rig, unsigned first, unsigned count)
{
    struct obx_err err = {0};
    char key[16], body[16];

    assert_int_equal(db_begin(rig->app, &err), OBX_OK);
    for (unsigned i = first; i < first + count; i++) {
        snprintf(key, sizeof(key), "k%u", i % 11);
        snprintf(body, sizeof(body), "%u", i);
        rig_insert(rig, "outbox", "t.x", key, body);
    }
    assert_int_equal(db_commit(rig->app, &err), OBX_OK);
}

static void restarts_under_load(void **state)
{
    struct program_rig *rig = *state;
    struct drained drained = {.rig = rig};

    rig_start_ready(rig, 0, NULL);
    broker_settle();
    for (unsigned round = 0; round < 2; round++) {
        number_rows(rig, round * 2000, 1000);
        restart(rig, round == 0 ? "rabbitmq" : "database");
        number_rows(rig, round * 2000 + 1000, 1000);
        rig_wait_empty(rig, "outbox");
        rig_wait_ready(rig, 0);
    }
    drain_queue(&drained);
    assert_int_equal(drained.distinct, 4000);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    rig_stop(rig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(restarts_under_load, program_setup, program_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
