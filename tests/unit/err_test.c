/* Unit tests of obx/err.h: the list has no gaps, texts are whole and bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "obx/err.h"

static const struct {
    enum obx_code code;
    const char *name;
} all[] = {
#define OBX_X(name, value, action, text) {name, #name},
    OBX_CODES(OBX_X)
#undef OBX_X
};
enum { ALL = sizeof(all) / sizeof(all[0]) };

static void every_code_is_unique_and_has_name_and_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        assert_string_equal(obx_code_name(all[i].code), all[i].name);
        assert_true(strlen(obx_code_text(all[i].code)) > 3);
        assert_true(obx_code_action(all[i].code) <= OBX_DO_STOP);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all[i].code, all[j].code);
            assert_string_not_equal(obx_code_text(all[i].code), obx_code_text(all[j].code));
        }
    }
}

static void actions_say_what_to_do(void **state)
{
    (void)state;
    assert_int_equal(obx_code_action(OBX_OK), OBX_DO_NOTHING);
    assert_int_equal(obx_code_action(OBX_E_NOMEM), OBX_DO_RETRY);
    assert_int_equal(obx_code_action(OBX_E_DB_GONE), OBX_DO_RECONNECT);
    assert_int_equal(obx_code_action(OBX_E_DB_DATA), OBX_DO_PARK);
    assert_int_equal(obx_code_action(OBX_E_CONFIG), OBX_DO_STOP);
}

static void a_value_outside_the_list_is_no_surprise(void **state)
{
    (void)state;
    assert_string_equal(obx_code_text((enum obx_code)99), "unknown error");
    assert_string_equal(obx_code_name((enum obx_code)99), "OBX_E_UNKNOWN");
    assert_int_equal(obx_code_action((enum obx_code)99), OBX_DO_STOP);
}

static void fail_fills_code_number_and_text(void **state)
{
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(obx_fail(&err, OBX_E_NOMEM, "batch of %d rows", 7), OBX_E_NOMEM);
    assert_int_equal(err.code, OBX_E_NOMEM);
    assert_int_equal(err.sys, 0);
    assert_string_equal(err.text, "out of memory: batch of 7 rows");
    assert_int_equal(obx_fail_sys(&err, OBX_E_DB_GONE, 2013, "ping"), OBX_E_DB_GONE);
    assert_int_equal(err.sys, 2013);
    assert_string_equal(err.text, "database connection lost: ping");
    obx_fail(&err, OBX_E_CLOSED, "%s", "");
    assert_string_equal(err.text, "already closed or closing");
}

static void fail_errno_adds_the_system_s_text(void **state)
{
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(obx_fail_errno(&err, OBX_E_SYSTEM, ENOENT, "open %s", "x"), OBX_E_SYSTEM);
    assert_int_equal(err.sys, ENOENT);
    assert_string_equal(err.text,
                        "operating system call failed: open x: No such file or directory");
    assert_int_equal(obx_fail_errno(NULL, OBX_E_SYSTEM, -1, "x"), OBX_E_SYSTEM);
    obx_fail_errno(&err, OBX_E_SYSTEM, 9999, "x");
    assert_non_null(strstr(err.text, "9999"));
}

static void null_err_is_fine(void **state)
{
    (void)state;
    assert_int_equal(obx_fail(NULL, OBX_E_FULL, "x"), OBX_E_FULL);
    assert_int_equal(obx_fail_sys(NULL, OBX_E_FULL, 1, "x"), OBX_E_FULL);
    obx_err_context(NULL, "x");
    obx_err_clear(NULL);
}

static void context_goes_before_the_text(void **state)
{
    struct obx_err err = {0};

    (void)state;
    obx_fail_sys(&err, OBX_E_DB_AUTH, 1045, "user %s", "relay");
    obx_err_context(&err, "source %s", "shop");
    assert_string_equal(err.text, "source shop: database refused user or password: user relay");
    assert_int_equal(err.code, OBX_E_DB_AUTH);
    assert_int_equal(err.sys, 1045);
    obx_err_clear(&err);
    assert_int_equal(err.code, OBX_OK);
    assert_string_equal(err.text, "");
    obx_err_context(&err, "only");
    assert_string_equal(err.text, "only");
}

static void the_old_text_may_be_among_the_arguments(void **state)
{
    struct obx_err err = {0};

    (void)state;
    obx_fail(&err, OBX_E_TIMEOUT, "first");
    obx_fail(&err, OBX_E_CLOSED, "%s", err.text);
    assert_string_equal(err.text, "already closed or closing: deadline passed: first");
    obx_fail(&err, OBX_E_CLOSED, "first");
    obx_err_context(&err, "%s", err.text);
    assert_string_equal(err.text,
                        "already closed or closing: first: already closed or closing: first");
}

static void long_texts_are_cut_at_whole_characters(void **state)
{
    char text[1024];

    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        struct obx_err err = {0};

        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4);
        obx_fail(&err, OBX_E_FORMAT, "%s", text);
        assert_in_range(strlen(err.text), OBX_ERR_TEXT_MAX - 4, OBX_ERR_TEXT_MAX - 1);
        assert_true(utf8_is_valid(bytes_of(err.text)));
        obx_err_context(&err, "%s", text);
        assert_in_range(strlen(err.text), OBX_ERR_TEXT_MAX - 4, OBX_ERR_TEXT_MAX - 1);
        assert_true(utf8_is_valid(bytes_of(err.text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_is_unique_and_has_name_and_text),
        cmocka_unit_test(actions_say_what_to_do),
        cmocka_unit_test(a_value_outside_the_list_is_no_surprise),
        cmocka_unit_test(fail_fills_code_number_and_text),
        cmocka_unit_test(fail_errno_adds_the_system_s_text),
        cmocka_unit_test(null_err_is_fine),
        cmocka_unit_test(context_goes_before_the_text),
        cmocka_unit_test(the_old_text_may_be_among_the_arguments),
        cmocka_unit_test(long_texts_are_cut_at_whole_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
