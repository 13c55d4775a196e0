/* Unit tests of base/config.h: the file, the types, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config_sample.h"

static void defaults_apply_without_a_file(void **state)
{
    const struct cfg_input none = {0};
    struct cfg *cfg = NULL;
    const struct sample *sample = NULL;

    (void)state;
    assert_int_equal(cfg_load(&sample_schema, &none, &cfg, NULL, NULL), OBX_OK);
    sample = cfg_root(cfg);
    assert_string_equal(sample->broker.user, "guest");
    assert_string_equal(sample->broker.password, "");
    assert_false(sample->broker.tls);
    assert_int_equal(sample->broker.window, 1000);
    assert_int_equal(sample->broker.timeout_ms, 5000);
    assert_int_equal(sample->broker.addresses.count, 1);
    assert_string_equal(sample->broker.addresses.items[0], "localhost:5672");
    assert_int_equal(sample->lane_count, 0);
    cfg_destroy(cfg);
}

static void the_file_sets_every_type(void **state)
{
    struct cfg *cfg = sample_must_load("# comment\n"
                                       "; comment\n"
                                       "\n"
                                       "[broker] ; comment\n"
                                       "user = relay ; comment\n"
                                       "password=a=b#c\n"
                                       "  tls = yes\r\n"
                                       "\twindow\t=\t77\n"
                                       "timeout = 2m\n"
                                       "addresses = a:1, b:2\n"
                                       "addresses = c:3\n"
                                       "[ lane  shop.outbox ]# comment\n"
                                       "table = outbox\n"
                                       "body_max = 64KiB\n"
                                       "policy = skip\n"
                                       "poll = 1h\n"
                                       "[lane billing.#]\n"
                                       "table: other",
                                       NULL);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_string_equal(sample->broker.user, "relay");
    assert_string_equal(sample->broker.password, "a=b#c");
    assert_true(sample->broker.tls);
    assert_int_equal(sample->broker.window, 77);
    assert_int_equal(sample->broker.timeout_ms, 120000);
    assert_int_equal(sample->broker.addresses.count, 3);
    assert_string_equal(sample->broker.addresses.items[0], "a:1");
    assert_string_equal(sample->broker.addresses.items[1], "b:2");
    assert_string_equal(sample->broker.addresses.items[2], "c:3");
    assert_int_equal(sample->lane_count, 2);
    assert_string_equal(sample->lanes[0].name, "shop.outbox");
    assert_string_equal(sample->lanes[0].table, "outbox");
    assert_int_equal(sample->lanes[0].body_max, 65536);
    assert_int_equal(sample->lanes[0].policy, SAMPLE_SKIP);
    assert_int_equal(sample->lanes[0].poll_ms, 3600000);
    assert_string_equal(sample->lanes[1].name, "billing.#");
    assert_string_equal(sample->lanes[1].table, "other");
    assert_int_equal(sample->lanes[1].body_max, 1 << 20);
    assert_int_equal(sample->lanes[1].policy, SAMPLE_FREEZE);
    cfg_destroy(cfg);
}

static void a_section_without_keys_is_there(void **state)
{
    struct cfg *cfg = sample_must_load("\xEF\xBB\xBF[source a]\n[broker]\n[source b]", NULL);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_int_equal(sample->source_count, 2);
    assert_string_equal(sample->sources[0].name, "a");
    assert_string_equal(sample->sources[1].name, "b");
    cfg_destroy(cfg);
}

/* Loads one broker key; returns whether the value was taken. */
static bool takes(const char *key, const char *value, struct sample_broker *broker)
{
    struct obx_err err = {0};
    struct cfg *cfg = NULL;
    char text[128];

    snprintf(text, sizeof(text), "[broker]\n%s = %s\n", key, value);
    if (sample_load(text, NULL, &cfg, NULL, &err) != OBX_OK) {
        assert_int_equal(err.code, OBX_E_CONFIG);
        return false;
    }
    *broker = ((const struct sample *)cfg_root(cfg))->broker;
    broker->user = broker->password = NULL;
    cfg_destroy(cfg);
    return true;
}

