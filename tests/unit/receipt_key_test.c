/* Tokens of receipts, lists of groups, and what reports come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "outbox/receipt_key.h"

static struct receipt_keys two_keys(void)
{
    struct receipt_keys keys = {.count = 2};

    keys.secrets[0] = (struct receipt_secret){.version = 7, .bytes = "new", .len = 3};
    keys.secrets[1] = (struct receipt_secret){.version = 3, .bytes = "old", .len = 3};
    return keys;
}

static struct receipt_groups groups_of(const char *text)
{
    struct receipt_groups groups;

    assert_true(receipt_groups_parse(bytes_of(text), &groups));
    return groups;
}

static enum receipt_token_fate check(const struct receipt_keys *keys, const char *id,
                                     const char *token, const char *group)
{
    return receipt_token_check(keys, bytes_of(id), bytes_of(token), bytes_of(group));
}

static void a_token_proves_its_message(void **state)
{
    const struct receipt_keys keys = two_keys();
    const struct receipt_groups groups = groups_of(" stock, mail");
    struct receipt_keys old = two_keys();
    char token[RECEIPT_TOKEN_SIZE];
    char old_token[RECEIPT_TOKEN_SIZE];

    (void)state;
    assert_true(receipt_token_make(&keys, bytes_of("m1"), &groups, token));
    assert_memory_equal(token, "7.", 2);
    assert_string_equal(token + 2 + RECEIPT_MAC_HEX, ".stock,mail");
    assert_int_equal(check(&keys, "m1", token, "stock"), RECEIPT_TOKEN_GOOD);
    assert_int_equal(check(&keys, "m1", token, "mail"), RECEIPT_TOKEN_GOOD);
    assert_int_equal(check(&keys, "m2", token, "mail"), RECEIPT_TOKEN_FORGED);
    /* One of an earlier secret stays good. */
    old.secrets[0] = old.secrets[1];
    old.count = 1;
    assert_true(receipt_token_make(&old, bytes_of("m1"), &groups, old_token));
    assert_int_equal(check(&keys, "m1", old_token, "mail"), RECEIPT_TOKEN_GOOD);
    assert_int_equal(check(&old, "m1", token, "mail"), RECEIPT_TOKEN_UNKNOWN);
    assert_string_not_equal(token + 2, old_token + 2);
}

/* The holder of a token reports for the groups in it, and adds none. */
static void a_token_is_for_its_groups(void **state)
{
    static const char *const lists[] = {
        ".stock", ".stock,mail,x", ".stock,mai",       ".mail,stock", ".stock, mail", ".",
        "",       ",stock,mail",   ".stock,mail,stock"};
    const struct receipt_keys keys = two_keys();
    const struct receipt_groups groups = groups_of("stock,mail");
    char token[RECEIPT_TOKEN_SIZE];

    (void)state;
    assert_true(receipt_token_make(&keys, bytes_of("m"), &groups, token));
    assert_int_equal(check(&keys, "m", token, "invented"), RECEIPT_TOKEN_UNASKED);
    assert_int_equal(check(&keys, "m", token, "stock,mail"), RECEIPT_TOKEN_UNASKED);
    assert_int_equal(check(&keys, "m", token, ""), RECEIPT_TOKEN_UNASKED);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char other[RECEIPT_TOKEN_SIZE + 32];

        (void)snprintf(other, sizeof(other), "%.*s%s", 2 + RECEIPT_MAC_HEX, token, lists[i]);
        assert_int_equal(check(&keys, "m", other, "stock"), RECEIPT_TOKEN_FORGED);
    }
}

static void the_longest_list_has_room(void **state)
{
    const struct receipt_keys keys = {
        .secrets = {{.version = UINT32_MAX, .bytes = "secret", .len = 6}}, .count = 1};
    struct receipt_groups groups = {.count = RECEIPT_GROUPS_MAX};
    char names[RECEIPT_GROUPS_MAX][RECEIPT_GROUP_MAX + 1];
    char token[RECEIPT_TOKEN_SIZE];

    (void)state;
    for (size_t i = 0; i < RECEIPT_GROUPS_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%064zu", i);
        groups.items[i] = bytes_of(names[i]);
    }
    assert_true(receipt_token_make(&keys, bytes_of("m"), &groups, token));
    assert_int_equal(strlen(token), RECEIPT_TOKEN_SIZE - 1);
    assert_int_equal(check(&keys, "m", token, names[15]), RECEIPT_TOKEN_GOOD);
}

