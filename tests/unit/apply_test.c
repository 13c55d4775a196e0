/*
 * One batch against a store that answers as told: what is hard to bring about on a real server, or
 * is another server's way (MySQL reports a killed connection by error 1317), and the order of
 * statements that locks depend on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "apply/apply.h"
#include "base/alloc.h"
#include "base/bytes.h"

enum { BATCH = 5, INTERRUPTED = 1317, TRACE_MAX = 1024 };

/* What the store is told to answer, and what it was asked. */
struct script {
    enum obx_code rollback;
    enum obx_code undo;
    bool is_lost;
    const char *held; /* the id of which another transaction has the dedup row */
    enum obx_code handler;
    const char *handler_fails; /* for this id */
    char trace[TRACE_MAX];
    int inserts_waited;
    int probes;
    int rollbacks;
    int handled;
};

static void note(struct script *script, const char *what)
{
    const size_t used = strlen(script->trace);

    (void)snprintf(script->trace + used, sizeof(script->trace) - used, "%s ", what);
}

static enum obx_code op_begin(void *ctx, struct obx_err *err)
{
    (void)err;
    note(ctx, "begin");
    return OBX_OK;
}

static enum obx_code op_set_mark(void *ctx, enum store_mark mark, struct obx_err *err)
{
    (void)err;
    note(ctx, mark == STORE_MARK_TX ? "mark" : "chunk");
    return OBX_OK;
}

static enum obx_code op_undo_to(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct script *script = ctx;

    (void)mark;
    return script->undo == OBX_OK ? OBX_OK : obx_fail(err, script->undo, "undo");
}

static enum obx_code op_release(void *ctx, enum store_mark mark, struct obx_err *err)
{
    (void)ctx;
    (void)mark;
    (void)err;
    return OBX_OK;
}

static bool is_held(const struct script *script, struct obx_bytes id)
{
    return script->held != NULL && bytes_is(id, script->held);
}

static enum obx_code op_insert(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    struct script *script = ctx;

    if (!is_held(script, id))
        return OBX_OK;
    script->inserts_waited++;
    return obx_fail(err, OBX_E_DB_LOCK_WAIT, "waited for seconds");
}

static enum obx_code op_find_applied(void *ctx, struct item **items, size_t count,
                                     struct obx_err *err)
{
    (void)items;
    (void)count;
    (void)err;
    note(ctx, "find");
    return OBX_OK;
}

static enum obx_code op_insert_many(void *ctx, struct item **items, size_t count,
                                    struct obx_err *err)
{
    note(ctx, "rows");
    for (size_t i = 0; i < count; i++) {
        if (items[i]->dedup == DEDUP_LATER &&
            op_insert(ctx, items[i]->msg.message_id, err) != OBX_OK)
            return OBX_E_DB_LOCK_WAIT;
    }
    return OBX_OK;
}

static enum obx_code op_probe(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    struct script *script = ctx;

    script->probes++;
    return is_held(script, id) ? obx_fail(err, OBX_E_DB_LOCK_WAIT, "held") : OBX_OK;
}

static enum obx_code op_id(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    (void)ctx;
    (void)id;
    (void)err;
    return OBX_OK;
}

static enum obx_code op_has(void *ctx, struct obx_bytes id, bool *has, struct obx_err *err)
{
    *has = true;
    return op_id(ctx, id, err);
}

static enum obx_code op_commit(void *ctx, struct obx_err *err)
{
    (void)err;
    note(ctx, "commit");
    return OBX_OK;
}

static enum obx_code op_rollback(void *ctx, struct obx_err *err)
{
    struct script *script = ctx;

    script->rollbacks++;
    return script->rollback == OBX_OK ? OBX_OK : obx_fail(err, script->rollback, "rollback");
}

static enum obx_code op_item(void *ctx, const struct item *item, struct obx_err *err)
{
    (void)ctx;
    (void)item;
    (void)err;
    return OBX_OK;
}

static enum obx_code op_read_outcome(void *ctx, struct item *item, enum dedup_outcome *outcome,
                                     struct obx_err *err)
{
    *outcome = OUTCOME_APPLIED;
    return op_item(ctx, item, err);
}

static enum obx_code op_any_parked(void *ctx, bool *any, struct obx_err *err)
{
    (void)err;
    note(ctx, "look");
    *any = false;
    return OBX_OK;
}

static enum obx_code op_lookup(void *ctx, struct item **items, size_t count, struct obx_err *err)
{
    (void)items;
    (void)count;
    (void)err;
    note(ctx, "lookup");
    return OBX_OK;
}

static enum obx_code op_park(void *ctx, const struct item *item, const struct park *park,
                             struct obx_err *err)
{
    (void)park;
    note(ctx, "park");
    return op_item(ctx, item, err);
}

static bool op_yes(void *ctx)
{
    (void)ctx;
    return true;
}

static bool op_is_lost(void *ctx)
{
    const struct script *script = ctx;

    return script->is_lost;
}

