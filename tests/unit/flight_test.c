/*
 * Unit test of the flight table: each rule by itself, and all invariants of flight.h after each of
 * many random steps. P4, P9.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "lane/flight/flight.h"

enum { IDS = 400, KEYS = 6, STEPS = 3000, ROUNDS = 60 };

static const char *const keys[KEYS] = {"a", "b", "c", "d", "e", "f"};
static const char *const topics[] = {"t0", "t1", "t2"};

/* The table under test. */
struct bench {
    struct flight *flight;
    struct flight_opts opts;
};

static struct bench bench;

/* As the reader does it; how many there were. */
static size_t take_evicted(void)
{
    struct flight_row *row = NULL;
    size_t count = 0;

    for (; (row = flight_first_evicted(bench.flight)) != NULL; count++) {
        assert_null(flight_find(bench.flight, row->id));
        assert_true(row->key == NULL || flight_key_name(row).len > 0);
        flight_drop_evicted(bench.flight, row);
    }
    return count;
}

static void open_bench(const struct flight_opts *opts)
{
    bench.opts = *opts;
    assert_int_equal(flight_create(&bench.opts, &bench.flight, NULL), OBX_OK);
}

static int setup(void **state)
{
    const struct flight_opts opts = {.key_window = 1,
                                     .max_ready = 10,
                                     .max_waiting = 40,
                                     .max_key_waiting = 20,
                                     .max_retrying = 8,
                                     .max_topic_retrying = 4,
                                     .max_to_park = 5,
                                     .max_empty_keys = 4,
                                     .max_bytes = 1 << 20};

    (void)state;
    open_bench(&opts);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    flight_destroy(bench.flight);
    bench.flight = NULL;
    return 0;
}

static enum flight_answer admit_row(uint64_t id, const char *key, const char *topic,
                                    uint64_t blocked_by)
{
    const struct outbox_row src = {.id = id,
                                   .is_full = true,
                                   .blocked_by = blocked_by,
                                   .topic = bytes_of(topic),
                                   .key = bytes_of(key),
                                   .payload = bytes_of("body"),
                                   .payload_len = 4};
    struct outbox_row *row = outbox_row_copy(&src);
    enum flight_answer answer;

    assert_non_null(row);
    answer = flight_admit_take(bench.flight, row);
    if (answer != FLIGHT_ADMITTED)
        obx_free(row);
    return answer;
}

static enum flight_answer admit(uint64_t id, const char *key)
{
    return admit_row(id, key, "t0", 0);
}

static struct flight_row *row_of(uint64_t id)
{
    struct flight_row *row = flight_find(bench.flight, id);

    assert_non_null(row);
    return row;
}

static void send(uint64_t id)
{
    flight_sent(bench.flight, row_of(id));
}

#define ASSERT_STATE(id, wanted)                                                                   \
    assert_string_equal(flight_state_name((enum flight_state)row_of(id)->state),                   \
                        flight_state_name(wanted))

/* ---- order within a key ---- */

static void one_at_a_time_in_id_order(void **state)
{
    uint64_t ids[5];

    (void)state;
    assert_int_equal(admit(3, "a"), FLIGHT_ADMITTED);
    assert_int_equal(admit(5, "a"), FLIGHT_ADMITTED);
    assert_int_equal(admit(4, "a"), FLIGHT_ADMITTED); /* late */
    assert_int_equal(admit(4, "a"), FLIGHT_KNOWN);
    assert_int_equal(admit(9, NULL), FLIGHT_ADMITTED);
    ASSERT_STATE(3, FLIGHT_READY);
    ASSERT_STATE(4, FLIGHT_WAITING);
    ASSERT_STATE(9, FLIGHT_READY);
    assert_int_equal(admit(1, "a"), FLIGHT_ADMITTED); /* late, and before one that is ready */
    ASSERT_STATE(1, FLIGHT_READY);
    ASSERT_STATE(3, FLIGHT_WAITING);
    send(1);
    flight_confirmed(bench.flight, row_of(1));
    ASSERT_STATE(3, FLIGHT_READY);
    send(3);
    assert_int_equal(admit(2, "a"), FLIGHT_ADMITTED); /* late, and one is in flight */
    ASSERT_STATE(2, FLIGHT_WAITING);
    flight_confirmed(bench.flight, row_of(3));
    ASSERT_STATE(2, FLIGHT_READY);
    ASSERT_STATE(4, FLIGHT_WAITING);
    flight_forget(bench.flight, row_of(1));
    assert_null(flight_find(bench.flight, 1));
    assert_int_equal(flight_list_ids(bench.flight, ids), 5);
    for (size_t i = 0; i < 5; i++)
        assert_non_null(flight_find(bench.flight, ids[i]));
}

