/*
 * Outages on real servers: while every handler asks for a retry, or the database is away, for longer
 * than all attempts would take, nothing dies, little is tried, and it goes on by itself afterwards.
 * One poison message among good ones is none. See docs/adr/0031-consumer-circuit.md.
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

enum {
    MESSAGES = 300,
    KEYS = 40,
    ATTEMPTS = 10,
    /* All attempts of a message take a second at most (see the rig's backoff). */
    OUTAGE_MS = 5000,
    TRIED_MAX = 600
};

struct service {
    atomic_bool is_down;
    atomic_uint calls; /* while it was down */
};

static struct {
    atomic_uint begun, ended;
} logged;

static void log_line(enum obx_log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)len;
    (void)ctx;
    if (strstr(line, "outage.begun") != NULL)
        atomic_fetch_add(&logged.begun, 1);
    if (strstr(line, "outage.ended") != NULL)
        atomic_fetch_add(&logged.ended, 1);
}

static int setup(void **state)
{
    if (rig_setup(state) != 0)
        return -1;
    obx_log_set(OBX_LOG_INFO, log_line, NULL);
    logged.begun = 0;
    logged.ended = 0;
    ((struct rig *)*state)->opts.max_attempts =
        ATTEMPTS; /* an outage of seconds would use them up */
    return 0;
}

static int teardown(void **state)
{
    obx_log_set(OBX_LOG_INFO, NULL, NULL);
    return rig_teardown(state);
}

static enum obx_verdict call_service(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct service *service = ctx;

    if (bytes_is(msg->body, "poison"))
        return OBX_RETRY;
    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (!atomic_load(&service->is_down))
        return OBX_APPLIED;
    atomic_fetch_add(&service->calls, 1);
    obx_tx_reason(tx, "the service is down");
    return OBX_RETRY;
}

struct deadline {
    int64_t until_ms;
};

static bool has_passed(void *ctx)
{
    const struct deadline *deadline = ctx;

    return wait_now_ms() >= deadline->until_ms;
}

static void let_pass(int64_t ms)
{
    struct deadline deadline = {.until_ms = wait_now_ms() + ms};

    assert_true(wait_until(RIG_WAIT_MS, has_passed, &deadline));
}

static void check_all_applied(struct rig *rig, struct obx_consumer *consumer)
{
    RIG_WAIT_STAT(consumer, applied, MESSAGES);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    assert_int_equal(rig_stats(consumer).dead, 0);
    rig_audit(rig, MESSAGES);
}

static void a_service_that_is_down_kills_nothing(void **state)
{
    struct rig *rig = *state;
    struct service service = {.is_down = true};
    struct obx_consumer *consumer = NULL;
    struct obx_err why = {0};

    rig->opts.workers = 2;
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, KEYS);
    consumer = rig_start(rig, call_service, &service);
    RIG_WAIT_STAT(consumer, workers_pausing, 1);
    obx_consumer_get_last_errors(consumer, NULL, &why);
    assert_int_equal(why.code, OBX_E_HANDLER);
    assert_string_equal(why.text, "the service is down");
    let_pass(OUTAGE_MS);
    RIG_WAIT_STAT(consumer, attempts_kept, 2 * ATTEMPTS);
    assert_in_range(service.calls, ATTEMPTS, TRIED_MAX);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'"), 0);
    atomic_store(&service.is_down, false);
    check_all_applied(rig, consumer);
    assert_int_equal(rig_stats(consumer).workers_pausing, 0);
    obx_consumer_get_last_errors(consumer, NULL, &why);
    assert_int_equal(why.code, OBX_OK);
    assert_int_equal(logged.begun, rig_stats(consumer).outages);
    assert_int_equal(logged.ended, logged.begun);
    rig_stop(consumer);
    rig_assert_empty(rig, rig->queue);
}

/* Out of the table too: those that wait when it goes down. */
static void it_may_go_down_at_any_time(void **state)
{
    struct rig *rig = *state;
    struct service service = {.is_down = false};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES / 2, KEYS);
    consumer = rig_start(rig, call_service, &service);
    RIG_WAIT_STAT(consumer, applied, MESSAGES / 2);
    atomic_store(&service.is_down, true);
    rig_fill(rig, "n", MESSAGES / 2, KEYS);
    RIG_WAIT_STAT(consumer, attempts_kept, 2 * ATTEMPTS);
    let_pass(OUTAGE_MS / 2);
    atomic_store(&service.is_down, false);
    check_all_applied(rig, consumer);
    rig_stop(consumer);
}

static void the_database_is_away_for_longer_than_all_attempts(void **state)
{
    struct rig *rig = *state;
    struct service service = {.is_down = false};
    struct cut_proxy *proxy = cut_proxy_create("127.0.0.1", rig->test_db.opts.port);
    struct obx_consumer *consumer = NULL;
    struct obx_err why = {0};

    assert_non_null(proxy);
    rig->opts.db_port = cut_proxy_port(proxy);
    rig->opts.db_host = "127.0.0.1";
    rig->opts.workers = 2;
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES / 2, KEYS);
    consumer = rig_start(rig, call_service, &service);
    RIG_WAIT_STAT(consumer, applied, 1);
    cut_proxy_set_server_port(proxy, 1); /* nobody listens there */
    cut_proxy_cut_all(proxy);
    rig_fill(rig, "n", MESSAGES / 2, KEYS);
    let_pass(OUTAGE_MS);
    assert_int_equal(rig_stats(consumer).databases_up, 0);
    obx_consumer_get_last_errors(consumer, NULL, &why);
    assert_int_not_equal(why.code, OBX_OK);
    cut_proxy_set_server_port(proxy, rig->test_db.opts.port);
    check_all_applied(rig, consumer);
    assert_int_equal(rig_stats(consumer).retried, 0);
    rig_stop(consumer);
    cut_proxy_destroy(proxy);
}

static void poison_among_good_ones_is_no_outage(void **state)
{
    struct rig *rig = *state;
    struct service service = {.is_down = false};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "a", MESSAGES / 2, KEYS);
    rig_put(rig, "poison", NULL, "poison");
    rig_fill(rig, "b", MESSAGES / 2, KEYS);
    consumer = rig_start(rig, call_service, &service);
    RIG_WAIT_STAT(consumer, applied, MESSAGES);
    RIG_WAIT_STAT(consumer, dead, 1);
    assert_int_equal(rig_stats(consumer).outages, 0);
    assert_int_equal(rig_stats(consumer).retried, ATTEMPTS - 1);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_service_that_is_down_kills_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(it_may_go_down_at_any_time, setup, teardown),
        cmocka_unit_test_setup_teardown(the_database_is_away_for_longer_than_all_attempts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(poison_among_good_ones_is_no_outage, setup, teardown),
    };

    return cmocka_run_group_tests_name("consumer_outage", tests, NULL, NULL);
}