static void every_other_token_is_forged(void **state)
{
    static const char *const wrong[] = {"",       ".",     "7",     "7.",
                                        "7.0",    "x.ab",  "-7.a",  " 7.a",
                                        "+7.abc", "07.ab", "7,abc", "99999999999.a"};
    const struct receipt_keys keys = two_keys();
    const struct receipt_groups groups = groups_of("g");
    char token[RECEIPT_TOKEN_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(check(&keys, "m", wrong[i], "g"), RECEIPT_TOKEN_FORGED);
    assert_int_equal(
        receipt_token_check(&keys, bytes_of("m"), (struct obx_bytes){NULL, 0}, bytes_of("g")),
        RECEIPT_TOKEN_FORGED);
    assert_true(receipt_token_make(&keys, bytes_of("m"), &groups, token));
    for (size_t i = 2; token[i] != '\0'; i++) {
        char broken[RECEIPT_TOKEN_SIZE];

        memcpy(broken, token, sizeof(broken));
        broken[i] = broken[i] == '0' ? '1' : '0';
        assert_int_equal(check(&keys, "m", broken, "g"), RECEIPT_TOKEN_FORGED);
        assert_int_equal(
            receipt_token_check(&keys, bytes_of("m"), (struct obx_bytes){token, i}, bytes_of("g")),
            RECEIPT_TOKEN_FORGED);
    }
}

static void without_a_secret_there_is_no_token(void **state)
{
    const struct receipt_keys none = {.count = 0};
    const struct receipt_groups groups = groups_of("g");
    char token[RECEIPT_TOKEN_SIZE];

    (void)state;
    assert_false(receipt_token_make(&none, bytes_of("m"), &groups, token));
    assert_string_equal(token, "");
}

static void lists_of_groups(void **state)
{
    static const char *const wrong[] = {"",    " ",   ",",     "a,",       ",a",  "a,,b",
                                        "a b", "a,a", "a, a ", "\xc3\xa9", "a\tb"};
    struct receipt_groups groups;
    char longest[RECEIPT_GROUP_MAX + 2];

    (void)state;
    assert_true(receipt_groups_parse(bytes_of(" stock ,mail,a.b-c_d"), &groups));
    assert_int_equal(groups.count, 3);
    assert_int_equal(receipt_groups_find(&groups, bytes_of("mail")), 1);
    assert_true(receipt_groups_find(&groups, bytes_of("mai")) == SIZE_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(receipt_groups_parse(bytes_of(wrong[i]), &groups));
    assert_false(receipt_groups_parse((struct obx_bytes){NULL, 0}, &groups));
    memset(longest, 'x', sizeof(longest));
    longest[RECEIPT_GROUP_MAX] = '\0';
    assert_true(receipt_groups_parse(bytes_of(longest), &groups));
    longest[RECEIPT_GROUP_MAX] = 'x';
    longest[RECEIPT_GROUP_MAX + 1] = '\0';
    assert_false(receipt_groups_parse(bytes_of(longest), &groups));
    assert_true(receipt_groups_parse(bytes_of("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"), &groups));
    assert_false(
        receipt_groups_parse(bytes_of("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"), &groups));
}

static void what_reports_come_to(void **state)
{
    struct receipt_tally tally = {.reported = 0};

    (void)state;
    assert_false(receipt_tally_is_complete(&tally)); /* nobody asked is nobody's consent */
    assert_true(receipt_groups_parse(bytes_of("a,b"), &tally.groups));
    assert_false(receipt_tally_add(&tally, bytes_of("c"), true));
    assert_false(receipt_tally_is_complete(&tally));
    assert_true(receipt_tally_add(&tally, bytes_of("b"), false));
    assert_true(receipt_tally_add(&tally, bytes_of("b"), false));
    assert_false(receipt_tally_is_complete(&tally));
    assert_true(receipt_tally_add(&tally, bytes_of("a"), false));
    assert_true(receipt_tally_is_complete(&tally));
    assert_false(tally.is_rejected);
    tally.reported = 0;
    assert_true(receipt_tally_add(&tally, bytes_of("a"), true));
    assert_true(receipt_tally_is_complete(&tally)); /* one no is enough */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_proves_its_message),
        cmocka_unit_test(a_token_is_for_its_groups),
        cmocka_unit_test(the_longest_list_has_room),
        cmocka_unit_test(every_other_token_is_forged),
        cmocka_unit_test(without_a_secret_there_is_no_token),
        cmocka_unit_test(lists_of_groups),
        cmocka_unit_test(what_reports_come_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