static void numbers_are_strict(void **state)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      "0x10",
                                      "1.5",
                                      "12a",
                                      "0",
                                      "100001",
                                      "1 2",
                                      "4294967297",
                                      "18446744073709551617",
                                      "99999999999999999999999999"};
    struct sample_broker broker;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(takes("window", bad[i], &broker));
    assert_true(takes("window", "1", &broker) && broker.window == 1);
    assert_true(takes("window", "100000", &broker) && broker.window == 100000);
    assert_true(takes("window", "007", &broker) && broker.window == 7);
}

static void durations_need_their_unit(void **state)
{
    static const char *const bad[] = {"5",    "5 s", "ms", "1.5s", "5S",       "1d",
                                      "99ms", "0",   "0s", "61m",  "1000000h", "5124095576030432h"};
    static const struct {
        const char *text;
        uint32_t ms;
    } good[] = {{"100ms", 100}, {"1s", 1000}, {"60m", 3600000}, {"1h", 3600000}, {"59m", 3540000}};
    struct sample_broker broker;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(takes("timeout", bad[i], &broker));
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(takes("timeout", good[i].text, &broker) && broker.timeout_ms == good[i].ms);
}

/* The limit that a row does not give is that of the field; zero needs no unit. */
static void lane_values_keep_to_their_field(void **state)
{
    static const struct {
        const char *line;
        uint64_t poll_ms, body_max; /* 0: refused */
    } cases[] = {
        {"poll = 0", 0, 1 << 20},
        {"poll = 4294967295ms", UINT32_MAX, 1 << 20},
        {"poll = 4294967296ms", 0, 0},
        {"poll = 1193h", 4294800000, 1 << 20},
        {"poll = 1194h", 0, 0},
        {"body_max = 1", 250, 1},
        {"body_max = 3KiB", 250, 3072},
        {"body_max = 2MiB", 250, 2097152},
        {"body_max = 128MiB", 250, 134217728},
        {"body_max = 1GiB", 0, 0},
        {"body_max = 18014398509481984KiB", 0, 0},
        {"body_max = 1kb", 0, 0},
        {"body_max = 1KB", 0, 0},
        {"body_max = 1 KiB", 0, 0},
        {"body_max = KiB", 0, 0},
        {"body_max = 0", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct sample *sample = NULL;
        struct cfg *cfg = NULL;
        char text[128];

        snprintf(text, sizeof(text), SAMPLE_LANE "%s\n", cases[i].line);
        if (cases[i].body_max == 0) {
            assert_int_equal(sample_load(text, NULL, &cfg, NULL, NULL), OBX_E_CONFIG);
            continue;
        }
        cfg = sample_must_load(text, NULL);
        sample = cfg_root(cfg);
        assert_int_equal(sample->lanes[0].poll_ms, cases[i].poll_ms);
        assert_int_equal(sample->lanes[0].body_max, cases[i].body_max);
        cfg_destroy(cfg);
    }
}

static void booleans_are_four_pairs_of_words(void **state)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    static const char *const bad[] = {"", "TRUE", "y", "2", "truely", "enabled"};
    struct sample_broker broker;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_true(takes("tls", yes[i], &broker) && broker.tls);
        assert_true(takes("tls", no[i], &broker) && !broker.tls);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(takes("tls", bad[i], &broker));
}

static void texts_and_lists_keep_their_limits(void **state)
{
    struct sample_broker broker;

    (void)state;
    assert_true(takes("user", "1234567890123456", &broker));
    assert_false(takes("user", "12345678901234567", &broker));
    assert_false(takes("user", "", &broker));
    assert_false(takes("user", "a\x01", &broker));
    assert_false(takes("user", "\xFF", &broker));
    assert_true(takes("password", "\xFF\x01", &broker));
    assert_true(takes("addresses", "a", &broker) && broker.addresses.count == 1);
    assert_true(takes("addresses", "a,b ,\tc", &broker) && broker.addresses.count == 3);
    assert_false(takes("addresses", "a,b,c,d", &broker));
    assert_false(takes("addresses", "", &broker));
    assert_false(takes("addresses", "a,,b", &broker));
    assert_false(takes("addresses", "a,", &broker));
    assert_false(takes("addresses", ",", &broker));
}

