/* Unit tests of base/config.h: dump, reference, comparison for a reload, verification of a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config_sample.h"

static const char dumped[] = "[broker] ; relay.conf:1\n"
                             "user = guest ; default\n"
                             "; relay.conf:2\n"
                             "password = ***\n"
                             "tls = no ; default\n"
                             "window = 12 ; OBX_BROKER_WINDOW\n"
                             "timeout = 7s ; relay.conf:3\n"
                             "addresses = a:1 ; relay.conf:4\n"
                             "addresses = b:2 ; relay.conf:4\n"
                             "\n"
                             "[lane shop.outbox] ; relay.conf:5\n"
                             "table = outbox ; relay.conf:6\n"
                             "body_max = 1MiB ; default\n"
                             "policy = freeze ; default\n"
                             "poll = 250ms ; default\n"
                             "\n"
                             "[source s] ; OBX_SOURCES\n"
                             "password = ; OBX_SOURCE_S_PASSWORD_FILE, content of /dev/null\n"
                             "tries = 3 ; default\n"
                             "tables = ; default\n";

static void dump_shows_values_and_their_origin(void **state)
{
    static const char *const env[] = {"OBX_BROKER_WINDOW=12", "OBX_SOURCES=s",
                                      "OBX_SOURCE_S_PASSWORD_FILE=/dev/null", NULL};
    struct cfg *cfg = sample_must_load("[broker]\npassword = secret\ntimeout = 7s\n"
                                       "addresses = a:1, b:2\n" SAMPLE_LANE,
                                       env);
    struct obx_buf dump = {0};

    (void)state;
    assert_int_equal(cfg_dump(cfg, &dump), OBX_OK);
    assert_string_equal(dump.data, dumped);
    buf_fini(&dump);
    cfg_destroy(cfg);
}

static void a_dump_loads_again_to_the_same(void **state)
{
    struct cfg *before = sample_must_load(dumped, NULL);
    struct obx_buf dump = {0};
    struct cfg_changes changes = {0};
    struct cfg *after = NULL;

    (void)state;
    assert_int_equal(cfg_dump(before, &dump), OBX_OK);
    after = sample_must_load(dump.data, NULL);
    assert_int_equal(cfg_compare(before, after, &changes), OBX_OK);
    assert_int_equal(changes.count, 0);
    assert_int_equal(changes.lines.len, 0);
    buf_fini(&changes.lines);
    buf_fini(&dump);
    cfg_destroy(before);
    cfg_destroy(after);
}

/* A password in a URL is one, wherever it is printed. */
static void passwords_in_urls_are_not_shown(void **state)
{
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"http://h/a", "http://h/a"},
        {"https://user:pw@h:1/a@b", "https://***@h:1/a@b"},
        {"http://user@h", "http://***@h"},
        {"http://u:p@q:r@h/x", "http://***@h/x"},
        {"http://h?key=abc&b=c", "http://h?***"},
        {"http://u:p@h/a?to=http://x:y@z#f", "http://***@h/a?***#f"},
        {"a://u:p@h1;a://u:q@h2/x", "a://***@h1;a://***@h2/x"},
        {"me@host", "me@host"},
        {"x://", "x://"},
        {"://@", "://***@"},
        {"what?", "what?"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct obx_buf text = {0}, dump = {0}, line = {0};
        struct cfg *cfg = NULL;

        assert_int_equal(
            buf_addf(&text, "[lane a]\ntable = %s\n[broker]\nuser = x", cases[i].value), OBX_OK);
        assert_int_equal(buf_addf(&line, "\ntable = %s ; relay.conf:2\n", cases[i].shown), OBX_OK);
        cfg = sample_must_load(text.data, NULL);
        assert_string_equal(((const struct sample *)cfg_root(cfg))->lanes[0].table, cases[i].value);
        assert_int_equal(cfg_dump(cfg, &dump), OBX_OK);
        if (strstr(dump.data, line.data) == NULL)
            fail_msg("%s is not in %s", line.data, dump.data);
        cfg_destroy(cfg);
        buf_fini(&text);
        buf_fini(&dump);
        buf_fini(&line);
    }
    sample_must_fail("[broker]\ntimeout = http://u:pw@h/\n" SAMPLE_LANE, NULL,
                     "relay.conf:2: broker.timeout: \"http://***@h/\" does not fit; expected a "
                     "duration from 100ms to 1h, as 250ms, 5s, 2m or 1h\n");
}

static void check_changes(const char *before_text, const char *after_text, unsigned count,
                          unsigned fixed_count, const char *lines)
{
    struct cfg *before = sample_must_load(before_text, NULL);
    struct cfg *after = sample_must_load(after_text, NULL);
    struct cfg_changes changes = {0};

    assert_int_equal(cfg_compare(before, after, &changes), OBX_OK);
    assert_string_equal(buf_bytes(&changes.lines).p, lines);
    assert_int_equal(changes.count, count);
    assert_int_equal(changes.fixed_count, fixed_count);
    buf_fini(&changes.lines);
    cfg_destroy(before);
    cfg_destroy(after);
}

