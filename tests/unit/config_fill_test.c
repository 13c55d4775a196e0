/*
 * Unit tests of what a row of a configuration table can fill, of values that stand in for others,
 * and of what a change restarts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/config.h"

enum { PART_A = 2, PART_B = 4, PART_C = 8 };

struct option {
    const char *name;
    uint64_t large;
    uint16_t small;
    const char *queue;
};

struct root {
    const char *text;
    bool insecure;
    uint16_t port;
    uint32_t wait_s;
    size_t size;
    const char *const *items;
    size_t item_count;
    struct option common;
    struct option *options;
    size_t option_count;
    struct option *rules;
    size_t rule_count;
    char *made; /* by finish */
};

#define ROW(T, field, key, kind, value, lo, hi, parts)                                             \
    CFG_ROW(T, field, key, kind, value, lo, hi, parts, "Help.")

static const struct cfg_key main_keys[] = {
    ROW(struct root, text, "text", CFG_OPTIONAL, "", 0, 64, CFG_PROCESS),
    ROW(struct root, insecure, "verify", CFG_NOT, "yes", 0, 0, PART_B),
    ROW(struct root, port, "port", CFG_COUNT, "70", 0, 0, CFG_PROCESS),
    CFG_NUMBER(struct root, wait_s, "wait", CFG_SECONDS, 1500, 0, 3600000, PART_A, "Help."),
    ROW(struct root, size, "size", CFG_SIZE, "4KiB", 1, 0, 0),
    CFG_LIST_ROW(struct root, items, item_count, "items", "a, b", 0, 4, PART_B, "Help."),
};
static const struct cfg_key common_keys[] = {
    ROW(struct root, common.large, "large", CFG_SIZE, "1KiB", 2, 9999, PART_A),
    CFG_NUMBER(struct root, common.small, "small", CFG_COUNT, 7, 5, 99, PART_A, "Help."),
};
static const struct cfg_key option_keys[] = {
    {.name = "large",
     .type = CFG_SIZE,
     CFG_FIELD(struct option, large),
     .like = "common",
     .def = "0",
     .min = 2,
     .max = 9999,
     .restarts = PART_A,
     .help = "Help."},
    {.name = "small",
     .type = CFG_COUNT,
     CFG_FIELD(struct option, small),
     .like = "common",
     .def = "0",
     .min = 5,
     .max = 99,
     .restarts = PART_A,
     .help = "Help."},
    ROW(struct option, queue, "queue", CFG_OPTIONAL, "", 0, 64, PART_A | PART_B),
};
static const struct cfg_key rule_keys[] = {
    ROW(struct option, queue, "queue", CFG_OPTIONAL, "", 0, 64, PART_B),
    ROW(struct option, small, "small", CFG_COUNT, "1", 0, 0, PART_C),
};

static const struct cfg_section sections[] = {
    {.name = "main", .item_size = sizeof(struct root), CFG_KEYS(main_keys), .help = "Help."},
    {.name = "common", .item_size = sizeof(struct root), CFG_KEYS(common_keys), .help = "Help."},
    {.name = "option",
     CFG_NAMED(struct root, options, option_count, struct option, name),
     CFG_KEYS(option_keys),
     .help = "Help."},
    {.name = "rule",
     CFG_NAMED(struct root, rules, rule_count, struct option, name),
     CFG_KEYS(rule_keys),
     .restarts = PART_C,
     .help = "Help."},
};

static enum obx_code finish(void *p, struct cfg *cfg)
{
    struct root *root = p;

    root->made = cfg_take(cfg, 3);
    if (root->made == NULL)
        return OBX_E_NOMEM;
    root->made[0] = root->options[0].name[0];
    return OBX_OK;
}

static const struct cfg_schema schema = {.sections = sections,
                                         .section_count = sizeof(sections) / sizeof(sections[0]),
                                         .root_size = sizeof(struct root),
                                         .finish = finish};

static enum obx_code load(const char *text, struct cfg **out, struct obx_buf *problems)
{
    const struct cfg_input input = {.path = "x.conf", .text = bytes_of(text)};

    return cfg_load(&schema, &input, out, problems, NULL);
}

