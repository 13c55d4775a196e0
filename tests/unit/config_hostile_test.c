/* Unit tests of base/config.h against input that is meant to harm, and against memory that runs
 * out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "config_sample.h"

static void load_bytes(struct obx_bytes text, const char *expected)
{
    const struct cfg_input input = {.path = "relay.conf", .text = text};
    struct obx_buf problems = {0};
    struct cfg *cfg = NULL;

    assert_int_equal(cfg_load(&sample_schema, &input, &cfg, &problems, NULL), OBX_E_CONFIG);
    assert_string_equal(problems.data, expected);
    buf_fini(&problems);
}

static void nul_bytes_are_refused(void **state)
{
    static const char text[] = "[broker]\nuser = a\0b\n\0\n[lane \0]\n";

    (void)state;
    load_bytes((struct obx_bytes){text, sizeof(text) - 1},
               "relay.conf:2: NUL byte in the line\nrelay.conf:3: NUL byte in the line\n"
               "relay.conf:4: NUL byte in the line\n");
}

static void control_bytes_and_wrong_utf8_do_not_reach_the_terminal(void **state)
{
    (void)state;
    sample_must_fail(
        "[broker]\nuser = \x1B[2J\xC2\x9B\n\x1B[31m\xFF = 1\n[\x1B]\n", NULL,
        "relay.conf:3: broker: unknown key ?[31m?; keys are user, password, tls, "
        "window, timeout, addresses\n"
        "relay.conf:4: unknown section: [?]; sections are [broker], [lane NAME], [source "
        "NAME]\n"
        "relay.conf:2: broker.user: \"?[2J??\" does not fit; expected a text of 1 to "
        "16 bytes\n");
}

static void long_lines_are_refused_and_long_comments_are_not(void **state)
{
    struct obx_buf text = {0}, expected = {0};
    struct cfg *cfg = NULL;
    char fill[5001];

    (void)state;
    memset(fill, 'x', sizeof(fill) - 1);
    fill[sizeof(fill) - 1] = '\0';
    assert_int_equal(buf_addf(&text, "# %s\n[source a%.199s] ; %s\n", fill, fill, fill), OBX_OK);
    cfg = sample_must_load(text.data, NULL);
    assert_int_equal(strlen(((const struct sample *)cfg_root(cfg))->sources[0].name), 200);
    cfg_destroy(cfg);
    buf_reset(&text);
    assert_int_equal(buf_addf(&text, "[%s]\n[lane %.201s]\n", fill, fill), OBX_OK);
    assert_int_equal(buf_addf(&expected,
                              "relay.conf:1: unknown section: [%.91s...; sections are [broker], "
                              "[lane NAME], [source NAME]\n"
                              "relay.conf:2: lane needs a name of 1 to 200 letters, digits or "
                              "._-*#:/@+\n",
                              fill),
                     OBX_OK);
    load_bytes(buf_bytes(&text), expected.data);
    buf_fini(&expected);
    buf_fini(&text);
}

/* However long a value is, it comes through whole. */
static void nothing_is_cut_in_silence(void **state)
{
    (void)state;
    for (int len = 1; len < 9000; len += len < 300 ? 1 : 97) {
        struct obx_buf text = {0};
        struct cfg *cfg = NULL;
        const struct sample *sample = NULL;

        assert_int_equal(buf_addf(&text, "[lane a]\ntable = %0*d\npolicy = skip\n", len, 1),
                         OBX_OK);
        cfg = sample_must_load(text.data, NULL);
        sample = cfg_root(cfg);
        assert_int_equal(strlen(sample->lanes[0].table), len);
        assert_int_equal(sample->lanes[0].policy, SAMPLE_SKIP);
        cfg_destroy(cfg);
        buf_fini(&text);
    }
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %llu", &pages), 1);
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A list in as many lines as a file may have: it is read in proportion to its bytes. Copied for
 * each line it took six gigabytes, and that at each reload. */
static void a_list_in_many_lines_costs_its_bytes(void **state)
{
    enum { LINES = 65000, GROWTH_MAX = 128 * 1024 * 1024 };
    struct obx_buf text = {0};
    struct cfg *cfg = NULL;
    uint64_t before;

    (void)state;
    assert_int_equal(buf_add_text(&text, SAMPLE_LANE "[source s]\n"), OBX_OK);
    for (int i = 0; i < LINES; i++)
        assert_int_equal(buf_addf(&text, "tables = t%d\n", i), OBX_OK);
    before = resident_bytes();
    cfg = sample_must_load(text.data, NULL);
    assert_int_equal(((const struct sample *)cfg_root(cfg))->sources[0].tables.count, LINES);
    assert_string_equal(((const struct sample *)cfg_root(cfg))->sources[0].tables.items[LINES - 1],
                        "t64999");
    assert_true(resident_bytes() < before + GROWTH_MAX);
    cfg_destroy(cfg);
    buf_fini(&text);
}

static void a_text_without_end_is_refused(void **state)
{
    enum { TOO_MANY = 1024 * 1024 + 1 };
    struct obx_buf text = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;

    (void)state;
    while (text.len < TOO_MANY)
        assert_int_equal(buf_add_text(&text, "# comment\n"), OBX_OK);
    assert_int_equal(sample_load(text.data, NULL, &cfg, NULL, &err), OBX_E_CONFIG);
    assert_non_null(strstr(err.text, "more than 1048576 bytes"));
    buf_fini(&text);
}

static void the_number_of_sections_is_bounded(void **state)
{
    struct obx_buf text = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;

    (void)state;
    for (int i = 0; i < 1100; i++)
        assert_int_equal(buf_addf(&text, "[source s%d]\n", i), OBX_OK);
    assert_int_equal(sample_load(text.data, NULL, &cfg, NULL, &err), OBX_E_CONFIG);
    assert_non_null(strstr(err.text, "relay.conf:1000: more than 1000 sections"));
    buf_fini(&text);
}

/* Lines made of the pieces that mean something, in any order: only a clean answer is allowed. */
static void any_mix_of_pieces_is_answered(void **state)
{
    static const char *const pieces[] = {"[",         "]",
                                         "broker",    "lane",
                                         " ",         "x",
                                         "=",         ":",
                                         ";",         "#",
                                         "\n",        "\n",
                                         "\t",        "user",
                                         "table",     "password_file",
                                         ",",         "5",
                                         "s",         "\r",
                                         "\"",        "\xEF\xBB\xBF",
                                         "addresses", "-"};
    uint64_t random = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct obx_buf text = {0}, problems = {0};
        struct obx_err err = {0};
        struct cfg *cfg = NULL;
        enum obx_code rc = OBX_OK;

        for (int i = 0; i < 60; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            rc = buf_add_text(&text, pieces[(random >> 33) % (sizeof(pieces) / sizeof(pieces[0]))]);
            assert_int_equal(rc, OBX_OK);
        }
        rc = sample_load(text.data, NULL, &cfg, &problems, &err);
        assert_true(rc == OBX_OK || rc == OBX_E_CONFIG);
        assert_true((rc == OBX_OK) == (cfg != NULL));
        assert_true((rc == OBX_OK) == (problems.len == 0));
        assert_true(utf8_is_valid(buf_bytes(&problems)));
        cfg_destroy(cfg);
        buf_fini(&text);
        buf_fini(&problems);
    }
}