static const struct store_ops ops = {
    .begin = op_begin,
    .set_mark = op_set_mark,
    .undo_to = op_undo_to,
    .release = op_release,
    .insert = op_insert,
    .find_applied = op_find_applied,
    .insert_many = op_insert_many,
    .probe = op_probe,
    .remove = op_id,
    .has = op_has,
    .has_committed = op_has,
    .make_durable = op_begin,
    .commit = op_commit,
    .rollback = op_rollback,
    .reject = op_item,
    .read_outcome = op_read_outcome,
    .any_parked = op_any_parked,
    .lookup = op_lookup,
    .park = op_park,
    .unpark = op_item,
    .promote = op_item,
    .ask_status = op_begin,
    .in_transaction = op_yes,
    .is_lost = op_is_lost,
};

static void handle(void *ctx, struct item *item, struct apply_answer *answer)
{
    struct script *script = ctx;

    script->handled++;
    answer->verdict = OBX_APPLIED;
    if (script->handler_fails != NULL && bytes_is(item->msg.message_id, script->handler_fails))
        (void)obx_fail_sys(&answer->failed, script->handler, INTERRUPTED, "interrupted");
}

/* ------------------------------------------------------------------ a batch */

struct batch {
    struct counters counters;
    struct item *items[BATCH];
    struct apply_report report;
};

static const char *const ids[BATCH] = {"m-0", "m-1", "m-2", "m-3", "m-4"};

static void run(struct batch *batch, struct script *script)
{
    const struct apply apply = {
        .store = {.ops = &ops, .ctx = script},
        .handler = {.call = handle, .ctx = script},
        .counters = &batch->counters,
        .chunk = 2,
        .group = "group-a",
        .policy = {.max_attempts = 3, .retry_min_ms = 10, .retry_cap_ms = 100},
    };

    *batch = (struct batch){.items = {NULL}};
    for (size_t i = 0; i < BATCH; i++) {
        struct bridge_delivery *delivery = obx_calloc(1, sizeof(*delivery));

        assert_non_null(delivery);
        delivery->msg.message_id = bytes_of(ids[i]);
        assert_int_equal(item_create(delivery, &batch->counters, &batch->items[i]), OBX_OK);
    }
    apply_batch(&apply, batch->items, BATCH, &batch->report);
}

static void done(struct batch *batch)
{
    for (size_t i = 0; i < BATCH; i++)
        item_free(batch->items[i], &batch->counters);
}

/* The handler's statement was cut short, and so was the connection: that is an attempt. */
static void a_killed_connection_is_gone(void **state)
{
    struct script script = {
        .handler = OBX_E_TIMEOUT, .handler_fails = "m-2", .rollback = OBX_E_DB_GONE};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_RECONNECT);
    assert_int_equal(batch.report.err.code, OBX_E_DB_GONE);
    assert_ptr_equal(batch.report.suspect, batch.items[2]);
    done(&batch);
}

static void a_killed_statement_leaves_the_connection(void **state)
{
    struct script script = {.handler = OBX_E_TIMEOUT, .handler_fails = "m-2"};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_AGAIN);
    assert_int_equal(batch.report.err.code, OBX_E_TIMEOUT);
    done(&batch);
}

/* Nothing is sent over a connection whose answer we have not waited for. */
static void our_own_deadline_ends_the_connection(void **state)
{
    struct script script = {.handler = OBX_E_TIMEOUT, .handler_fails = "m-2", .is_lost = true};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_RECONNECT);
    assert_int_equal(batch.report.err.code, OBX_E_TIMEOUT);
    assert_int_equal(script.rollbacks, 0);
    done(&batch);
}

static void a_statement_comes_before_the_savepoint(void **state)
{
    struct script script = {.held = NULL};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_COMMITTED);
    assert_string_equal(script.trace, "begin look find mark chunk chunk rows commit ");
    assert_int_equal(script.probes, 0); /* nothing is asked for in vain */
    done(&batch);
}

static void a_held_message_costs_one_wait(void **state)
{
    struct script script = {.held = "m-1"};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_COMMITTED);
    assert_true(batch.report.met_lock);
    assert_int_equal(script.inserts_waited, 1);
    assert_true(script.probes >= BATCH - 2); /* all that came after it */
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(batch.items[i]->state, i == 1 ? ITEM_HELD : ITEM_APPLIED);
    done(&batch);
}

/* innodb_rollback_on_timeout: the transaction is gone, and no handler has ended it. */
static void a_lock_wait_may_undo_everything(void **state)
{
    struct script script = {.held = "m-1", .undo = OBX_E_DB_NO_SAVEPOINT};
    struct batch batch;

    (void)state;
    run(&batch, &script);
    assert_int_equal(batch.report.end, APPLY_AGAIN);
    assert_ptr_equal(batch.report.suspect, batch.items[1]);
    assert_int_equal(counters_get(&batch.counters, CNT_TX_BROKEN), 0);
    done(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_connection_is_gone),
        cmocka_unit_test(a_killed_statement_leaves_the_connection),
        cmocka_unit_test(our_own_deadline_ends_the_connection),
        cmocka_unit_test(a_statement_comes_before_the_savepoint),
        cmocka_unit_test(a_held_message_costs_one_wait),
        cmocka_unit_test(a_lock_wait_may_undo_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
