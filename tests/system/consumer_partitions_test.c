/*
 * A queue handed from one process to another, and partitions shared by several: the order of each
 * key, and every message once, whichever process comes, ends well, is killed or stands still. P3, P4,
 * P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "wait.h"

enum { WINDOW = 10, BEFORE_MS = 1000 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_drain_hands_over_in_order, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