static bool allow_some(void *ctx)
{
    int *left = ctx;

    return (*left)-- > 0;
}

/* Runs work with memory for 0, 1, 2 ... allocations until it passes; every failure has to be
 * OBX_E_NOMEM. */
static void fail_each_allocation(enum obx_code (*work)(void), enum obx_code final)
{
    enum obx_code rc = OBX_E_NOMEM;
    int steps = 0;

    for (; rc == OBX_E_NOMEM; steps++) {
        int left = steps;

        obx_alloc_set_hook(allow_some, &left);
        rc = work();
        obx_alloc_set_hook(NULL, NULL);
        assert_true(rc == OBX_E_NOMEM || left >= 0);
        assert_true(steps < 10000);
    }
    assert_int_equal(rc, final);
    assert_true(steps > 3);
}

static const char *const full_env[] = {"OBX_SOURCES=a,b", "OBX_SOURCE_A_PASSWORD_FILE=/dev/null",
                                       "OBX_BROKER_ADDRESSES=x,y", NULL};
static const char full_text[] = "[broker]\nuser = a\naddresses = a\naddresses = b\n" SAMPLE_LANE;

static enum obx_code load_good(void)
{
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;
    enum obx_code rc = sample_load(full_text, full_env, &cfg, &problems, &err);

