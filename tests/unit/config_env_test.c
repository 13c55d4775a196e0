/* Unit tests of base/config.h: the environment and its precedence over the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_sample.h"

static void the_environment_overrides_the_file(void **state)
{
    static const char *const env[] = {"PATH=/bin",
                                      "OBX_BROKER_USER=env",
                                      "OBX_BROKER_WINDOW=8",
                                      "OBX_BROKER_ADDRESSES=x, y",
                                      "OBX_LANE_SHOP_OUTBOX_POLL=3s",
                                      "OBX",
                                      "OBX_BROKER_TLS",
                                      NULL};
    struct cfg *cfg = sample_must_load(
        "[broker]\nuser = file\ntimeout = 9s\naddresses = a,b,c\n" SAMPLE_LANE, env);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_string_equal(sample->broker.user, "env");
    assert_int_equal(sample->broker.window, 8);
    assert_int_equal(sample->broker.timeout_ms, 9000);
    assert_int_equal(sample->broker.addresses.count, 2);
    assert_string_equal(sample->broker.addresses.items[1], "y");
    assert_int_equal(sample->lanes[0].poll_ms, 3000);
    assert_string_equal(sample->lanes[0].table, "outbox");
    cfg_destroy(cfg);
}

static void sections_exist_by_the_environment_alone(void **state)
{
    static const char *const env[] = {"OBX_LANE_SHOP_OUTBOX_TABLE=t1", "OBX_LANE_B_TABLE=t2",
                                      "OBX_LANES=shop.outbox, b,b,", "OBX_SOURCES=", NULL};
    struct cfg *cfg = sample_must_load("", env);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_int_equal(sample->lane_count, 2);
    assert_string_equal(sample->lanes[0].name, "shop.outbox");
    assert_string_equal(sample->lanes[0].table, "t1");
    assert_string_equal(sample->lanes[1].name, "b");
    assert_string_equal(sample->lanes[1].table, "t2");
    assert_int_equal(sample->source_count, 0);
    cfg_destroy(cfg);
}

static void names_of_file_and_environment_add_up(void **state)
{
    static const char *const env[] = {"OBX_SOURCES=two,one", NULL};
    struct cfg *cfg = sample_must_load("[source one]\n", env);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_int_equal(sample->source_count, 2);
    assert_string_equal(sample->sources[0].name, "one");
    assert_string_equal(sample->sources[1].name, "two");
    cfg_destroy(cfg);
}

static void a_secret_file_of_the_environment_replaces_the_file_s_secret(void **state)
{
    static const char *const env[] = {"OBX_BROKER_PASSWORD_FILE=/dev/null", NULL};
    static const char *const plain[] = {"OBX_BROKER_PASSWORD=plain", NULL};
    struct cfg *cfg = sample_must_load("[broker]\npassword = file\n", env);

    (void)state;
    assert_string_equal(((const struct sample *)cfg_root(cfg))->broker.password, "");
    cfg_destroy(cfg);
    /* The file that nobody needs any more is not even opened. */
    cfg = sample_must_load("[broker]\npassword_file = /nonexistent\n", plain);
    assert_string_equal(((const struct sample *)cfg_root(cfg))->broker.password, "plain");
    cfg_destroy(cfg);
}

static void other_programs_variables_are_left_alone(void **state)
{
    static const char *const env[] = {"OBX_CRASH=settled:3",
                                      "OBX_CONFIG=/etc/x",
                                      "OBX_TEST_DB_PORT=3307",
                                      "OBXY=1",
                                      "XOBX_FOO=1",
                                      NULL};

    (void)state;
    cfg_destroy(sample_must_load("", env));
}

static void a_variable_that_fits_nothing_is_an_error(void **state)
{
    static const char *const env[] = {
        "OBX_BROKER_WINDOWS=1", "OBX_LANE_NONE_POLL=1s",  "OBX_=",         "OBX_CRASHED=1",
        "OBX_TESTS=1",          "OBX_BROKER_USER_FILE=x", "OBX_\x1B[2J=1", NULL};

    (void)state;
#define UNKNOWN                                                                                    \
    ": unknown variable: no key of any section that is there has this name; --help-config lists "  \
    "them\n"
    sample_must_fail("", env,
                     "OBX_BROKER_WINDOWS" UNKNOWN "OBX_LANE_NONE_POLL" UNKNOWN "OBX_" UNKNOWN
                     "OBX_CRASHED" UNKNOWN "OBX_TESTS" UNKNOWN "OBX_BROKER_USER_FILE" UNKNOWN
                     "OBX_?[2J" UNKNOWN);
}

static void bad_values_name_the_variable(void **state)
{
    static const char *const env[] = {"OBX_BROKER_WINDOW=0", "OBX_BROKER_USER=a\nb",
                                      "OBX_LANES=good", NULL};
    static const char *const names[] = {"OBX_LANES=a=b", NULL};

    (void)state;
    sample_must_fail("", env,
                     "OBX_BROKER_USER: broker.user: \"a?b\" does not fit; expected a text of 1 to "
                     "16 bytes\n"
                     "OBX_BROKER_WINDOW: broker.window: \"0\" does not fit; expected a number from "
                     "1 to 100000\n"
                     "OBX_LANES: lane.good.table: missing; expected a text of at least 1 byte\n");
    sample_must_fail("", names,
                     "OBX_LANES: lane needs a name of 1 to 200 letters, digits or ._-*#:/@+\n");
}

static void a_variable_given_twice_is_an_error(void **state)
{
    static const char *const env[] = {"OBX_BROKER_PASSWORD=a", "OBX_BROKER_PASSWORD_FILE=/dev/null",
                                      "OBX_BROKER_ADDRESSES=a", "OBX_BROKER_ADDRESSES=b", NULL};

    (void)state;
    sample_must_fail(
        "", env,
        "OBX_BROKER_PASSWORD_FILE: broker.password: given twice, first by OBX_BROKER_PASSWORD\n"
        "OBX_BROKER_ADDRESSES: broker.addresses: given twice, first by OBX_BROKER_ADDRESSES\n");
}

/* Two names that differ only where a variable cannot: nobody may guess which one is meant. */
static void an_ambiguous_variable_is_an_error(void **state)
{
    static const char *const env[] = {"OBX_LANE_A_B_POLL=1s", NULL};

    (void)state;
    sample_must_fail("[lane a.b]\ntable = t\n[lane a-b]\ntable = t\n", env,
                     "OBX_LANE_A_B_POLL: the variable fits 2 keys; rename a section or use the "
                     "file\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_overrides_the_file),
        cmocka_unit_test(sections_exist_by_the_environment_alone),
        cmocka_unit_test(names_of_file_and_environment_add_up),
        cmocka_unit_test(a_secret_file_of_the_environment_replaces_the_file_s_secret),
        cmocka_unit_test(other_programs_variables_are_left_alone),
        cmocka_unit_test(a_variable_that_fits_nothing_is_an_error),
        cmocka_unit_test(bad_values_name_the_variable),
        cmocka_unit_test(a_variable_given_twice_is_an_error),
        cmocka_unit_test(an_ambiguous_variable_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
