/*
 * Unit test of whose fault a refusal was: exchanges are probed and not stormed, a culprit that
 * nobody names is found alone, and the others go on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "lane/publish/faults.h"

enum { WINDOW = 100, MIN_MS = 10, CAP_MS = 1000 };

static int setup(void **state)
{
    static struct faults faults;

    faults_init(&faults, WINDOW, MIN_MS, CAP_MS);
    *state = &faults;
    return 0;
}

static void an_exchange_at_fault_is_probed(void **state)
{
    struct faults *faults = *state;
    struct obx_bytes x = bytes_of("x");
    const char *why = NULL;
    uint64_t now = 1000;

    assert_int_equal(faults_ask(faults, x, now, &why), FAULT_NONE);
    for (int fails = 1; fails < 12; fails++) {
        faults_exchange_failed(faults, x, now, "404 NOT_FOUND");
        assert_int_equal(faults_ask(faults, x, now, &why), FAULT_REFUSE);
        assert_string_equal(why, "404 NOT_FOUND");
        assert_int_equal(faults_ask(faults, bytes_of("y"), now, &why), FAULT_NONE);
        now += CAP_MS;
        assert_int_equal(faults_ask(faults, x, now, &why), FAULT_PROBE);
        faults_probe_sent(faults, x, 77);
        assert_int_equal(faults_ask(faults, x, now, &why), FAULT_REFUSE); /* one at a time */
    }
    faults_probe_ended(faults, 76); /* another message's */
    assert_int_equal(faults_ask(faults, x, now, &why), FAULT_REFUSE);
    faults_probe_ended(faults, 77);
    assert_int_equal(faults_ask(faults, x, now, &why), FAULT_PROBE);
    faults_answered(faults, x);
    assert_int_equal(faults_ask(faults, x, now, &why), FAULT_NONE);
}

/* A probe of an exchange and of a topic at once: the answer is about one of them, and the other one
 * may be probed again. */
static void a_probe_ends_for_both(void **state)
{
    struct faults *faults = *state;
    const char *why = NULL;
    uint64_t now = 1000;

    faults_exchange_failed(faults, bytes_of("x"), now, "404");
    faults_exchange_failed(faults, bytes_of("topic"), now, "403");
    now += CAP_MS;
    faults_probe_sent(faults, bytes_of("x"), 5);
    faults_probe_sent(faults, bytes_of("topic"), 5);
    faults_probe_ended(faults, 5);
    faults_exchange_failed(faults, bytes_of("topic"), now, "403");
    assert_int_equal(faults_ask(faults, bytes_of("topic"), now, &why), FAULT_REFUSE);
    assert_int_equal(faults_ask(faults, bytes_of("x"), now, &why), FAULT_PROBE);
}

/* Many messages of the exchange go down with one channel: that is one failure, not many. */
static void one_closing_counts_once(void **state)
{
    struct faults *faults = *state;

    for (int i = 0; i < 500; i++)
        faults_exchange_failed(faults, bytes_of("x"), 1000, "404");
    assert_int_equal(faults->exchanges[0].fails, 1);
}

static void more_exchanges_than_places(void **state)
{
    struct faults *faults = *state;
    const char *why = NULL;
    char name[16];
    int known = 0;

    faults_exchange_failed(faults, bytes_of("worst"), 1000, "404");
    faults_exchange_failed(faults, bytes_of("worst"), 5000, "404");
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "x%d", i);
        faults_exchange_failed(faults, bytes_of(name), 6000, "404");
    }
    assert_int_equal(faults_ask(faults, bytes_of("worst"), 5000, &why), FAULT_REFUSE);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "x%d", i);
        known += faults_ask(faults, bytes_of(name), 6000, &why) != FAULT_NONE;
    }
    assert_int_equal(known, FAULTS_MAX - 1);
}

static void returns_are_told_apart(void **state)
{
    (void)state;
    assert_false(faults_is_of_exchange(PUB_RETURNED, "312 NO_ROUTE: no queue"));
    assert_true(faults_is_of_exchange(PUB_RETURNED, "404 NOT_FOUND - no exchange 'x'"));
    assert_false(faults_is_of_exchange(PUB_RETURNED, NULL));
    assert_false(faults_is_of_exchange(PUB_UNKNOWN, "404"));
}

static void objections_are_told_from_losses(void **state)
{
    struct obx_err err = {.code = OBX_E_MQ_GONE};

    (void)state;
    for (int sys = 0; sys < 200; sys++) { /* errno of the operating system */
        err.sys = sys;
        assert_false(faults_is_objection(&err));
    }
    err.sys = 320; /* CONNECTION_FORCED: the broker shuts down */
    assert_false(faults_is_objection(&err));
    err.sys = 406;
    assert_true(faults_is_objection(&err));
    err.sys = 541;
    assert_true(faults_is_objection(&err));
}

static void the_culprit_is_found_alone(void **state)
{
    struct faults *faults = *state;
    uint64_t published = 50;

    /* 50 went down together: nobody is accused. */
    for (size_t inflight = 50; inflight > 0; inflight--)
        assert_false(faults_isolate(faults, published, inflight));
    assert_int_equal(faults->limit, 1);
    /* An innocent one alone gets through; then two may go, one of them is the culprit. */
    faults_answered(faults, bytes_of("x"));
    assert_int_equal(faults->limit, 2);
    published += 3;
    assert_false(faults_isolate(faults, published, 2));
    assert_false(faults_isolate(faults, published, 1));
    published++;
    assert_true(faults_isolate(faults, published, 1));
    for (int i = 0; i < 10; i++)
        faults_answered(faults, bytes_of("x"));
    assert_int_equal(faults->limit, WINDOW);
}

static void learns_the_brokers_limit(void **state)
{
    struct faults *faults = *state;

    assert_false(faults_learn_size(faults, NULL));
    assert_false(faults_learn_size(faults, "basic.nack"));
    assert_true(faults_learn_size(
        faults, "406 PRECONDITION_FAILED - message size 20 is larger than configured max size 16"));
    assert_int_equal(faults->broker_max_body, 16);
    faults_connected(faults);
    assert_int_equal(faults->broker_max_body, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_exchange_at_fault_is_probed, setup),
        cmocka_unit_test_setup(a_probe_ends_for_both, setup),
        cmocka_unit_test_setup(one_closing_counts_once, setup),
        cmocka_unit_test_setup(more_exchanges_than_places, setup),
        cmocka_unit_test_setup(returns_are_told_apart, setup),
        cmocka_unit_test_setup(objections_are_told_from_losses, setup),
        cmocka_unit_test_setup(the_culprit_is_found_alone, setup),
        cmocka_unit_test_setup(learns_the_brokers_limit, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