static void comparison_goes_by_effect(void **state)
{
    (void)state;
    check_changes("[broker]\ntimeout = 5000ms\ntls = off\naddresses = a\naddresses = b\n",
                  "[broker]\ntls = no\naddresses = a,b\n", 0, 0, "");
    check_changes("[lane a]\ntable = amqp://u:one@h\n", "[lane a]\ntable = amqp://u:two@h\n", 1, 1,
                  "lane.a.table: amqp://***@h -> amqp://***@h (needs a restart)\n");
    check_changes("[broker]\nwindow = 1\npassword = a\n", "[broker]\nwindow = 2\npassword = b\n", 2,
                  0, "broker.password: *** -> ***\nbroker.window: 1 -> 2\n");
    check_changes("[broker]\nuser = a\naddresses = a,b\n[source s]\n" SAMPLE_LANE,
                  "[broker]\nuser = b\naddresses = a,c\n[lane shop.outbox]\ntable = t\npoll = 1s\n"
                  "[lane new]\ntable = t\n[source z]\n",
                  7, 5,
                  "broker.user: a -> b (needs a restart)\n"
                  "broker.addresses: a,b -> a,c (needs a restart)\n"
                  "source.s: removed (needs a restart)\n"
                  "lane.shop.outbox.table: outbox -> t (needs a restart)\n"
                  "lane.shop.outbox.poll: 250ms -> 1s\n"
                  "lane.new: added\n"
                  "source.z: added (needs a restart)\n");
}

static void reference_text_names_every_key(void **state)
{
    struct obx_buf text = {0};

    (void)state;
    assert_int_equal(cfg_reference_text(&sample_schema, &text), OBX_OK);
    assert_non_null(strstr(text.data,
                           "[broker]\n"
                           "  The RabbitMQ cluster.\n"
                           "\n"
                           "  user = a text of 1 to 16 bytes\n"
                           "      default guest; fixed until a restart; OBX_BROKER_USER\n"
                           "      The user's name.\n"
                           "\n"
                           "  password = a text of 0 to 32 bytes\n"
                           "      default empty; reloadable; OBX_BROKER_PASSWORD\n"
                           "      also as password_file or OBX_BROKER_PASSWORD_FILE, the path of a "
                           "file that holds it\n"
                           "      The user's password.\n"));
    assert_non_null(strstr(
        text.data, "      How long to wait for an answer of the broker before the connection\n"
                   "      counts as lost and another address is tried.\n"));
    assert_non_null(strstr(text.data, "\n[lane NAME]\n"
                                      "  One outbox table.\n"
                                      "  May be given several times; OBX_LANES=\"a,b\" adds "
                                      "sections too.\n"
                                      "\n"
                                      "  table = a text of at least 1 byte\n"
                                      "      required; fixed until a restart; "
                                      "OBX_LANE_<NAME>_TABLE\n"));
    buf_fini(&text);
}

static void reference_markdown_has_a_list_for_each_section(void **state)
{
    struct obx_buf text = {0};

    (void)state;
    assert_int_equal(cfg_reference_markdown(&sample_schema, &text), OBX_OK);
    assert_non_null(
        strstr(text.data, "### `[broker]`\n\nThe RabbitMQ cluster.\n\n- **`user`**: a text"));
    assert_non_null(strstr(text.data,
                           "\n- **`window`**: a number from 1 to 100000; default `1000`; "
                           "reloadable; `OBX_BROKER_WINDOW`. Messages in flight at\n"
                           "  most; more | less.\n"));
    assert_non_null(strstr(text.data, "\n- **`password`** or its `_file`: a text of 0 to 32 bytes; "
                                      "reloadable; "));
    assert_non_null(strstr(text.data, "\n- **`table`**: a text of at least 1 byte; required; "
                                      "restart; `OBX_LANE_<NAME>_TABLE`. The outbox table.\n"));
    buf_fini(&text);
}

static void example_has_every_key_and_loads(void **state)
{
    struct obx_buf text = {0};
    struct cfg *cfg = NULL;

    (void)state;
    assert_int_equal(cfg_reference_example(&sample_schema, &text), OBX_OK);
    assert_non_null(strstr(text.data, "\n"
                                      "# The RabbitMQ cluster.\n"
                                      "[broker]\n"
                                      "\n"
                                      "# The user's name.\n"
                                      "# (a text of 1 to 16 bytes; default guest; fixed until a "
                                      "restart; OBX_BROKER_USER)\n"
                                      "#user = guest\n"));
    assert_non_null(strstr(text.data, "\n[lane shop.outbox]\n"));
    assert_non_null(strstr(text.data, "\ntable = CHANGE_ME\n"));
    assert_non_null(strstr(text.data, "\n#body_max = 2MiB\n"));
    assert_non_null(strstr(text.data, "\n#[source NAME]\n"));
    assert_non_null(strstr(text.data, "\n#password =\n#password_file = /run/secrets/s\n"));
    cfg = sample_must_load(text.data, NULL);
    assert_int_equal(((const struct sample *)cfg_root(cfg))->lane_count, 1);
    assert_int_equal(((const struct sample *)cfg_root(cfg))->source_count, 0);
    cfg_destroy(cfg);
    buf_fini(&text);
}

