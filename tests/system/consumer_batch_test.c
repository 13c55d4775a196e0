/*
 * A batch handler on real servers: many messages with one statement, each with one effect, and one
 * poison message among them costs the others second calls and nothing else.
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
#include "cut_proxy.h"
#include "wait.h"

enum { MESSAGES = 600, KEYS = 7, GATHER_US = 200000, COLUMNS = 4, CALLED_MAX = 256 };

struct calls {
    atomic_uint count;
    atomic_uint most; /* messages in one call */
    bool is_blaming;
    bool is_answering; /* for each */
};

/* One INSERT for all of them. */
static enum obx_verdict write_all(const struct obx_message *const *messages, size_t count,
                                  struct obx_tx *tx)
{
    static const char head[] =
        "INSERT INTO applied (message_id, ordering_key, body, attempt) VALUES ";
    struct obx_value values[CALLED_MAX * COLUMNS];
    char sql[sizeof(head) + CALLED_MAX * sizeof("(?,?,?,?),")];
    struct obx_err err = {0};
    size_t used = sizeof(head) - 1;

    assert_in_range(count, 1, CALLED_MAX);
    memcpy(sql, head, sizeof(head));
    for (size_t i = 0; i < count; i++) {
        const struct obx_message *msg = messages[i];

        used += (size_t)snprintf(sql + used, sizeof(sql) - used, "%s(?,?,?,?)", i > 0 ? "," : "");
        values[i * COLUMNS] = obx_data(msg->message_id);
        values[i * COLUMNS + 1] = obx_data(msg->ordering_key);
        values[i * COLUMNS + 2] = obx_data(msg->body);
        values[i * COLUMNS + 3] = obx_u64(msg->attempt);
    }
    return obx_tx_exec(tx, sql, values, count * COLUMNS, NULL, &err) == OBX_OK ? OBX_APPLIED
                                                                               : OBX_RETRY;
}

static enum obx_verdict apply_all(const struct obx_message *const *messages, size_t count,
                                  struct obx_tx *tx, void *ctx)
{
    struct calls *calls = ctx;

    atomic_fetch_add(&calls->count, 1);
    if (count > atomic_load(&calls->most))
        atomic_store(&calls->most, (unsigned)count);
    if (write_all(messages, count, tx) != OBX_APPLIED)
        return OBX_RETRY;
    for (size_t i = 0; i < count; i++) {
        if (!bytes_is(messages[i]->body, "poison"))
            continue;
        if (calls->is_answering) {
            obx_tx_answer(tx, i, OBX_REJECT, "poison at %zu", i);
            continue;
        }
        if (calls->is_blaming)
            obx_tx_blame(tx, i);
        obx_tx_reason(tx, "poison");
        return OBX_REJECT;
    }
    return OBX_APPLIED;
}

static struct obx_consumer *start(struct rig *rig, struct calls *calls)
{
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    rig->opts.batch_wait_us = GATHER_US;
    if (obx_consumer_open(&rig->opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe_batch(consumer, apply_all, calls, &err) != OBX_OK ||
        obx_consumer_start(consumer, &err) != OBX_OK)
        fail_msg("consumer: %s", err.text);
    return consumer;
}

static void many_with_one_statement(void **state)
{
    struct rig *rig = *state;
    struct calls calls = {.is_blaming = false};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, KEYS);
    consumer = start(rig, &calls);
    RIG_WAIT_STAT(consumer, acked, MESSAGES);
    assert_int_equal(rig_stats(consumer).applied, MESSAGES);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
    assert_in_range(calls.count, 1, MESSAGES / 10);
    assert_true(calls.most > 50);
    rig_assert_empty(rig, rig->queue);
}

static void check_poison(struct rig *rig, bool is_blaming)
{
    struct calls calls = {.is_blaming = is_blaming};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "a", MESSAGES / 3, 0);
    rig_put(rig, "poison", NULL, "poison");
    rig_fill(rig, "b", MESSAGES / 3, 0);
    consumer = start(rig, &calls);
    RIG_WAIT_STAT(consumer, acked, MESSAGES / 3 * 2 + 1);
    RIG_WAIT_STAT(consumer, dead, 1);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES / 3 * 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE message_id = 'poison'"),
                     0);
    assert_in_range(calls.count, 2, 60); /* not one for each message */
}

static void the_one_that_is_named_goes(void **state)
{
    check_poison(*state, true);
}

static void one_that_is_not_named_is_found_in_halves(void **state)
{
    check_poison(*state, false);
}

/* As many as there are cost one more call. */
static void each_has_its_answer(void **state)
{
    enum { POISON = 12 };
    struct rig *rig = *state;
    struct calls calls = {.is_answering = true};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    for (int i = 0; i < POISON; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "poison-%02d", i);
        rig_put(rig, id, NULL, "poison");
        (void)snprintf(id, sizeof(id), "good-%02d", i);
        rig_fill(rig, id, MESSAGES / 3 / POISON, 0);
    }
    consumer = start(rig, &calls);
    RIG_WAIT_STAT(consumer, applied, MESSAGES / 3 / POISON * POISON);
    RIG_WAIT_STAT(consumer, dead, POISON);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES / 3 / POISON * POISON);
    assert_in_range(calls.count, 2, 2 * POISON);
}

/* Both servers are far: what a message costs is its share of a batch's round trips. With one for each
 * message it would take FAR_MS times MESSAGES; half of that is ten times what the batches need. */
static void far_servers_cost_round_trips_by_the_batch(void **state)
{
    enum { FAR_MS = 30 };
    struct rig *rig = *state;
    struct cut_proxy *db = cut_proxy_create("127.0.0.1", rig->test_db.opts.port);
    struct cut_proxy *broker = cut_proxy_create("127.0.0.1", (uint16_t)rig->broker.port);
    struct calls calls = {.is_blaming = false};
    struct obx_consumer *consumer = NULL;
    char address[64];
    int64_t from_ms = 0;

    assert_true(db != NULL && broker != NULL);
    cut_proxy_set_delay(db, CUT_TO_SERVER, FAR_MS);
    cut_proxy_set_delay(broker, CUT_TO_SERVER, FAR_MS);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", cut_proxy_port(broker));
    rig->opts.broker_addresses = address;
    rig->opts.db_host = "127.0.0.1";
    rig->opts.db_port = cut_proxy_port(db);
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, KEYS);
    from_ms = wait_now_ms();
    consumer = start(rig, &calls);
    RIG_WAIT_STAT(consumer, acked, MESSAGES);
    assert_in_range(wait_now_ms() - from_ms, 0, FAR_MS * MESSAGES / 2);
    assert_in_range(rig_stats(consumer).batches, 1, MESSAGES / 20);
    assert_int_equal(rig_stats(consumer).reruns, 0);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
    cut_proxy_destroy(db);
    cut_proxy_destroy(broker);
}

static void there_is_one_handler(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct calls calls = {.is_blaming = false};
    struct obx_err err = {0};

    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe_batch(consumer, NULL, NULL, &err), OBX_E_INVALID);
    assert_int_equal(obx_consumer_subscribe_batch(consumer, apply_all, &calls, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe(consumer, rig_apply, NULL, &err), OBX_E_INVALID);
    assert_int_equal(obx_consumer_subscribe_batch(consumer, apply_all, &calls, &err),
                     OBX_E_INVALID);
    obx_consumer_close(consumer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_with_one_statement, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(the_one_that_is_named_goes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(one_that_is_not_named_is_found_in_halves, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(each_has_its_answer, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(far_servers_cost_round_trips_by_the_batch, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(there_is_one_handler, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests_name("consumer_batch", tests, NULL, NULL);
}