static void a_refused_row_holds_its_key(void **state)
{
    (void)state;
    (void)admit(1, "a");
    (void)admit(2, "a");
    (void)admit(3, "b");
    send(1);
    assert_true(flight_retry(bench.flight, row_of(1), 100));
    ASSERT_STATE(2, FLIGHT_WAITING);
    ASSERT_STATE(3, FLIGHT_READY);
    assert_int_equal(flight_take_due(bench.flight, 99), 100);
    ASSERT_STATE(1, FLIGHT_RETRYING);
    assert_int_equal(flight_take_due(bench.flight, 100), UINT64_MAX);
    ASSERT_STATE(1, FLIGHT_READY);
    flight_give_up(bench.flight, row_of(1), OBX_E_MQ_UNROUTABLE, "why");
    ASSERT_STATE(2, FLIGHT_WAITING);
    flight_forget(bench.flight, row_of(1)); /* parked, and its policy is to skip it */
    ASSERT_STATE(2, FLIGHT_READY);
}

static void what_comes_back_goes_first_and_in_order(void **state)
{
    uint64_t order[6];
    size_t count = 0;

    (void)state;
    for (uint64_t id = 1; id <= 6; id++)
        (void)admit(id, NULL);
    for (uint64_t id = 1; id <= 4; id++)
        send(id);
    for (uint64_t id = 1; id <= 4; id++)
        flight_unsent(bench.flight, row_of(id));
    send(1); /* a second connection, which is lost too */
    send(2);
    flight_unsent(bench.flight, row_of(1));
    flight_unsent(bench.flight, row_of(2));
    for (struct flight_row *row = flight_first(bench.flight, FLIGHT_READY); row != NULL;
         row = flight_next(row))
        order[count++] = row->id;
    assert_int_equal(count, 6);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(order[i], i + 1);
}

/* ---- frozen keys ---- */

static void a_frozen_key_goes_behind_its_head(void **state)
{
    (void)state;
    (void)admit(1, "a");
    (void)admit(2, "a");
    (void)admit(3, "a");
    send(1);
    flight_give_up(bench.flight, row_of(1), OBX_E_MQ_UNROUTABLE, "why");
    flight_freeze(bench.flight, row_of(1));
    assert_true(flight_holds_key(row_of(1)));
    ASSERT_STATE(2, FLIGHT_TO_PARK);
    assert_int_equal(row_of(2)->blocked_by, 1);
    (void)admit(4, "a");
    assert_int_equal(row_of(4)->blocked_by, 1);
    /* It cannot be parked: what was behind it waits for it again. */
    assert_true(flight_retry(bench.flight, row_of(1), 50));
    ASSERT_STATE(2, FLIGHT_WAITING);
    assert_int_equal(row_of(2)->blocked_by, 0);
    (void)flight_take_due(bench.flight, 50);
    ASSERT_STATE(1, FLIGHT_READY);
    assert_false(flight_holds_key(row_of(1)));
}

static void a_resumed_head_takes_no_followers_with_it(void **state)
{
    (void)state;
    assert_int_equal(admit_row(5, "a", "t0", 1), FLIGHT_ADMITTED);
    assert_int_equal(admit_row(6, "a", "t0", 1), FLIGHT_ADMITTED);
    assert_int_equal(admit_row(7, "b", "t0", 2), FLIGHT_ADMITTED);
    ASSERT_STATE(5, FLIGHT_TO_PARK);
    flight_evict_followers(bench.flight, bytes_of("a"), 1);
    assert_null(flight_find(bench.flight, 5));
    assert_null(flight_find(bench.flight, 6));
    ASSERT_STATE(7, FLIGHT_TO_PARK);
    assert_int_equal(take_evicted(), 2);
    flight_evict_followers(bench.flight, bytes_of("none"), 1);
    flight_evict_followers(bench.flight, (struct obx_bytes){.p = NULL, .len = 0}, 1);
}

