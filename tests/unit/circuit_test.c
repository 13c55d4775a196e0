/*
 * The consumer's kill switch by itself: what opens it and what does not, how its pauses grow, what
 * closes it. See docs/adr/0031-consumer-circuit.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/circuit.h"

enum {
    MESSAGES = 10,
    CAP_MS = 30000,
    START_MS = 1000000,
    HOUR_MS = 3600 * 1000,
    SLOW_MS = HOUR_MS / 20,
    BATCH = 200
};

static struct circuit fresh(void)
{
    struct circuit circuit;

    circuit_init(&circuit, MESSAGES, CAP_MS);
    return circuit;
}

/* Attempts at different messages from the number on. */
static void fail_some(struct circuit *circuit, uint64_t from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        circuit_retry(circuit, from + i, false, START_MS);
}

static void succeed(struct circuit *circuit, uint64_t from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        circuit_good(circuit, from + i);
}

static void open_it(struct circuit *circuit, uint64_t now_ms)
{
    fail_some(circuit, 1, MESSAGES);
    assert_int_equal(circuit_judge(circuit, true, now_ms), CIRCUIT_BEGUN);
    assert_false(circuit_admits(circuit, now_ms));
}

/* Until its pause has ended; returns when. */
static uint64_t probe(struct circuit *circuit)
{
    const uint64_t now_ms = circuit->due_ms;

    assert_false(circuit_admits(circuit, now_ms - 1));
    assert_true(circuit_admits(circuit, now_ms));
    assert_int_equal(circuit->state, CIRCUIT_PROBING);
    return now_ms;
}

static void it_opens_when_many_fail(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    fail_some(&circuit, 1, MESSAGES - 1);
    assert_int_equal(circuit_judge(&circuit, true, START_MS), CIRCUIT_NOTHING);
    assert_true(circuit_admits(&circuit, START_MS));
    fail_some(&circuit, MESSAGES, 1);
    assert_int_equal(circuit_judge(&circuit, true, START_MS), CIRCUIT_BEGUN);
    assert_false(circuit_admits(&circuit, START_MS));
}

static void few_messages_never_open_it(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        circuit_retry(&circuit, 1 + i % (MESSAGES - 1), false, START_MS + i);
        assert_int_equal(circuit_judge(&circuit, true, START_MS + i), CIRCUIT_NOTHING);
    }
}

/* One in three fails, all of them others. */
static void not_while_most_succeed(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        fail_some(&circuit, 1 + 1000 * i, 10);
        succeed(&circuit, 500 + 1000 * i, 20);
        assert_int_equal(circuit_judge(&circuit, true, START_MS + 100 * i), CIRCUIT_NOTHING);
    }
}

static void a_busy_queue_sees_it_at_once(void **state)
{
    struct circuit circuit = fresh();
    uint64_t now_ms = START_MS;
    unsigned batches = 0;

    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        succeed(&circuit, 1 + BATCH * i, BATCH);
        assert_int_equal(circuit_judge(&circuit, true, ++now_ms), CIRCUIT_NOTHING);
    }
    do {
        fail_some(&circuit, 1000000 + BATCH * batches++, BATCH);
    } while (circuit_judge(&circuit, true, ++now_ms) == CIRCUIT_NOTHING);
    assert_in_range(batches, 1, 2);
}

static void a_slow_queue_sees_it_too(void **state)
{
    struct circuit circuit = fresh();
    enum circuit_event event = CIRCUIT_NOTHING;
    unsigned failed = 0;

    (void)state;
    succeed(&circuit, 1000, 3);
    (void)circuit_judge(&circuit, true, START_MS);
    while (event == CIRCUIT_NOTHING) {
        const uint64_t now_ms = START_MS + (uint64_t)failed * SLOW_MS;

        circuit_retry(&circuit, ++failed, false, now_ms);
        event = circuit_judge(&circuit, true, now_ms);
    }
    assert_in_range(failed, MESSAGES, MESSAGES + 2);
}

/* A batch that is undone counts once; for no message in particular, each time. */
static void batches_that_are_undone(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    for (int i = 1; i < MESSAGES; i++) {
        circuit_undone(&circuit, 0, START_MS);
        assert_int_equal(circuit_judge(&circuit, false, START_MS), CIRCUIT_NOTHING);
    }
    circuit_undone(&circuit, 0, START_MS);
    assert_int_equal(circuit_judge(&circuit, false, START_MS), CIRCUIT_BEGUN);
    (void)probe(&circuit);
    /* A COMMIT without a handler: the database is back. */
    assert_int_equal(circuit_judge(&circuit, true, START_MS), CIRCUIT_ENDED);
}

