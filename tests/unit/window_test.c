/*
 * Unit tests of broker-bridge/src/window: tags, returns, multiple and out-of-order confirms, and
 * what is told at a loss.
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
#include "window.h"

enum { SEEN_MAX = 4096, NO_ROUTE = 312, NOT_FOUND = 404 };

struct seen {
    uint64_t tokens[SEEN_MAX];
    enum pub_outcome outcomes[SEEN_MAX];
    char why[64];
    size_t count;
    struct window *refill; /* push one more from inside the callback */
};

static void push(struct window *window, uint64_t token);

static void settled(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct seen *seen = ctx;

    assert_true(seen->count < SEEN_MAX);
    seen->tokens[seen->count] = token;
    seen->outcomes[seen->count] = outcome;
    seen->count++;
    (void)snprintf(seen->why, sizeof(seen->why), "%s", why != NULL ? why : "");
    if (seen->refill != NULL)
        push(seen->refill, token + 1000);
}

static struct window_entry entry_of(uint64_t token)
{
    return (struct window_entry){.token = token,
                                 .exchange_hash = token % 2,
                                 .route_hash = token % 3,
                                 .body_len = token,
                                 .now_ms = token * 10};
}

static void push(struct window *window, uint64_t token)
{
    const struct window_entry entry = entry_of(token);

    assert_int_equal(window_push(window, &entry), OBX_OK);
}

/* Tokens 1..count, which are their tags too. */
static void fill(struct window *window, uint32_t capacity, uint64_t count)
{
    assert_int_equal(window_init(window, capacity, NULL), OBX_OK);
    for (uint64_t token = 1; token <= count; token++)
        push(window, token);
}

static void expect(const struct seen *seen, size_t at, uint64_t token, enum pub_outcome outcome)
{
    assert_true(at < seen->count);
    assert_int_equal(seen->tokens[at], token);
    assert_int_equal(seen->outcomes[at], outcome);
}

static void refuses_a_capacity_of_none_or_too_many(void **state)
{
    struct window window;
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(window_init(&window, 0, &err), OBX_E_INVALID);
    assert_int_equal(window_init(&window, UINT32_MAX, &err), OBX_E_INVALID);
    window_fini(&window);
}

static void is_full_after_its_capacity_and_refills(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};
    const struct window_entry more = entry_of(9);

    (void)state;
    fill(&window, 3, 3);
    assert_int_equal(window_room(&window), 0);
    assert_int_equal(window_push(&window, &more), OBX_E_FULL);
    assert_int_equal(window_confirm(&window, 1, false, true, settled, &seen), 1);
    assert_int_equal(window_room(&window), 1);
    assert_int_equal(window_push(&window, &more), OBX_OK);
    assert_int_equal(window_confirm(&window, 4, false, true, settled, &seen), 1);
    expect(&seen, 1, 9, PUB_CONFIRMED);
    window_fini(&window);
}

static void a_single_ack_settles_one_and_only_once(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 5);
    assert_int_equal(window_confirm(&window, 3, false, true, settled, &seen), 1);
    assert_int_equal(window_confirm(&window, 3, false, true, settled, &seen), 0);
    assert_int_equal(window_confirm(&window, 99, false, true, settled, &seen), 0);
    assert_int_equal(window_confirm(&window, 0, false, true, settled, &seen), 0);
    assert_int_equal(seen.count, 1);
    expect(&seen, 0, 3, PUB_CONFIRMED);
    assert_int_equal(window.count, 4);
    window_fini(&window);
}

static void a_multiple_ack_settles_what_is_left_up_to_its_tag_in_order(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 6);
    assert_int_equal(window_confirm(&window, 2, false, false, settled, &seen), 1);
    assert_int_equal(window_confirm(&window, 4, true, true, settled, &seen), 3);
    assert_int_equal(seen.count, 4);
    expect(&seen, 0, 2, PUB_NACKED);
    expect(&seen, 1, 1, PUB_CONFIRMED);
    expect(&seen, 2, 3, PUB_CONFIRMED);
    expect(&seen, 3, 4, PUB_CONFIRMED);
    assert_int_equal(window_confirm(&window, 4, true, true, settled, &seen), 0);
    window_fini(&window);
}