/* ---- bounds ---- */

static void followers_are_bounded(void **state)
{
    uint64_t id = 1;
    size_t hot = 0;

    (void)state;
    while (id < 200) {
        enum flight_answer answer = admit(id++, "hot");

        if (answer != FLIGHT_ADMITTED)
            break;
        hot++;
    }
    assert_in_range(hot, 8, bench.opts.max_key_waiting + 1);
    assert_false(flight_wants_rescan(bench.flight)); /* there is no room for it yet */
    assert_int_equal(admit(300, "other"), FLIGHT_ADMITTED);
    while (flight_count(bench.flight, FLIGHT_WAITING) > hot / 2 - 1) {
        struct flight_row *row = flight_first(bench.flight, FLIGHT_READY);

        flight_sent(bench.flight, row);
        flight_confirmed(bench.flight, row);
    }
    assert_true(flight_wants_rescan(bench.flight));
    flight_rescan_complete(bench.flight, flight_rescan_begin(bench.flight));
    assert_false(flight_wants_rescan(bench.flight)); /* the rescan found nothing more of it */
}

static void ready_rows_are_bounded(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= bench.opts.max_ready; id++)
        assert_int_equal(admit(id, NULL), FLIGHT_ADMITTED);
    assert_int_equal(flight_room(bench.flight), 0);
    assert_int_equal(admit(100, NULL), FLIGHT_NO_ROOM);
    assert_true(flight_wants_rescan(bench.flight));
    (void)flight_rescan_begin(bench.flight);
    assert_false(flight_wants_rescan(bench.flight));
}

static void rows_to_park_are_bounded(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= bench.opts.max_to_park; id++)
        assert_int_equal(admit_row(id, "a", "t0", 900), FLIGHT_ADMITTED);
    assert_int_equal(admit_row(50, "a", "t0", 900), FLIGHT_NO_ROOM);
    assert_false(flight_wants_rescan(bench.flight));
    assert_false(flight_is_back_pressured(bench.flight));
    for (uint64_t id = 1; id <= bench.opts.max_to_park; id++)
        flight_forget(bench.flight, row_of(id));
    assert_true(flight_wants_rescan(bench.flight));
}

/* A topic that is refused again and again stops to be admitted; the first of it that gets through
 * sets two more free. */
static void a_refusing_topic_is_held_back(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= bench.opts.max_topic_retrying; id++) {
        assert_int_equal(admit(id, NULL), FLIGHT_ADMITTED);
        send(id);
        assert_true(flight_retry(bench.flight, row_of(id), 1000 + id));
    }
    assert_int_equal(admit(50, NULL), FLIGHT_NO_ROOM);
    assert_int_equal(admit_row(51, NULL, "t1", 0), FLIGHT_ADMITTED);
    (void)flight_take_due(bench.flight, 1001);
    send(1);
    flight_confirmed(bench.flight, row_of(1));
    ASSERT_STATE(2, FLIGHT_READY);
    ASSERT_STATE(3, FLIGHT_READY);
    ASSERT_STATE(4, FLIGHT_RETRYING);
    assert_int_equal(admit(50, NULL), FLIGHT_ADMITTED);
    assert_int_equal(admit(52, NULL), FLIGHT_NO_ROOM);
    send(2);
    flight_confirmed(bench.flight, row_of(2));
    ASSERT_STATE(4, FLIGHT_READY);
    /* A confirm when none is refused: it is well, and takes as many as any other. */
    send(3);
    flight_confirmed(bench.flight, row_of(3));
    assert_true(flight_wants_rescan(bench.flight));
    for (uint64_t id = 60; id < 60 + bench.opts.max_topic_retrying; id++)
        assert_int_equal(admit(id, NULL), FLIGHT_ADMITTED);
}

/* Refused rows that are on their way again still count: a topic does not grow by being retried. */
static void a_retried_row_counts_in_its_topic(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= bench.opts.max_topic_retrying; id++) {
        (void)admit(id, NULL);
        send(id);
        (void)flight_retry(bench.flight, row_of(id), 10);
    }
    (void)flight_take_due(bench.flight, 10);
    assert_int_equal(flight_count(bench.flight, FLIGHT_RETRYING), 0);
    assert_int_equal(admit(50, NULL), FLIGHT_NO_ROOM);
    send(1);
    assert_int_equal(admit(50, NULL), FLIGHT_NO_ROOM);
    (void)flight_retry(bench.flight, row_of(1), 20);
    assert_int_equal(admit(50, NULL), FLIGHT_NO_ROOM);
}

