/*
 * A queue handed from one process to another, and partitions shared by several: the order of each
 * key, and every message once, though processes come, go in good order, are killed or stand still.
 * P3, P4, P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "wait.h"

enum { WINDOW = 10, BEFORE_MS = 1000, PARTITIONS = 8, KEYS = 60, MANY = 3000 };

/* ------------------------------------------------------------------ handing over one queue */

struct gate {
    _Atomic bool is_reached, is_open;
};

static bool is_gate_reached(void *ctx)
{
    struct gate *gate = ctx;

    return atomic_load(&gate->is_reached);
}

static bool is_gate_open(void *ctx)
{
    struct gate *gate = ctx;

    return atomic_load(&gate->is_open);
}

static enum obx_verdict wait_at_gate(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct gate *gate = ctx;

    if (bytes_is(msg->message_id, "p-000005")) {
        atomic_store(&gate->is_reached, true);
        (void)wait_until(RIG_WAIT_MS, is_gate_open, gate);
    }
    return rig_write(msg, tx);
}

static bool has_applied(void *ctx)
{
    return rig_stats(ctx).applied > 0;
}

/* The one that drains has a key's messages in its hands while the other stands by with the rest of
 * the key: nobody may apply what follows before what is still being applied. */
static void a_drain_hands_over_in_order(void **state)
{
    struct rig *rig = *state;
    struct gate gate = {0};
    struct obx_consumer *leaving = NULL, *next = NULL;

    rig->opts.single_active_consumer = true;
    rig->opts.prefetch = WINDOW;
    rig_declare(rig);
    leaving = rig_start(rig, wait_at_gate, &gate);
    rig_fill(rig, "p", 4 * WINDOW, 1);
    assert_true(wait_until(RIG_WAIT_MS, is_gate_reached, &gate));
    next = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(next, broker_connects, 1);
    obx_consumer_stop(leaving);
    /* Nothing comes in good order; what would come wrongly comes at once. */
    (void)wait_until(BEFORE_MS, has_applied, next);
    atomic_store(&gate.is_open, true);
    rig_stop(leaving);
    rig_wait_applied(rig, 4 * WINDOW);
    rig_stop(next);
    rig_audit(rig, 4 * WINDOW);
}

/* ------------------------------------------------------------------ sharing */

static void use_partitions(struct rig *rig, unsigned partitions)
{
    rig->opts.partitions = partitions;
    rig->opts.dead_letter_queue = NULL;
    /* The defaults are 20 seconds of heartbeat and a minute of silence: the same, slower. */
    rig->opts.broker_heartbeat_s = 2;
    rig->opts.db_idle_s = 3;
    /* Small, so that a backlog outlives the hand-over. */
    rig->opts.prefetch = WINDOW;
    rig->opts.batch_max = WINDOW;
    rig_declare(rig);
}

struct share {
    const struct obx_consumer *consumer;
    uint32_t least, most;
};

static bool has_share(void *ctx)
{
    const struct share *share = ctx;
    const struct obx_consumer_stats stats = rig_stats(share->consumer);

    return stats.partitions >= share->least && stats.partitions <= share->most && stats.broker_up &&
           stats.databases_up > 0;
}

static void wait_share(const struct obx_consumer *consumer, uint32_t least, uint32_t most)
{
    struct share share = {consumer, least, most};

    if (!wait_until(RIG_WAIT_MS, has_share, &share))
        fail_msg("%u partitions are open, %u to %u wanted",
                 (unsigned)rig_stats(consumer).partitions, (unsigned)least, (unsigned)most);
}

static void one_has_all_two_share_and_the_last_has_all(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *a = NULL, *b = NULL;

    use_partitions(rig, PARTITIONS);
    a = rig_start(rig, rig_apply, NULL);
    wait_share(a, PARTITIONS, PARTITIONS);
    rig_fill(rig, "p", MANY, KEYS);
    b = rig_start(rig, rig_apply, NULL); /* with a backlog: there is something to hand over */
    wait_share(a, PARTITIONS / 2, PARTITIONS / 2);
    wait_share(b, PARTITIONS / 2, PARTITIONS / 2);
    rig_fill(rig, "q", MANY, KEYS);
    rig_wait_applied(rig, 2 * MANY);
    assert_true(rig_stats(a).applied > 0);
    assert_true(rig_stats(b).applied > 0);
    rig_fill(rig, "r", MANY, KEYS);
    rig_stop(a);
    wait_share(b, PARTITIONS, PARTITIONS);
    rig_wait_applied(rig, 3 * MANY);
    rig_stop(b);
    rig_audit(rig, 3 * MANY);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_member"), 0);
}

static void a_third_joins_with_a_backlog(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *three[3] = {0};

    use_partitions(rig, PARTITIONS);
    rig_fill(rig, "p", MANY, KEYS);
    for (int i = 0; i < 3; i++)
        three[i] = rig_start(rig, rig_apply, NULL);
    for (int i = 0; i < 3; i++)
        wait_share(three[i], PARTITIONS / 3, PARTITIONS / 3 + 1);
    rig_fill(rig, "q", MANY, KEYS);
    rig_wait_applied(rig, 2 * MANY);
    for (int i = 0; i < 3; i++)
        rig_stop(three[i]);
    rig_audit(rig, 2 * MANY);
}