    assert_int_equal(rc, err.code);
    assert_true((rc == OBX_OK) == (cfg != NULL));
    cfg_destroy(cfg);
    buf_fini(&problems);
    return rc;
}

static enum obx_code load_bad(void)
{
    static const char *const env[] = {"OBX_FOO=1", "OBX_BROKER_TLS=x", NULL};
    struct obx_buf problems = {0};
    struct cfg *cfg = NULL;
    enum obx_code rc = sample_load("[broker]\nx = y\nuser =\n[lane\n[lane x]\n" SAMPLE_LANE
                                   "poll = 13ms\npoll = 1\n[what]\nwords\n",
                                   env, &cfg, &problems, NULL);

    assert_null(cfg);
    buf_fini(&problems);
    return rc;
}

static char own_path[] = "/tmp/obx-hostile-XXXXXX";

/* The file is its own secret, so that one file has both kinds of reading. */
static void write_own_file(void)
{
    int fd = mkstemp(own_path);

    assert_true(fd >= 0);
    assert_true(dprintf(fd, "[source a]\npassword_file = %s\n", own_path) > 0);
    close(fd);
}

static enum obx_code load_by_path(void)
{
    const struct cfg_input input = {.path = own_path};
    struct cfg *cfg = NULL;
    enum obx_code rc = cfg_load(&sample_schema, &input, &cfg, NULL, NULL);

    if (rc == OBX_OK)
        assert_memory_equal(((const struct sample *)cfg_root(cfg))->sources[0].password,
                            "[source a]\npassword_file = ", 27);
    cfg_destroy(cfg);
    return rc;
}

static enum obx_code verify_sample(void)
{
    return cfg_verify(&sample_schema, NULL, NULL);
}

static struct cfg *one, *other;

static enum obx_code print_all(void)
{
    struct obx_buf text = {0};
    struct cfg_changes changes = {0};
    enum obx_code rc = cfg_dump(one, &text);

    if (rc == OBX_OK)
        rc = cfg_reference_text(&sample_schema, &text);
    if (rc == OBX_OK)
        rc = cfg_reference_markdown(&sample_schema, &text);
    if (rc == OBX_OK)
        rc = cfg_reference_example(&sample_schema, &text);
    if (rc == OBX_OK)
        rc = cfg_compare(one, other, &changes);
    buf_fini(&text);
    buf_fini(&changes.lines);
    return rc;
}

static void memory_may_end_at_any_allocation(void **state)
{
    (void)state;
    fail_each_allocation(load_good, OBX_OK);
    fail_each_allocation(load_bad, OBX_E_CONFIG);
    write_own_file();
    fail_each_allocation(load_by_path, OBX_OK);
    unlink(own_path);
    fail_each_allocation(verify_sample, OBX_OK);
    one = sample_must_load(full_text, full_env);
    other = sample_must_load("", NULL);
    fail_each_allocation(print_all, OBX_OK);
    cfg_destroy(one);
    cfg_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(control_bytes_and_wrong_utf8_do_not_reach_the_terminal),
        cmocka_unit_test(long_lines_are_refused_and_long_comments_are_not),
        cmocka_unit_test(nothing_is_cut_in_silence),
        cmocka_unit_test(a_list_in_many_lines_costs_its_bytes),
        cmocka_unit_test(a_text_without_end_is_refused),
        cmocka_unit_test(the_number_of_sections_is_bounded),
        cmocka_unit_test(any_mix_of_pieces_is_answered),
        cmocka_unit_test(memory_may_end_at_any_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