static void mistakes_name_file_line_key_and_what_is_allowed(void **state)
{
    (void)state;
    sample_must_fail("[broker]\nwindow = many\n", NULL,
                     "relay.conf:2: broker.window: \"many\" does not fit; expected a number from 1 "
                     "to 100000\n");
    sample_must_fail("[broker]\n\ntimeout = 5\n", NULL,
                     "relay.conf:3: broker.timeout: \"5\" does not fit; expected a duration from "
                     "100ms to 1h, as 250ms, 5s, 2m or 1h\n");
    sample_must_fail(SAMPLE_LANE "policy = drop\nbody_max = 1GiB\n", NULL,
                     "relay.conf:4: lane.shop.outbox.body_max: \"1GiB\" does not fit; expected a "
                     "size from 1 to 128MiB, as 4096, 64KiB, 16MiB or 1GiB\n"
                     "relay.conf:3: lane.shop.outbox.policy: \"drop\" does not fit; expected one "
                     "of freeze, skip\n");
    sample_must_fail("[broker]\nuser =\ntls = maybe\naddresses = a,,b\n", NULL,
                     "relay.conf:2: broker.user: \"\" does not fit; expected a text of 1 to 16 "
                     "bytes\n"
                     "relay.conf:3: broker.tls: \"maybe\" does not fit; expected true or false "
                     "(also yes/no, on/off, 1/0)\n"
                     "relay.conf:4: broker.addresses: \"a,,b\" does not fit; expected a list of 1 "
                     "to 3 items, separated by commas\n");
    sample_must_fail("[source x]\ntries = 0\ntables = a,,b", NULL,
                     "relay.conf:2: source.x.tries: \"0\" does not fit; expected a number of at "
                     "least 1\n"
                     "relay.conf:3: source.x.tables: \"a,,b\" does not fit; expected a list, "
                     "separated by commas\n");
    sample_must_fail("\n[lane x]\n", NULL,
                     "relay.conf:2: lane.x.table: missing; expected a text of at least 1 byte\n");
    sample_must_fail("[broker]\ncolour = red\n", NULL,
                     "relay.conf:2: broker: unknown key colour; keys are user, password, tls, "
                     "window, timeout, addresses\n");
    sample_must_fail(
        "[brokers]\nanything = goes\n[broker x]\n", NULL,
        "relay.conf:1: unknown section: [brokers]; sections are [broker], [lane NAME], "
        "[source NAME]\n"
        "relay.conf:3: section takes no name: [broker x]; sections are [broker], [lane "
        "NAME], [source NAME]\n");
}

static void a_secret_is_never_shown(void **state)
{
    (void)state;
    sample_must_fail("[broker]\npassword = 123456789012345678901234567890123\n", NULL,
                     "relay.conf:2: broker.password: the secret does not fit; expected a text of 0 "
                     "to 32 bytes\n");
}

static void lines_that_are_nothing_are_reported(void **state)
{
    (void)state;
    sample_must_fail(
        "user = x\n[broker]\njust words\n= x\n[lane\n[lane]\n[lane a,b]\n[source s] x\n"
        "last",
        NULL,
        "relay.conf:1: key user before the first [section]\n"
        "relay.conf:3: neither [section] nor key = value\n"
        "relay.conf:4: broker: unknown key ; keys are user, password, tls, window, "
        "timeout, addresses\n"
        "relay.conf:5: section header without ]: [lane; sections are [broker], [lane "
        "NAME], [source NAME]\n"
        "relay.conf:6: lane needs a name of 1 to 200 letters, digits or ._-*#:/@+\n"
        "relay.conf:7: lane needs a name of 1 to 200 letters, digits or ._-*#:/@+\n"
        "relay.conf:8: text after a section header: [source s] x; sections are "
        "[broker], [lane NAME], [source NAME]\n");
    sample_must_fail("[broker]\nlast", NULL, "relay.conf:2: neither [section] nor key = value\n");
}

