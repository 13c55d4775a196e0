/*
 * A relay that is stopped (SIGSTOP) past its lease and continued: another one takes the lane over
 * meanwhile, and the one that wakes up does no harm, although it believes for a moment that it is
 * the owner (P3, P4, P7; trap "a stopped owner that wakes up").
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "crash/scene.h"
#include "test_db.h"
#include "wait.h"

enum {
    TAKE_OVER_MS = 30 * 1000,
    SOME = 100, /* messages applied in each phase */
    ROUNDS = 3
};

struct taking_over {
    struct scene *scene;
    uint64_t epoch; /* of the owner that was stopped */
};

static uint64_t epoch_of(struct scene *scene)
{
    return test_db_number(scene_db(scene), "SELECT epoch FROM " LEDGER_PRODUCER_DB
                                           ".outbox_lease WHERE outbox = 'outbox'");
}

static bool is_taken_over(void *ctx)
{
    const struct taking_over *taking_over = ctx;

    return epoch_of(taking_over->scene) > taking_over->epoch;
}

/* Stops the owner, waits until the other one works, continues it, and lets them both run for a
 * while. */
static void stop_and_continue(struct scene *scene, unsigned owner)
{
    struct taking_over taking_over = {.scene = scene, .epoch = epoch_of(scene)};

    assert_true(proc_signal(scene_proc(scene, SCENE_RELAY, owner), SIGSTOP));
    if (!wait_until(TAKE_OVER_MS, is_taken_over, &taking_over))
        fail_msg("nobody took the lane over from a stopped relay");
    scene_wait_applied(scene, SOME);
    assert_true(proc_signal(scene_proc(scene, SCENE_RELAY, owner), SIGCONT));
    scene_wait_applied(scene, SOME);
    assert_true(proc_is_alive(scene_proc(scene, SCENE_RELAY, owner)));
}

static void stopped_owner_does_no_harm(void **state)
{
    const struct load_opts opts = {.db = scene_producer_opts(),
                                   .topic = SCENE_TOPIC,
                                   .keyless_percent = 20,
                                   .rollback_percent = 20,
                                   .pause_max_ms = 4,
                                   .seed = 1};
    struct scene *scene = scene_create();
    struct load *load = NULL;
    struct obx_err err = {0};

    (void)state;
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    if (load_start(&opts, &load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    scene_wait_applied(scene, SOME);
    scene_start(scene, SCENE_RELAY, 1, NULL);
    for (unsigned i = 0; i < ROUNDS; i++)
        stop_and_continue(scene, i % SCENE_ACTORS);
    load_stop(load, NULL);
    scene_finish(scene);
    scene_destroy(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_owner_does_no_harm),
    };

    return cmocka_run_group_tests_name("stopped_relay", tests, NULL, NULL);
}