static void a_multiple_ack_of_tag_0_settles_all(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 6);
    assert_int_equal(window_confirm(&window, 0, true, true, settled, &seen), 6);
    assert_int_equal(window.count, 0);
    window_fini(&window);
}

static void a_late_ack_holds_up_nobody(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 4, 4);
    /* Tag 1 stays open while a thousand others come and go through the other three slots. */
    for (uint64_t tag = 2; tag < 1000; tag++) {
        assert_int_equal(window_confirm(&window, tag, false, true, settled, &seen), 1);
        push(&window, tag + 3);
    }
    assert_int_equal(window_oldest_ms(&window), 10);
    assert_int_equal(window_confirm(&window, 1, false, true, settled, &seen), 1);
    expect(&seen, seen.count - 1, 1, PUB_CONFIRMED);
    assert_int_equal(window_oldest_ms(&window), 10000);
    window_fini(&window);
}

static void acks_in_reverse_order_find_their_messages(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 1000, 1000);
    for (uint64_t tag = 1000; tag > 0; tag--)
        assert_int_equal(window_confirm(&window, tag, false, true, settled, &seen), 1);
    for (size_t i = 0; i < 1000; i++)
        expect(&seen, i, 1000 - i, PUB_CONFIRMED);
    assert_int_equal(window_oldest_ms(&window), UINT64_MAX);
    window_fini(&window);
}

static void a_returned_message_is_reported_with_its_ack(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 5);
    assert_true(window_return(&window, 2, NO_ROUTE, NULL));
    assert_true(window_return(&window, 4, NO_ROUTE, NULL));
    assert_false(window_return(&window, 77, NO_ROUTE, NULL));
    assert_int_equal(seen.count, 0);
    assert_int_equal(window_confirm(&window, 5, true, true, settled, &seen), 5);
    expect(&seen, 0, 1, PUB_CONFIRMED);
    expect(&seen, 1, 2, PUB_RETURNED);
    expect(&seen, 2, 3, PUB_CONFIRMED);
    expect(&seen, 3, 4, PUB_RETURNED);
    expect(&seen, 4, 5, PUB_CONFIRMED);
    window_fini(&window);
}

static void the_reason_of_a_return_is_told(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 1);
    assert_true(window_return(&window, 1, NO_ROUTE, NULL));
    assert_int_equal(window_confirm(&window, 1, false, true, settled, &seen), 1);
    assert_non_null(strstr(seen.why, "NO_ROUTE"));
    push(&window, 2);
    assert_true(window_return(&window, 2, NO_ROUTE, "312: exchange 'x', key 'k'"));
    assert_int_equal(window_confirm(&window, 2, false, true, settled, &seen), 1);
    assert_non_null(strstr(seen.why, "key 'k'"));
    push(&window, 3); /* in the same place, with nothing left of the reason */
    assert_int_equal(window_confirm(&window, 3, false, true, settled, &seen), 1);
    assert_string_equal(seen.why, "");
    window_fini(&window);
}

/* A return names its message by the tag: not by what a producer chose, which may come twice. */
static void a_return_marks_its_own_message_and_no_earlier_one(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 4);
    assert_true(window_return(&window, 3, NO_ROUTE, NULL));
    assert_true(window_return(&window, 3, NO_ROUTE, NULL)); /* said twice */
    assert_int_equal(window_confirm(&window, 4, true, true, settled, &seen), 4);
    expect(&seen, 0, 1, PUB_CONFIRMED);
    expect(&seen, 1, 2, PUB_CONFIRMED);
    expect(&seen, 2, 3, PUB_RETURNED);
    expect(&seen, 3, 4, PUB_CONFIRMED);
    window_fini(&window);
}