static void nothing_may_be_given_twice(void **state)
{
    (void)state;
    sample_must_fail("[broker]\nuser = a\nuser = b\n[source s]\n[broker]\nuser = c\ntls = yes\n"
                     "[source s]\npassword = a\npassword_file = b\n",
                     NULL,
                     "relay.conf:3: broker.user: given twice, first in line 2\n"
                     "relay.conf:5: broker: section given twice, first in line 1\n"
                     "relay.conf:6: broker.user: given twice, first in line 2\n"
                     "relay.conf:8: source.s: section given twice, first in line 4\n"
                     "relay.conf:10: source.s.password: given twice, first in line 9\n");
}

static void the_schema_may_refuse_a_combination(void **state)
{
    (void)state;
    sample_must_fail(SAMPLE_LANE "poll = 13ms\n[broker]\nwindow = 77\ntimeout = 7s\n", NULL,
                     "relay.conf:5: broker.window: 77 does not go with that timeout\n"
                     "relay.conf:3: lane.shop.outbox.poll: unlucky\n");
}

static void the_schema_may_refuse_a_section(void **state)
{
    (void)state;
    sample_must_fail("[broker]\nwindow = 78\n\n[lane nameless]\ntable = t\n", NULL,
                     "relay.conf:4: lane.nameless: needs a better name\n"
                     "relay.conf: there is none\n");
}

static void a_key_that_is_nearly_right_is_named(void **state)
{
    static const struct {
        const char *given;
        const char *meant;
    } cases[] = {{"windwo", "window"}, {"usr", "user"}, {"pasword", "password"}, {"tIs", "tls"}};
    char text[64], wanted[128];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct obx_buf problems = {0};
        struct cfg *cfg = NULL;

        snprintf(text, sizeof(text), "[broker]\n%s = x\n", cases[i].given);
        snprintf(wanted, sizeof(wanted), "unknown key %s (did you mean %s?); keys are ",
                 cases[i].given, cases[i].meant);
        assert_int_equal(sample_load(text, NULL, &cfg, &problems, NULL), OBX_E_CONFIG);
        if (strstr(problems.data, wanted) == NULL)
            fail_msg("no \"%s\" in \"%s\"", wanted, problems.data);
        buf_fini(&problems);
    }
}

static void problems_are_counted_beyond_twenty(void **state)
{
    struct obx_buf text = {0}, problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;
    unsigned lines = 0;

    (void)state;
    assert_int_equal(buf_add_text(&text, "[broker]\n"), OBX_OK);
    for (int i = 0; i < 25; i++)
        assert_int_equal(buf_addf(&text, "key%d = x\n", i), OBX_OK);
    assert_int_equal(sample_load(text.data, NULL, &cfg, &problems, &err), OBX_E_CONFIG);
    for (size_t i = 0; i < problems.len; i++)
        lines += problems.data[i] == '\n';
    assert_int_equal(lines, 21);
    assert_string_equal(problems.data + problems.len - 11, "and 5 more\n");
    assert_memory_equal(err.text,
                        "invalid configuration: 25 problems, the first: relay.conf:2: ", 60);
    buf_fini(&text);
    buf_fini(&problems);
}

/* A file that a test writes; its name and its content. */
static void write_file(char *path, const char *content, size_t len)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, len), len);
    close(fd);
}

static void files_are_read_by_path(void **state)
{
    char path[] = "/tmp/obx-config-XXXXXX";
    const struct cfg_input input = {.path = path};
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;

    (void)state;
    write_file(path, "[broker]\nwindow = 5\n", 20);
    assert_int_equal(cfg_load(&sample_schema, &input, &cfg, NULL, NULL), OBX_OK);
    assert_int_equal(((const struct sample *)cfg_root(cfg))->broker.window, 5);
    cfg_destroy(cfg);
    unlink(path);
    assert_int_equal(cfg_load(&sample_schema, &input, &cfg, &problems, &err), OBX_E_CONFIG);
    assert_null(cfg);
    assert_non_null(strstr(problems.data, ": cannot be read: No such file"));
    buf_fini(&problems);
    assert_int_equal(cfg_load(&sample_schema, &(struct cfg_input){.path = "/"}, &cfg, NULL, &err),
                     OBX_E_CONFIG);
    assert_non_null(strstr(err.text, "read: Is a directory"));
    assert_int_equal(
        cfg_load(&sample_schema, &(struct cfg_input){.path = "/dev/zero"}, &cfg, NULL, &err),
        OBX_E_CONFIG);
    assert_non_null(strstr(err.text, "larger than the limit: 1048576 bytes"));
}

