/*
 * Unit test of what was passed over, and of the set of keys below it: a set may say yes too often,
 * never no; a rescan forgets exactly what it has read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "lane/read/skips.h"

static const struct obx_bytes absent = {.p = NULL, .len = 0};

static int setup(void **state)
{
    static struct skips skips;

    *state = &skips;
    return skips_init(&skips, NULL) == OBX_OK ? 0 : -1;
}

static int teardown(void **state)
{
    skips_fini(*state);
    return 0;
}

static void a_set_has_what_was_added(void **state)
{
    struct keyset set;
    char name[32];

    (void)state;
    assert_int_equal(keyset_init(&set), OBX_OK);
    assert_false(keyset_has(&set, bytes_of("a")));
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof(name), "key-%d", i);
        keyset_add(&set, bytes_of(name));
    }
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof(name), "key-%d", i);
        assert_true(keyset_has(&set, bytes_of(name)));
    }
    keyset_add(&set, absent);
    assert_false(keyset_has(&set, absent));
    keyset_clear(&set);
    assert_false(keyset_has(&set, bytes_of("key-1")));
    keyset_add(&set, bytes_of("")); /* an empty key is a key */
    assert_true(keyset_has(&set, bytes_of("")));
    keyset_fini(&set);
}

/* Of a set that is a thousandth full, about that part of the strangers is taken for members, and
 * not the same ones after a clearing. */
static void a_set_draws_a_new_seed(void **state)
{
    struct keyset set;
    char name[32];
    int both = 0;
    int wrong[2] = {0, 0};
    static bool was_wrong[100000];

    (void)state;
    assert_int_equal(keyset_init(&set), OBX_OK);
    for (int round = 0; round < 2; round++) {
        keyset_clear(&set);
        for (int i = 0; i < 1000; i++) {
            (void)snprintf(name, sizeof(name), "key-%d", i);
            keyset_add(&set, bytes_of(name));
        }
        for (int i = 0; i < 100000; i++) {
            (void)snprintf(name, sizeof(name), "other-%d", i);
            if (!keyset_has(&set, bytes_of(name)))
                continue;
            wrong[round]++;
            both += was_wrong[i];
            was_wrong[i] = true;
        }
    }
    assert_in_range(wrong[0], 0, 400); /* 95 are expected */
    assert_in_range(wrong[1], 0, 400);
    assert_true(both * 4 <= wrong[0] + 8);
    keyset_fini(&set);
}

static void remembers_the_lowest_and_the_keys(void **state)
{
    struct skips *skips = *state;

    assert_false(skips_any(skips));
    skips_add(skips, 20, bytes_of("b"));
    skips_add(skips, 10, bytes_of("a"));
    skips_add(skips, 15, absent);
    assert_true(skips_any(skips));
    assert_int_equal(skips_low(skips), 10);
    assert_int_equal(skips_range(skips).lo, 10);
    assert_int_equal(skips_range(skips).hi, 20);
    assert_true(skips_blocks(skips, bytes_of("a")));
    assert_true(skips_blocks(skips, bytes_of("b")));
    assert_false(skips_blocks(skips, bytes_of("c")));
    assert_false(skips_blocks(skips, absent));
    skips_clear(skips);
    assert_false(skips_any(skips));
    assert_true(skips_range(skips).lo > skips_range(skips).hi);
    assert_false(skips_blocks(skips, bytes_of("a")));
}

static void a_pass_forgets_what_it_took_in(void **state)
{
    struct skips *skips = *state;

    skips_add(skips, 10, bytes_of("a"));
    skips_add(skips, 20, bytes_of("b"));
    skips_rescan_begin(skips);
    assert_false(skips_rescan_blocks(skips, bytes_of("a"))); /* 10 goes in */
    assert_true(skips_blocks(skips, bytes_of("a")));         /* for all others it stays out */
    skips_add(skips, 20, bytes_of("b"));                     /* 20 does not */
    assert_true(skips_rescan_blocks(skips, bytes_of("b")));
    skips_add(skips, 30, bytes_of("c")); /* meanwhile, by the forward read */
    skips_rescan_complete(skips);
    assert_int_equal(skips_low(skips), 20);
    assert_int_equal(skips_range(skips).hi, 30);
    assert_false(skips_blocks(skips, bytes_of("a")));
    assert_true(skips_blocks(skips, bytes_of("b")));
    assert_true(skips_blocks(skips, bytes_of("c")));
    skips_rescan_begin(skips);
    skips_rescan_complete(skips);
    assert_false(skips_any(skips));
}

static void a_pass_that_stops_keeps_the_rest(void **state)
{
    struct skips *skips = *state;

    skips_add(skips, 10, bytes_of("a"));
    skips_add(skips, 90, bytes_of("z"));
    skips_rescan_begin(skips);
    skips_rescan_stop(skips, 51);
    assert_int_equal(skips_low(skips), 51);
    assert_int_equal(skips_range(skips).hi, 90);
    assert_true(skips_blocks(skips, bytes_of("z")));
    skips_rescan_begin(skips);
    skips_add(skips, 52, bytes_of("y"));
    skips_rescan_stop(skips, 61);
    assert_int_equal(skips_low(skips), 52);
    assert_true(skips_blocks(skips, bytes_of("z")));
    assert_true(skips_blocks(skips, bytes_of("y")));
    assert_false(skips_rescan_blocks(skips, bytes_of("y")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_has_what_was_added),
        cmocka_unit_test(a_set_draws_a_new_seed),
        cmocka_unit_test_setup_teardown(remembers_the_lowest_and_the_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pass_forgets_what_it_took_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pass_that_stops_keeps_the_rest, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