/* No room for a refused row: it and what waits for it are dropped, and it is not let in again
 * before there is room. */
static void refused_rows_are_bounded(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= bench.opts.max_retrying; id++) {
        assert_int_equal(admit_row(id, NULL, id % 2 == 0 ? "t1" : "t2", 0), FLIGHT_ADMITTED);
        send(id);
        assert_true(flight_retry(bench.flight, row_of(id), 1000));
    }
    (void)admit(20, "a");
    (void)admit(21, "a");
    send(20);
    assert_false(flight_retry(bench.flight, row_of(20), 1000));
    assert_int_equal(take_evicted(), 2);
    assert_null(flight_find(bench.flight, 20));
    assert_null(flight_find(bench.flight, 21));
    assert_int_equal(admit(20, "a"), FLIGHT_NO_ROOM);
    for (uint64_t id = 1; id <= 4; id++) {
        flight_give_up(bench.flight, row_of(id), OBX_E_MQ_UNROUTABLE, NULL);
        flight_forget(bench.flight, row_of(id));
    }
    assert_true(flight_wants_rescan(bench.flight));
    assert_int_equal(admit(20, "a"), FLIGHT_ADMITTED);
}

static void data_is_bounded_and_attached_again(void **state)
{
    const struct outbox_row src = {.id = 2,
                                   .is_full = true,
                                   .topic = bytes_of("t0"),
                                   .payload = bytes_of("body"),
                                   .payload_len = 4};

    (void)state;
    bench.opts.max_bytes = 1;
    flight_destroy(bench.flight);
    open_bench(&bench.opts);
    (void)admit(1, "a");
    (void)admit(2, "a");
    assert_non_null(row_of(1)->data); /* it goes out now */
    assert_null(row_of(2)->data);     /* it waits */
    send(1);
    assert_int_equal(flight_bytes(bench.flight), 0);
    flight_confirmed(bench.flight, row_of(1));
    flight_attach_take(bench.flight, row_of(2), outbox_row_copy(&src));
    assert_true(flight_bytes(bench.flight) > 0);
    flight_clear(bench.flight);
    assert_int_equal(flight_bytes(bench.flight), 0);
    assert_int_equal(flight_total(bench.flight), 0);
}

static void a_token_is_never_used_twice(void **state)
{
    uint64_t token = 0;

    (void)state;
    (void)admit(1, NULL);
    token = row_of(1)->token;
    assert_ptr_equal(flight_by_token(bench.flight, token), row_of(1));
    flight_clear(bench.flight);
    assert_null(flight_by_token(bench.flight, token));
    (void)admit(1, NULL);
    assert_null(flight_by_token(bench.flight, token));
    assert_null(flight_by_token(bench.flight, UINT64_MAX));
}

/* ---- any steps ---- */

static uint64_t random_state;

static uint64_t below(uint64_t n)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (random_state >> 33) % n;
}

/* Of each key: at most key_window active, the lowest ones, and nothing ready behind one that is
 * refused or to be parked. */
static void check_key(const char *key)
{
    unsigned active = 0;
    unsigned waits = 0;
    bool is_held = false;

    for (uint64_t id = 1; id <= IDS; id++) {
        const struct flight_row *row = flight_find(bench.flight, id);

        if (row == NULL || !bytes_equal(flight_key_name(row), bytes_of(key)))
            continue;
        active += row->state == FLIGHT_READY || row->state == FLIGHT_INFLIGHT;
        if (row->state == FLIGHT_READY)
            assert_true(!is_held && waits == 0);
        waits += row->state == FLIGHT_WAITING;
        is_held = is_held || row->state == FLIGHT_RETRYING || row->state == FLIGHT_TO_PARK;
    }
    assert_true(active <= bench.opts.key_window);
    if (active < bench.opts.key_window && !is_held)
        assert_int_equal(waits, 0); /* nobody waits for nothing */
}