static void a_good_table_verifies(void **state)
{
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(cfg_verify(&sample_schema, NULL, &err), OBX_OK);
    assert_string_equal(err.text, "");
}

struct bad_root {
    struct bad_part {
        uint32_t number;
        const char *text;
    } part;
    struct bad_part *items;
    size_t item_count;
};

static void a_bad_table_does_not(void **state)
{
    static const char *const none[] = {NULL};
    static const struct cfg_key keys[] = {
        {.name = "Upper", CFG_FIELD(struct bad_part, text), .def = "", .help = "x"},
        {.name = "silent", CFG_FIELD(struct bad_part, text), .def = ""},
        {.name = "wrong_size", CFG_FIELD(struct bad_part, number), .def = "", .help = "x"},
        {.name = "far", .offset = 4096, .size = sizeof(char *), .def = "", .help = "x"},
        {.name = "turned",
         .type = CFG_COUNT,
         CFG_FIELD(struct bad_part, number),
         .min = 2,
         .max = 1,
         .def = "2",
         .help = "x"},
        {.name = "big",
         .type = CFG_COUNT,
         CFG_FIELD(struct bad_part, number),
         .max = UINT64_C(1) << 32,
         .def = "2",
         .help = "x"},
        {.name = "choice",
         .type = CFG_ENUM,
         CFG_FIELD(struct bad_part, number),
         .choices = none,
         .def = "a",
         .help = "x"},
        {.name = "silent", CFG_FIELD(struct bad_part, text), .def = "", .help = "x"},
    };
    static const struct cfg_section sections[] = {
        {.name = "part", CFG_PLAIN(struct bad_root, part), CFG_KEYS(keys), .help = "x"},
        {.name = "part", CFG_PLAIN(struct bad_root, part)},
        {.name = "out", .offset = 4096, .item_size = 4, .help = "x"},
        {.name = "no name", CFG_PLAIN(struct bad_root, part), .help = "x"},
    };
    static const struct cfg_sample samples[] = {
        {"part", "absent", "x"}, {"part", NULL, "x"}, {"absent", NULL, "x"}};
    static const struct cfg_schema schema = {.sections = sections,
                                             .section_count = 4,
                                             .root_size = sizeof(struct bad_root),
                                             .samples = samples,
                                             .sample_count = 3};
    struct obx_buf problems = {0};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(cfg_verify(&schema, &problems, &err), OBX_E_CONFIG);
    assert_string_equal(problems.data,
                        "table: part.Upper: name is not of 1 to 40 lower case letters, digits and "
                        "_\n"
                        "table: part.silent: help is missing\n"
                        "table: part.wrong_size: field has another size than the type\n"
                        "table: part.far: field lies outside of the section's struct\n"
                        "table: part.turned: min is above max\n"
                        "table: part.turned: default is not what the key allows\n"
                        "table: part.big: limits exceed the field\n"
                        "table: part.choice: choices and type do not fit\n"
                        "table: part.silent: name or environment variable is that of another key\n"
                        "table: part: section stands twice in the table\n"
                        "table: part: help is missing\n"
                        "table: out: section lies outside of the root struct\n"
                        "table: no name: name is not of 1 to 40 lower case letters, digits and "
                        "_\n"
                        "table: sample for what is not there: part absent\n"
                        "table: sample for what is not there: part NAME\n"
                        "table: sample for what is not there: absent NAME\n");
    buf_fini(&problems);
}

/* [a] with key b_c and [a_b] with key c would both be OBX_A_B_C. */
static void sections_may_not_share_a_variable(void **state)
{
    static const struct cfg_key first[] = {
        {.name = "b_c", CFG_FIELD(struct bad_part, text), .def = "", .help = "x"}};
    static const struct cfg_key second[] = {
        {.name = "c", CFG_FIELD(struct bad_part, text), .def = "", .help = "x"}};
    static const struct cfg_section sections[] = {
        {.name = "a", CFG_PLAIN(struct bad_root, part), CFG_KEYS(first), .help = "x"},
        {.name = "a_b", CFG_PLAIN(struct bad_root, part), CFG_KEYS(second), .help = "x"},
    };
    static const struct cfg_schema schema = {
        .sections = sections, .section_count = 2, .root_size = sizeof(struct bad_root)};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(cfg_verify(&schema, NULL, &err), OBX_E_CONFIG);
    assert_string_equal(err.text, "invalid configuration: table: a_b.c: name or environment "
                                  "variable is that of another key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dump_shows_values_and_their_origin),
        cmocka_unit_test(a_dump_loads_again_to_the_same),
        cmocka_unit_test(passwords_in_urls_are_not_shown),
        cmocka_unit_test(comparison_goes_by_effect),
        cmocka_unit_test(reference_text_names_every_key),
        cmocka_unit_test(reference_markdown_has_a_list_for_each_section),
        cmocka_unit_test(example_has_every_key_and_loads),
        cmocka_unit_test(a_good_table_verifies),
        cmocka_unit_test(a_bad_table_does_not),
        cmocka_unit_test(sections_may_not_share_a_variable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
