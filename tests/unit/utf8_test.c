/* Unit tests of base/utf8.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/utf8.h"

static void decodes_characters_of_every_length(void **state)
{
    static const struct {
        const char *text;
        uint32_t cp;
    } cases[] = {
        {"A", 'A'}, {"\xC3\xA9", 0xE9}, {"\xE2\x82\xAC", 0x20AC}, {"\xF0\x9F\x93\xA6", 0x1F4E6}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct obx_bytes b = bytes_of(cases[i].text);
        uint32_t cp = 0;

        assert_int_equal(utf8_next(b, &cp), b.len);
        assert_int_equal(cp, cases[i].cp);
    }
}

static void refuses_what_is_no_utf8(void **state)
{
    static const char *const cases[] = {
        "\x80",             /* continuation alone */
        "\xC0\x80",         /* overlong NUL */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* surrogate */
        "\xF4\x90\x80\x80", /* above U+10FFFF */
        "\xF5\x80\x80\x80", /* lead byte that cannot be */
        "\xE2\x82",         /* cut off */
        "\xE2\x28\xA1",     /* bad continuation */
    };
    uint32_t cp = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(utf8_next(bytes_of(cases[i]), &cp), 0);
        assert_false(utf8_is_valid(bytes_of(cases[i])));
    }
    assert_int_equal(utf8_next((struct obx_bytes){"", 0}, &cp), 0);
}

static void validates_whole_texts(void **state)
{
    (void)state;
    assert_true(utf8_is_valid((struct obx_bytes){"", 0}));
    assert_true(utf8_is_valid((struct obx_bytes){"a\0b", 3}));
    assert_true(utf8_is_valid(bytes_of("gr\xC3\xBC\xC3\x9F")));
    assert_false(utf8_is_valid(bytes_of("gr\xFC\xDF")));
}

static void cuts_at_whole_characters(void **state)
{
    struct obx_bytes b = bytes_of("a\xE2\x82\xAC"
                                  "\xF0\x9F\x93\xA6");
    static const size_t expected[] = {0, 1, 1, 1, 4, 4, 4, 4, 8, 8};

    (void)state;
    for (size_t max = 0; max < sizeof(expected) / sizeof(expected[0]); max++)
        assert_int_equal(utf8_cut(b, max), expected[max]);
    assert_int_equal(utf8_cut(bytes_of("\xFF\xFF\xFF\xFF\xFF"), 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_characters_of_every_length),
        cmocka_unit_test(refuses_what_is_no_utf8),
        cmocka_unit_test(validates_whole_texts),
        cmocka_unit_test(cuts_at_whole_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