static void check_counts(void)
{
    size_t counts[FLIGHT_STATES] = {0};
    size_t total = 0;
    size_t bytes = 0;

    for (uint64_t id = 1; id <= IDS; id++) {
        const struct flight_row *row = flight_find(bench.flight, id);

        if (row == NULL)
            continue;
        counts[row->state]++;
        total++;
        bytes += row->data == NULL ? 0 : row->data->size;
        assert_ptr_equal(flight_by_token(bench.flight, row->token), row);
    }
    assert_int_equal(flight_total(bench.flight), total);
    assert_int_equal(flight_bytes(bench.flight), bytes);
    for (int i = 0; i < FLIGHT_STATES; i++)
        assert_int_equal(flight_count(bench.flight, (enum flight_state)i), counts[i]);
    /* What was frozen may come back to wait, beside those that came meanwhile. */
    assert_in_range(counts[FLIGHT_WAITING] + counts[FLIGHT_TO_PARK], 0, 3 * bench.opts.max_waiting);
    assert_in_range(counts[FLIGHT_RETRYING], 0, bench.opts.max_retrying);
}

static struct flight_row *any_of(enum flight_state state)
{
    struct flight_row *row = flight_first(bench.flight, state);

    for (uint64_t n = below(4); n > 0 && row != NULL && flight_next(row) != NULL; n--)
        row = flight_next(row);
    return row;
}

static void answer_one(uint64_t now)
{
    struct flight_row *row = any_of(FLIGHT_INFLIGHT);

    if (row == NULL)
        return;
    switch (below(4)) {
    case 0:
        (void)flight_retry(bench.flight, row, now + below(50));
        break;
    case 1:
        flight_give_up(bench.flight, row, OBX_E_MQ_UNROUTABLE, "why");
        if (below(2) == 0)
            flight_freeze(bench.flight, row);
        break;
    default:
        flight_confirmed(bench.flight, row);
    }
}

static void lose_connection(void)
{
    while (flight_first(bench.flight, FLIGHT_INFLIGHT) != NULL)
        flight_unsent(bench.flight, flight_first(bench.flight, FLIGHT_INFLIGHT));
}

static void end_one(uint64_t now)
{
    struct flight_row *row = any_of(below(2) == 0 ? FLIGHT_CONFIRMED : FLIGHT_TO_PARK);

    if (row == NULL)
        return;
    if (row->state == FLIGHT_TO_PARK && row->blocked_by == 0 && below(8) == 0)
        (void)flight_retry(bench.flight, row, now + 20);
    else if (row->state == FLIGHT_CONFIRMED || row->blocked_by == 0 ||
             flight_find(bench.flight, row->blocked_by) == NULL)
        flight_forget(bench.flight, row);
}

static void step(uint64_t now)
{
    uint64_t id = 1 + below(IDS);

    switch (below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (!flight_is_back_pressured(bench.flight)) /* as the reader does */
            (void)admit_row(id, keys[id % KEYS], topics[id % 3], 0);
        break;
    case 4:
    case 5:
        if (flight_first(bench.flight, FLIGHT_READY) != NULL)
            flight_sent(bench.flight, flight_first(bench.flight, FLIGHT_READY));
        break;
    case 6:
    case 7:
        answer_one(now);
        break;
    case 8:
        (void)flight_take_due(bench.flight, now);
        break;
    case 9:
        if (below(10) == 0)
            lose_connection();
        break;
    default:
        end_one(now);
    }
}

static void every_step_keeps_the_invariants(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        random_state = round;
        flight_destroy(bench.flight);
        bench.opts.max_bytes = below(2) == 0 ? 500 : 1 << 20;
        open_bench(&bench.opts);
        for (uint64_t now = 0; now < STEPS; now++) {
            step(now);
            if (below(3) == 0)
                (void)take_evicted();
            if (now % 16 == 0) {
                check_counts();
                for (int i = 0; i < KEYS; i++)
                    check_key(keys[i]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_at_a_time_in_id_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_row_holds_its_key, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_back_goes_first_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frozen_key_goes_behind_its_head, setup, teardown),
        cmocka_unit_test_setup_teardown(a_resumed_head_takes_no_followers_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(followers_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(ready_rows_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_to_park_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusing_topic_is_held_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_retried_row_counts_in_its_topic, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_rows_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(data_is_bounded_and_attached_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_is_never_used_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(every_step_keeps_the_invariants, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