static void pauses_grow_and_have_a_limit(void **state)
{
    struct circuit circuit = fresh();
    uint64_t longest = 0;

    (void)state;
    open_it(&circuit, START_MS);
    assert_in_range(circuit.pause_ms, 1000, 2000);
    for (int i = 0; i < 50; i++) {
        const uint64_t now_ms = probe(&circuit);

        fail_some(&circuit, 1, 1); /* known by now: it says that the outage lasts all the same */
        assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_LASTS);
        assert_in_range(circuit.pause_ms, 1000, CAP_MS);
        longest = circuit.pause_ms > longest ? circuit.pause_ms : longest;
    }
    assert_in_range(longest, 10000, CAP_MS);
}

/* What was learned of no handler says nothing of their service. */
static void a_probe_that_tried_nothing_goes_on(void **state)
{
    struct circuit circuit = fresh();
    uint64_t now_ms = 0;

    (void)state;
    open_it(&circuit, START_MS);
    now_ms = probe(&circuit);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_NOTHING);
    assert_true(circuit_admits(&circuit, now_ms)); /* and no time is lost */
    succeed(&circuit, 3, 1);
    fail_some(&circuit, 4, 7);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_ENDED);
    assert_true(circuit_admits(&circuit, now_ms));
}

/* The same ones: it was closed too early, and pauses longer. */
static void what_fails_on_opens_it_again(void **state)
{
    struct circuit circuit = fresh();
    uint64_t now_ms = 0;

    (void)state;
    open_it(&circuit, START_MS);
    now_ms = probe(&circuit);
    succeed(&circuit, 100, 1);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_ENDED);
    fail_some(&circuit, 1, MESSAGES - 1);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_NOTHING);
    fail_some(&circuit, 1, 1);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_BEGUN);
    assert_int_equal(circuit.pause.tries, 2);
}

/* They fail no more, or were applied elsewhere: one poison message is alone again. */
static void those_that_died_or_failed_long_ago_do_not_count(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    for (uint64_t i = 1; i < MESSAGES; i++) {
        circuit_retry(&circuit, i, true, START_MS);
        circuit_retry(&circuit, 100 + i, false, START_MS);
        succeed(&circuit, 1000, 3);
        assert_int_equal(circuit_judge(&circuit, true, START_MS), CIRCUIT_NOTHING);
    }
    for (uint64_t i = 0; i < 100; i++) {
        circuit_retry(&circuit, 1000, false, START_MS + HOUR_MS + i);
        assert_int_equal(circuit_judge(&circuit, true, START_MS + HOUR_MS + i), CIRCUIT_NOTHING);
    }
}

static void a_later_outage_begins_from_the_start(void **state)
{
    struct circuit circuit = fresh();
    uint64_t now_ms = 0;

    (void)state;
    open_it(&circuit, START_MS);
    now_ms = probe(&circuit);
    succeed(&circuit, 1, MESSAGES); /* all of them are applied, and may fail another time */
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_ENDED);
    now_ms += HOUR_MS / 2;
    open_it(&circuit, now_ms);
    assert_int_equal(circuit.pause.tries, 1);
}

static void nothing_left_ends_it(void **state)
{
    struct circuit circuit = fresh();

    (void)state;
    assert_false(circuit_has_nothing_left(&circuit, START_MS));
    open_it(&circuit, START_MS);
    assert_false(circuit_has_nothing_left(&circuit, START_MS));
    assert_true(circuit_has_nothing_left(&circuit, probe(&circuit)));
    assert_int_equal(circuit.state, CIRCUIT_CLOSED);
}

static void an_undone_probe_makes_no_other_outage_of_it(void **state)
{
    struct circuit circuit = fresh();
    uint64_t now_ms = 0;

    (void)state;
    open_it(&circuit, START_MS);
    now_ms = probe(&circuit);
    circuit_undone(&circuit, 0, now_ms);
    assert_int_equal(circuit_judge(&circuit, false, now_ms), CIRCUIT_LASTS);
    now_ms = probe(&circuit);
    assert_int_equal(circuit_judge(&circuit, true, now_ms), CIRCUIT_NOTHING);
    assert_int_equal(circuit.state, CIRCUIT_PROBING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_when_many_fail),
        cmocka_unit_test(few_messages_never_open_it),
        cmocka_unit_test(not_while_most_succeed),
        cmocka_unit_test(a_busy_queue_sees_it_at_once),
        cmocka_unit_test(a_slow_queue_sees_it_too),
        cmocka_unit_test(batches_that_are_undone),
        cmocka_unit_test(pauses_grow_and_have_a_limit),
        cmocka_unit_test(a_probe_that_tried_nothing_goes_on),
        cmocka_unit_test(what_fails_on_opens_it_again),
        cmocka_unit_test(those_that_died_or_failed_long_ago_do_not_count),
        cmocka_unit_test(a_later_outage_begins_from_the_start),
        cmocka_unit_test(nothing_left_ends_it),
        cmocka_unit_test(an_undone_probe_makes_no_other_outage_of_it),
    };

    return cmocka_run_group_tests_name("circuit", tests, NULL, NULL);
}
