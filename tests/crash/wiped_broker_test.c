/*
 * The broker loses all of its data, twice, while messages that ask for receipts are written,
 * published and applied: nothing is lost, and each is applied once (P8). Each time the queue holds
 * messages that have left the outbox and that no consumer has seen, so that without receipts they
 * would be gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>

#include "base/random.h"
#include "crash/scene.h"
#include "test_db.h"
#include "wait.h"

enum { WIPES = 2, APPLIED = 100, BACKLOG = 50, PROGRESS_MS = 60 * 1000 };

static struct load *start_load(void)
{
    static struct load_opts opts; /* borrowed by the load */
    struct load *load = NULL;
    struct obx_err err = {0};

    opts = (struct load_opts){.db = scene_producer_opts(),
                              .topic = SCENE_TOPIC,
                              .receipt_from = SCENE_GROUP,
                              .keyless_percent = 50,
                              .rollback_percent = 10,
                              .pause_max_ms = 20,
                              .seed = random_u64() % UINT32_MAX};
    if (load_start(&opts, &load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return load;
}

static uint64_t awaiting(struct scene *scene)
{
    return test_db_number(scene_db(scene),
                          "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox_awaiting");
}

/* Of those, what no consumer has applied: no receipt that is on its way can settle one of them. */
static uint64_t unapplied(struct scene *scene)
{
    return test_db_number(scene_db(scene),
                          "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox_awaiting a"
                          " WHERE NOT EXISTS (SELECT 1 FROM " LEDGER_CONSUMER_DB ".inbox_applied d"
                          " WHERE d.consumer_group = '" SCENE_GROUP "'"
                          " AND d.message_id = a.message_id)");
}

static bool has_backlog(void *scene)
{
    return unapplied(scene) >= BACKLOG;
}

/* With the consumer stopped, the queue fills with messages that the outbox has let go; with the
 * queue they are gone. */
static void wipe_full_queue(struct scene *scene)
{
    scene_kill(scene, SCENE_CONSUMER, 0);
    if (!wait_until(PROGRESS_MS, has_backlog, scene))
        fail_msg("%" PRIu64 " messages wait to be applied", unapplied(scene));
    scene_server(scene, "wipe", "rabbitmq");
    assert_true(unapplied(scene) >= BACKLOG);
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    scene_server(scene, "start", "rabbitmq");
}

static void nothing_is_lost_with_the_brokers_data(void **state)
{
    struct scene *scene = *state;
    struct load *load = NULL;
    struct load_counts counts;

    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    load = start_load();
    for (int i = 0; i < WIPES; i++) {
        scene_wait_applied(scene, APPLIED);
        wipe_full_queue(scene);
    }
    scene_wait_applied(scene, APPLIED);
    load_stop(load, &counts);
    scene_finish_unordered(scene);
    assert_true(counts.committed > 0);
    assert_int_equal(awaiting(scene), 0);
}

static int set_up(void **state)
{
    /* A broker without exchange and queue refuses everything for a while; that is no reason to park
     * a message here. */
    if (setenv("OBX_LANE_MAX_ATTEMPTS", "100000", 1) != 0)
        return -1;
    *state = scene_create();
    return 0;
}

static int tear_down(void **state)
{
    scene_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_lost_with_the_brokers_data, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("wiped broker", tests, NULL, NULL);
}