static void a_return_of_what_is_not_in_flight_is_told(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 4);
    assert_false(window_return(&window, 0, NO_ROUTE, NULL));
    assert_false(window_return(&window, 5, NO_ROUTE, NULL));
    assert_false(window_return(&window, UINT64_MAX, NO_ROUTE, NULL));
    assert_int_equal(window_confirm(&window, 2, false, true, settled, &seen), 1);
    assert_false(window_return(&window, 2, NO_ROUTE, NULL));
    window_lose(&window, "gone", settled, &seen);
    for (size_t i = 1; i < seen.count; i++)
        assert_int_equal(seen.outcomes[i], PUB_UNKNOWN);
    window_fini(&window);
}

static void returns_out_of_publish_order_are_found_too(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 6);
    assert_true(window_return(&window, 5, NO_ROUTE, NULL));
    assert_true(window_return(&window, 2, NO_ROUTE, NULL));
    assert_true(window_return(&window, 6, NO_ROUTE, NULL));
    assert_int_equal(window_confirm(&window, 6, true, true, settled, &seen), 6);
    assert_false(window_return(&window, 1, NO_ROUTE, NULL));
    push(&window, 7);
    assert_true(window_return(&window, 7, NO_ROUTE, NULL));
    window_fini(&window);
}

static void a_loss_tells_all_in_publish_order_and_what_is_known(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 8);
    assert_int_equal(window_confirm(&window, 3, false, true, settled, &seen), 1);
    assert_true(window_return(&window, 6, NO_ROUTE, NULL));
    seen.count = 0;
    window_lose(&window, "cut", settled, &seen);
    assert_int_equal(seen.count, 7);
    expect(&seen, 0, 1, PUB_UNKNOWN);
    expect(&seen, 1, 2, PUB_UNKNOWN);
    expect(&seen, 2, 4, PUB_UNKNOWN);
    expect(&seen, 3, 5, PUB_UNKNOWN);
    expect(&seen, 4, 6, PUB_RETURNED);
    expect(&seen, 5, 7, PUB_UNKNOWN);
    expect(&seen, 6, 8, PUB_UNKNOWN);
    assert_string_equal(seen.why, "cut");
    window_fini(&window);
}

static void tags_start_again_after_a_loss(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 5);
    window_lose(&window, NULL, settled, &seen);
    assert_int_equal(window_confirm(&window, 1, false, true, settled, &seen), 0);
    push(&window, 50);
    assert_int_equal(window_confirm(&window, 1, false, true, settled, &seen), 1);
    expect(&seen, 5, 50, PUB_CONFIRMED);
    window_fini(&window);
}

static void a_missing_exchange_marks_its_own_messages_only(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 4); /* exchange_hash is token % 2 */
    assert_int_equal(window_return_exchange(&window, 1, NOT_FOUND), 2);
    window_lose(&window, "404", settled, &seen);
    expect(&seen, 0, 1, PUB_RETURNED);
    expect(&seen, 1, 2, PUB_UNKNOWN);
    expect(&seen, 2, 3, PUB_RETURNED);
    expect(&seen, 3, 4, PUB_UNKNOWN);
    window_fini(&window);
}

static void a_denied_route_marks_its_own_messages_only(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 4); /* route_hash is token % 3 */
    assert_int_equal(window_deny_route(&window, 1), 2);
    window_lose(&window, "403", settled, &seen);
    expect(&seen, 0, 1, PUB_DENIED);
    expect(&seen, 1, 2, PUB_UNKNOWN);
    expect(&seen, 2, 3, PUB_UNKNOWN);
    expect(&seen, 3, 4, PUB_DENIED);
    window_fini(&window);
}

static void exchange_and_routing_key_make_a_route_together(void **state)
{
    (void)state;
    assert_true(window_route_hash(bytes_of("a"), bytes_of("b")) !=
                window_route_hash(bytes_of("b"), bytes_of("a")));
    assert_true(window_route_hash(bytes_of("ab"), bytes_of("")) !=
                window_route_hash(bytes_of("a"), bytes_of("b")));
    assert_true(window_route_hash(bytes_of("a"), bytes_of("b")) ==
                window_route_hash(bytes_of("a"), bytes_of("b")));
}

static void a_refused_size_marks_one_message(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 4); /* body_len is the token */
    assert_true(window_refuse_size(&window, 3));
    assert_false(window_refuse_size(&window, 3));
    window_lose(&window, "too large", settled, &seen);
    expect(&seen, 2, 3, PUB_NACKED);
    expect(&seen, 3, 4, PUB_UNKNOWN);
    window_fini(&window);
}