/* More processes than partitions: what has none stands by, and is well. */
static void one_too_many_stands_by(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *three[3] = {0};
    struct obx_err broker = {0}, database = {0};
    unsigned open = 0;

    use_partitions(rig, 2);
    for (int i = 0; i < 3; i++)
        three[i] = rig_start(rig, rig_apply, NULL);
    for (int i = 0; i < 3; i++)
        wait_share(three[i], 0, 1);
    for (int i = 0; i < 3; i++) {
        open += rig_stats(three[i]).partitions;
        obx_consumer_get_last_errors(three[i], &broker, &database);
        assert_int_equal(broker.code, OBX_OK);
        assert_int_equal(database.code, OBX_OK);
    }
    assert_int_equal(open, 2);
    rig_fill(rig, "p", 100, KEYS);
    rig_wait_applied(rig, 100);
    for (int i = 0; i < 3; i++)
        rig_stop(three[i]);
    rig_audit(rig, 100);
}

/* ------------------------------------------------------------------ other processes */

static pid_t start_child(struct rig *rig)
{
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves none behind */
        (void)rig_start(rig, rig_apply, NULL);
        for (;;)
            pause();
    }
    return child;
}

static void end_child(pid_t child)
{
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_killed_process_is_replaced(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    pid_t child = 0;

    use_partitions(rig, PARTITIONS);
    child = start_child(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    wait_share(consumer, PARTITIONS / 2, PARTITIONS / 2);
    rig_fill(rig, "p", MANY, KEYS);
    end_child(child);
    rig_wait_applied(rig, MANY);
    wait_share(consumer, PARTITIONS, PARTITIONS);
    rig_stop(consumer);
    rig_audit(rig, MANY);
}

static void a_process_that_stands_still_is_replaced_and_comes_back(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    pid_t child = 0;

    use_partitions(rig, PARTITIONS);
    child = start_child(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    wait_share(consumer, PARTITIONS / 2, PARTITIONS / 2);
    rig_fill(rig, "p", MANY, KEYS);
    assert_int_equal(kill(child, SIGSTOP), 0);
    rig_wait_applied(rig, MANY);
    wait_share(consumer, PARTITIONS, PARTITIONS);
    rig_fill(rig, "q", MANY, KEYS);
    assert_int_equal(kill(child, SIGCONT), 0);
    wait_share(consumer, PARTITIONS / 2, PARTITIONS / 2);
    rig_fill(rig, "r", MANY, KEYS);
    rig_wait_applied(rig, 3 * MANY);
    rig_stop(consumer);
    end_child(child);
    rig_audit(rig, 3 * MANY);
}

/* ------------------------------------------------------------------ another number */

/* The procedure of docs/partitions.md: nothing is published, all is applied, then the number. */
static void drained_first_another_number_keeps_the_order(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    use_partitions(rig, PARTITIONS);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_fill(rig, "p", MANY, KEYS);
    rig_wait_applied(rig, MANY);
    rig_stop(consumer);
    use_partitions(rig, PARTITIONS + 4);
    rig_fill(rig, "q", MANY, KEYS);
    consumer = rig_start(rig, rig_apply, NULL);
    wait_share(consumer, PARTITIONS + 4, PARTITIONS + 4);
    rig_wait_applied(rig, 2 * MANY);
    rig_stop(consumer);
    rig_audit(rig, 2 * MANY);
}

/* ------------------------------------------------------------------ options */

static void what_does_not_fit_is_refused(void **state)
{
    struct rig *rig = *state;
    const struct obx_binding direct = {.exchange = "e", .exchange_type = "direct"};
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    rig->opts.partitions = 257;
    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_E_INVALID);
    assert_non_null(strstr(err.text, "opts.partitions"));
    rig->opts.partitions = 2;
    rig->opts.bindings = &direct;
    rig->opts.binding_count = 1;
    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_E_INVALID);
    assert_non_null(strstr(err.text, "topic exchange"));
    rig->opts.binding_count = 0;
    rig->opts.declare_topology = false;
    rig->opts.fail_fast = true;
    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe(consumer, rig_apply, NULL, &err), OBX_OK);
    assert_int_equal(obx_consumer_run(consumer, &err), OBX_E_MQ_TOPOLOGY);
    assert_non_null(strstr(err.text, ".0'"));
    obx_consumer_close(consumer);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_drain_hands_over_in_order),
        CASE(one_has_all_two_share_and_the_last_has_all),
        CASE(a_third_joins_with_a_backlog),
        CASE(one_too_many_stands_by),
        CASE(a_killed_process_is_replaced),
        CASE(a_process_that_stands_still_is_replaced_and_comes_back),
        CASE(drained_first_another_number_keeps_the_order),
        CASE(what_does_not_fit_is_refused),
    };

    if (argc > 1) /* one case by hand */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