/* The password after loading a secret file of this content; refused when expected is NULL. */
static void check_secret_file(const char *content, size_t len, const char *expected)
{
    char path[] = "/tmp/obx-secret-XXXXXX";
    struct obx_err err = {0};
    struct cfg *cfg = NULL;
    char text[128];

    write_file(path, content, len);
    snprintf(text, sizeof(text), "[broker]\npassword_file = %s\n", path);
    if (expected == NULL) {
        assert_int_equal(sample_load(text, NULL, &cfg, NULL, &err), OBX_E_CONFIG);
    } else {
        cfg = sample_must_load(text, NULL);
        assert_string_equal(((const struct sample *)cfg_root(cfg))->broker.password, expected);
        cfg_destroy(cfg);
    }
    unlink(path);
}

/* A value ends at a comment; a secret must not, so it is refused and not cut. */
static void a_comment_does_not_cut_a_secret(void **state)
{
    struct cfg *cfg =
        sample_must_load("[broker]\nuser = a;b ; c\npassword = a;b\n" SAMPLE_LANE, NULL);
    const struct sample *sample = cfg_root(cfg);

    (void)state;
    assert_string_equal(sample->broker.user, "a;b");
    assert_string_equal(sample->broker.password, "a;b");
    cfg_destroy(cfg);
    sample_must_fail("[broker]\npassword = a ;b\n" SAMPLE_LANE, NULL,
                     "relay.conf:2: broker.password: a ';' after a blank begins a comment, which "
                     "would cut a secret that has it; put the comment into a line of its own, or "
                     "the secret into a file (password_file)\n");
}

static void secrets_come_from_files(void **state)
{
    (void)state;
    check_secret_file("s3cret\n", 7, "s3cret");
    check_secret_file("s3cret", 6, "s3cret");
    check_secret_file(" two \n\n", 7, " two \n");
    check_secret_file("s3cret\r\n", 8, "s3cret"); /* an editor on Windows */
    check_secret_file("s3cret\r", 7, "s3cret");
    check_secret_file("two\r\n\r\n", 7, "two\r\n");
    check_secret_file("a\rb\n", 4, "a\rb");
    check_secret_file("", 0, "");
    check_secret_file("\n", 1, "");
    check_secret_file("a\0b", 3, NULL);
    check_secret_file("123456789012345678901234567890123", 33, NULL);
    sample_must_fail("[broker]\npassword_file = /nonexistent\nuser_file = x\n", NULL,
                     "relay.conf:3: broker: unknown key user_file; keys are user, password, tls, "
                     "window, timeout, addresses\n"
                     "relay.conf:2: broker.password: file /nonexistent: cannot be read: No "
                     "such file or directory\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_apply_without_a_file),
        cmocka_unit_test(the_file_sets_every_type),
        cmocka_unit_test(a_section_without_keys_is_there),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(durations_need_their_unit),
        cmocka_unit_test(lane_values_keep_to_their_field),
        cmocka_unit_test(booleans_are_four_pairs_of_words),
        cmocka_unit_test(texts_and_lists_keep_their_limits),
        cmocka_unit_test(mistakes_name_file_line_key_and_what_is_allowed),
        cmocka_unit_test(a_secret_is_never_shown),
        cmocka_unit_test(lines_that_are_nothing_are_reported),
        cmocka_unit_test(nothing_may_be_given_twice),
        cmocka_unit_test(the_schema_may_refuse_a_combination),
        cmocka_unit_test(the_schema_may_refuse_a_section),
        cmocka_unit_test(a_key_that_is_nearly_right_is_named),
        cmocka_unit_test(problems_are_counted_beyond_twenty),
        cmocka_unit_test(files_are_read_by_path),
        cmocka_unit_test(a_comment_does_not_cut_a_secret),
        cmocka_unit_test(secrets_come_from_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
