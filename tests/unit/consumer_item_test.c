/* The states of an item: every edge there is, none that is not, and where each decision ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "core/item.h"

static bool is_final(enum item_state state)
{
    return state >= ITEM_DONE && state <= ITEM_DROPPED;
}

static bool is_decision(enum item_state state)
{
    return state >= ITEM_APPLIED && state <= ITEM_LEFT;
}

/* A batch can be undone at any time, and what was decided in it is undecided then. */
static void a_decision_ends_in_one_state_or_is_undone(void **state)
{
    (void)state;
    for (int from = 0; from < ITEM_STATES; from++) {
        size_t finals = 0;

        if (!is_decision((enum item_state)from))
            continue;
        assert_true(item_may_become(ITEM_READY, (enum item_state)from));
        assert_true(item_may_become((enum item_state)from, ITEM_READY));
        for (int to = 0; to < ITEM_STATES; to++)
            finals += is_final((enum item_state)to) &&
                      item_may_become((enum item_state)from, (enum item_state)to);
        assert_int_equal(finals, 1);
        assert_true(item_may_become((enum item_state)from, item_final((enum item_state)from)));
    }
}

/* Nothing is acknowledged and then tried again, or decided twice. */
static void what_is_final_stays_so(void **state)
{
    (void)state;
    for (int from = 0; from < ITEM_STATES; from++) {
        for (int to = 0; to < ITEM_STATES; to++) {
            if (is_final((enum item_state)from))
                assert_false(item_may_become((enum item_state)from, (enum item_state)to));
            if (is_decision((enum item_state)from) && is_decision((enum item_state)to) &&
                to != ITEM_LEFT)
                assert_false(item_may_become((enum item_state)from, (enum item_state)to));
        }
        assert_false(item_may_become((enum item_state)from, (enum item_state)from));
    }
}

/* Only what has its effect, or never will, is done with in the eyes of its producer. */
static void only_what_is_decided_for_good_is_reported(void **state)
{
    (void)state;
    assert_int_equal(item_final(ITEM_APPLIED), ITEM_DONE);
    assert_int_equal(item_final(ITEM_DUPLICATE), ITEM_DONE);
    assert_int_equal(item_final(ITEM_WAS_REJECTED), ITEM_DEAD);
    assert_int_equal(item_final(ITEM_EXHAUSTED), ITEM_DEAD);
    assert_int_equal(item_final(ITEM_REJECTED), ITEM_DEAD);
    assert_int_equal(item_final(ITEM_LEFT), ITEM_DROPPED);
    for (enum item_state at = ITEM_BLOCKED; at <= ITEM_HAS_ROW; at++)
        assert_int_equal(item_final(at), ITEM_PARKED);
    assert_int_equal(item_final(ITEM_FAILED), ITEM_PARKED);
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    for (int a = 0; a < ITEM_STATES; a++) {
        assert_non_null(item_state_name((enum item_state)a));
        for (int b = 0; b < a; b++)
            assert_string_not_equal(item_state_name((enum item_state)a),
                                    item_state_name((enum item_state)b));
    }
}

static struct item *make(const char *to, const char *from, struct counters *counters)
{
    struct bridge_delivery *delivery =
        obx_calloc(1, sizeof(*delivery) + 3 * sizeof(struct obx_header));
    struct obx_header *headers = NULL;
    struct item *item = NULL;

    assert_non_null(delivery);
    headers = (struct obx_header *)(void *)(delivery + 1);
    headers[0] = (struct obx_header){
        .name = bytes_of("x-obx-receipt-to"), .type = OBX_H_TEXT, .v.text = bytes_of(to)};
    headers[1] = (struct obx_header){
        .name = bytes_of("x-obx-receipt-from"), .type = OBX_H_TEXT, .v.text = bytes_of(from)};
    headers[2] = (struct obx_header){
        .name = bytes_of("x-obx-receipt-token"), .type = OBX_H_TEXT, .v.text = bytes_of("t")};
    delivery->msg =
        (struct bridge_message){.message_id = bytes_of("m"), .headers = headers, .header_count = 3};
    assert_int_equal(item_create(delivery, counters, &item), OBX_OK);
    return item;
}

/* A message must not make a consumer write to a queue of the application. */
static void a_receipt_goes_to_queues_of_receipts_only(void **state)
{
    static const struct {
        const char *to, *from;
        bool is_asked;
    } cases[] = {
        {"rowpost.receipts.a", "stock", true},        {"rowpost.receipts.a", "mail, stock", true},
        {"rowpost.receipts.a", "stocks", false},      {"rowpost.receipts.a", "", false},
        {"rowpost.receipts.", "stock", false},        {"orders", "stock", false},
        {"rowpost.receipts.a b", "stock", false},     {"rowpost.receiptsXa", "stock", false},
        {"rowpost.receipts.a", "mail,,stock,", true},
    };
    struct counters counters = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct item *item = make(cases[i].to, cases[i].from, &counters);

        assert_int_equal(item_asks_receipt(item, "stock"), cases[i].is_asked);
        item_free(item, &counters);
    }
    assert_int_equal(counters_get(&counters, CNT_IN_FLIGHT), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_decision_ends_in_one_state_or_is_undone),
        cmocka_unit_test(what_is_final_stays_so),
        cmocka_unit_test(only_what_is_decided_for_good_is_reported),
        cmocka_unit_test(every_state_has_a_name),
        cmocka_unit_test(a_receipt_goes_to_queues_of_receipts_only),
    };

    return cmocka_run_group_tests_name("consumer_item", tests, NULL, NULL);
}