static struct cfg *good(const char *text)
{
    struct obx_buf problems = {0};
    struct cfg *cfg = NULL;

    if (load(text, &cfg, &problems) != OBX_OK)
        fail_msg("%s", problems.data);
    buf_fini(&problems);
    return cfg;
}

static void the_table_is_sound(void **state)
{
    struct obx_buf problems = {0};

    (void)state;
    if (cfg_verify(&schema, &problems, NULL) != OBX_OK)
        fail_msg("%s", problems.data);
    buf_fini(&problems);
}

static void a_row_fills_the_field_in_its_own_form(void **state)
{
    struct cfg *cfg = good("[option o]\n");
    const struct root *root = cfg_root(cfg);

    (void)state;
    assert_null(root->text);
    assert_false(root->insecure);
    assert_int_equal(root->port, 70);
    assert_int_equal(root->wait_s, 2);
    assert_int_equal(root->size, 4096);
    assert_int_equal(root->item_count, 2);
    assert_string_equal(root->items[1], "b");
    assert_string_equal(root->made, "o");
    cfg_destroy(cfg);
    cfg = good("[main]\ntext = t\nverify = no\nport = 65535\nwait = 3s\nitems =\n[option o]\n");
    root = cfg_root(cfg);
    assert_string_equal(root->text, "t");
    assert_true(root->insecure);
    assert_int_equal(root->port, 65535);
    assert_int_equal(root->wait_s, 3);
    assert_int_equal(root->item_count, 0);
    cfg_destroy(cfg);
}

static void a_field_bounds_its_number(void **state)
{
    struct obx_buf problems = {0};
    struct cfg *cfg = NULL;

    (void)state;
    assert_int_equal(load("[main]\nport = 65536\n[option o]\n", &cfg, &problems), OBX_E_CONFIG);
    assert_string_equal(problems.data,
                        "x.conf:2: main.port: \"65536\" does not fit; expected a number\n");
    buf_fini(&problems);
}

static void zero_takes_the_value_of_the_common_key(void **state)
{
    struct cfg *cfg = good("[option a]\nlarge = 9\n[option b]\nsmall = 0\n[common]\nsmall = 8\n");
    const struct root *root = cfg_root(cfg);
    struct obx_buf problems = {0};

    (void)state;
    assert_int_equal(root->options[0].large, 9);
    assert_int_equal(root->options[0].small, 8);
    assert_int_equal(root->options[1].large, 1024);
    assert_int_equal(root->options[1].small, 8);
    cfg_destroy(cfg);
    assert_int_equal(load("[option a]\nsmall = 4\n", &cfg, &problems), OBX_E_CONFIG);
    assert_string_equal(problems.data, "x.conf:2: option.a.small: \"4\" does not fit; expected a "
                                       "number from 5 to 99, or 0\n");
    buf_fini(&problems);
}

static void a_default_is_shown_in_its_largest_unit(void **state)
{
    struct obx_buf text = {0};
    struct cfg *cfg = good("[option o]\n");

    (void)state;
    assert_int_equal(cfg_dump(cfg, &text), OBX_OK);
    assert_non_null(strstr(text.data, "\nwait = 1500ms ; default\n"));
    assert_non_null(strstr(text.data, "\nsmall = 7 ; default\n"));
    buf_reset(&text);
    assert_int_equal(cfg_reference_example(&schema, &text), OBX_OK);
    assert_non_null(
        strstr(text.data, "default 1500ms; reloadable; OBX_MAIN_WAIT)\n#wait = 1500ms\n"));
    buf_fini(&text);
    cfg_destroy(cfg);
}

static void expect_changes(const char *a, const char *b, const char *expected)
{
    struct cfg *before = good(a), *after = good(b);
    struct cfg_changes changes = {0};

    assert_int_equal(cfg_compare(before, after, &changes), OBX_OK);
    assert_string_equal(changes.lines.len == 0 ? "" : changes.lines.data, expected);
    buf_fini(&changes.lines);
    cfg_destroy(before);
    cfg_destroy(after);
}