static void the_callback_may_push(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 4, 4);
    seen.refill = &window;
    assert_int_equal(window_confirm(&window, 0, true, true, settled, &seen), 4);
    assert_int_equal(window.count, 4);
    seen.refill = NULL;
    assert_int_equal(window_confirm(&window, 8, true, true, settled, &seen), 4);
    expect(&seen, 4, 1001, PUB_CONFIRMED);
    expect(&seen, 7, 1004, PUB_CONFIRMED);
    window_fini(&window);
}

static void a_message_taken_back_leaves_no_trace(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};

    (void)state;
    fill(&window, 10, 2);
    window_pop(&window);
    assert_false(window_return(&window, 2, NO_ROUTE, NULL));
    push(&window, 3);
    assert_int_equal(window_confirm(&window, 2, false, true, settled, &seen), 1);
    expect(&seen, 0, 3, PUB_CONFIRMED);
    window_fini(&window);
}

static void time_below_the_floor_does_not_count(void **state)
{
    struct window window;

    (void)state;
    fill(&window, 10, 2);
    assert_int_equal(window_oldest_ms(&window), 10);
    window_set_floor(&window, 5000);
    assert_int_equal(window_oldest_ms(&window), 5000);
    window_fini(&window);
}

static bool allow_none(void *ctx)
{
    (void)ctx;
    return false;
}

static void out_of_memory_is_an_error_and_changes_nothing(void **state)
{
    struct window window;
    struct seen seen = {.count = 0};
    struct obx_err err = {0};

    (void)state;
    obx_alloc_set_hook(allow_none, NULL);
    assert_int_equal(window_init(&window, 10, &err), OBX_E_NOMEM);
    obx_alloc_set_hook(NULL, NULL);
    fill(&window, 10, 2);
    obx_alloc_set_hook(allow_none, NULL);
    assert_true(window_return(&window, 2, NO_ROUTE, "a reason that does not fit anywhere"));
    obx_alloc_set_hook(NULL, NULL);
    assert_int_equal(window_confirm(&window, 2, false, true, settled, &seen), 1);
    expect(&seen, 0, 2, PUB_RETURNED);
    assert_non_null(strstr(seen.why, "NO_ROUTE"));
    assert_int_equal(window.count, 1);
    assert_int_equal(window_next_tag(&window), 3);
    window_fini(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_a_capacity_of_none_or_too_many),
        cmocka_unit_test(is_full_after_its_capacity_and_refills),
        cmocka_unit_test(a_single_ack_settles_one_and_only_once),
        cmocka_unit_test(a_multiple_ack_settles_what_is_left_up_to_its_tag_in_order),
        cmocka_unit_test(a_multiple_ack_of_tag_0_settles_all),
        cmocka_unit_test(a_late_ack_holds_up_nobody),
        cmocka_unit_test(acks_in_reverse_order_find_their_messages),
        cmocka_unit_test(a_returned_message_is_reported_with_its_ack),
        cmocka_unit_test(the_reason_of_a_return_is_told),
        cmocka_unit_test(a_return_marks_its_own_message_and_no_earlier_one),
        cmocka_unit_test(a_return_of_what_is_not_in_flight_is_told),
        cmocka_unit_test(returns_out_of_publish_order_are_found_too),
        cmocka_unit_test(a_loss_tells_all_in_publish_order_and_what_is_known),
        cmocka_unit_test(tags_start_again_after_a_loss),
        cmocka_unit_test(a_missing_exchange_marks_its_own_messages_only),
        cmocka_unit_test(a_denied_route_marks_its_own_messages_only),
        cmocka_unit_test(exchange_and_routing_key_make_a_route_together),
        cmocka_unit_test(a_refused_size_marks_one_message),
        cmocka_unit_test(the_callback_may_push),
        cmocka_unit_test(a_message_taken_back_leaves_no_trace),
        cmocka_unit_test(time_below_the_floor_does_not_count),
        cmocka_unit_test(out_of_memory_is_an_error_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