static void a_change_is_told_where_it_was_made(void **state)
{
    (void)state;
    expect_changes("[option a]\n", "[option a]\n[common]\nsmall = 8\n", "common.small: 7 -> 8\n");
    expect_changes("[option a]\n", "[option a]\nsmall = 7\n", "option.a.small: 0 -> 7\n");
    expect_changes("[option a]\nlarge = 1KiB\n", "[option a]\nlarge = 1024\n", "");
    expect_changes("[option a]\n", "[option a]\n[main]\ntext = x\n",
                   "main.text:  -> x (needs a restart)\n");
}

static bool is_same(const char *a, const char *b, unsigned parts, const char *kind,
                    const char *name)
{
    struct cfg *before = good(a), *after = good(b);
    bool same = cfg_same_part(before, after, parts, kind, name) &&
                cfg_same_part(after, before, parts, kind, name);

    cfg_destroy(before);
    cfg_destroy(after);
    return same;
}

static void a_part_differs_by_its_own_keys(void **state)
{
    static const char *const base = "[option a]\n[option b]\n[rule r]\n[rule s]\n";

    (void)state;
    assert_true(is_same(base, base, PART_A | PART_B | PART_C, NULL, NULL));
    assert_false(is_same(base, "[main]\nwait = 9s\n[option a]\n", PART_A, "option", "a"));
    assert_true(is_same(base, "[main]\nwait = 9s\n[option a]\n", PART_B, NULL, NULL));
    /* By effect: the value that stands in for 0 is the same. */
    assert_true(is_same(base, "[option a]\nsmall = 7\n", PART_A, "option", "a"));
    assert_false(is_same(base, "[option a]\n[common]\nsmall = 8\n", PART_A, "option", "a"));
    /* Another section of the kind has no bearing; one that is gone has. */
    assert_true(is_same(base, "[option a]\n[option b]\nsmall = 9\n", PART_A, "option", "a"));
    assert_false(is_same(base, "[option b]\n", PART_A, "option", "a"));
}

static void sections_that_come_or_go_count_where_they_say_so(void **state)
{
    static const char *const base = "[option a]\n[rule r]\n[rule s]\n";

    (void)state;
    assert_false(is_same(base, "[option a]\n[rule r]\n", PART_C, NULL, NULL));
    assert_false(is_same(base, "[option a]\n[rule s]\n[rule r]\n", PART_C, NULL, NULL));
    assert_true(is_same(base, "[rule r]\n[option a]\n[rule s]\n", PART_C, NULL, NULL));
    /* A part for which they do not is touched by what they set. */
    assert_true(is_same(base, "[option a]\n[rule s]\n", PART_B, NULL, NULL));
    assert_false(is_same(base, "[option a]\n[rule s]\nqueue = q\n", PART_B, NULL, NULL));
    assert_true(is_same(base, "[option a]\n[option b]\n", PART_B, NULL, NULL));
    assert_false(is_same(base, "[option a]\n[option b]\nqueue = q\n", PART_B, NULL, NULL));
}

static bool allow_some(void *ctx)
{
    int *left = ctx;

    return (*left)-- > 0;
}

static void without_memory_nothing_is_half_made(void **state)
{
    enum obx_code rc = OBX_E_NOMEM;

    (void)state;
    for (int allowed = 0; rc != OBX_OK; allowed++) {
        struct cfg *cfg = NULL;
        int left = allowed;

        assert_true(allowed < 1000);
        obx_alloc_set_hook(allow_some, &left);
        rc = load("[option a]\nqueue = q\n[main]\nitems = a, b, c\n", &cfg, NULL);
        obx_alloc_set_hook(NULL, NULL);
        assert_true(rc == OBX_OK || rc == OBX_E_NOMEM);
        assert_true((cfg != NULL) == (rc == OBX_OK));
        cfg_destroy(cfg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(a_row_fills_the_field_in_its_own_form),
        cmocka_unit_test(a_field_bounds_its_number),
        cmocka_unit_test(zero_takes_the_value_of_the_common_key),
        cmocka_unit_test(a_default_is_shown_in_its_largest_unit),
        cmocka_unit_test(a_change_is_told_where_it_was_made),
        cmocka_unit_test(a_part_differs_by_its_own_keys),
        cmocka_unit_test(sections_that_come_or_go_count_where_they_say_so),
        cmocka_unit_test(without_memory_nothing_is_half_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
