/* Unit tests of base/bytes.h and base/alloc.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

static const struct obx_bytes absent = {NULL, 0};
static const struct obx_bytes empty = {"", 0};

/* Lets *ctx allocations through, then none. */
static bool allow_some(void *ctx)
{
    int *left = ctx;

    return (*left)-- > 0;
}

static void absent_is_not_empty(void **state)
{
    (void)state;
    assert_true(bytes_is_absent(bytes_of(NULL)));
    assert_false(bytes_is_absent(bytes_of("")));
    assert_true(bytes_equal(absent, absent));
    assert_true(bytes_equal(empty, empty));
    assert_false(bytes_equal(absent, empty));
    assert_true(bytes_is(empty, ""));
    assert_false(bytes_is(absent, ""));
}

static void compares_length_and_bytes(void **state)
{
    (void)state;
    assert_true(bytes_is(bytes_of("order"), "order"));
    assert_false(bytes_is(bytes_of("order"), "orders"));
    assert_false(bytes_is(bytes_of("orders"), "order"));
    assert_false(bytes_equal((struct obx_bytes){"a\0b", 3}, (struct obx_bytes){"a\0c", 3}));
}

static void compares_in_constant_time_the_same_way(void **state)
{
    (void)state;
    assert_true(bytes_equal_constant_time(bytes_of("token"), bytes_of("token")));
    assert_true(bytes_equal_constant_time(empty, empty));
    assert_false(bytes_equal_constant_time(bytes_of("token"), bytes_of("tokem")));
    assert_false(bytes_equal_constant_time(bytes_of("Token"), bytes_of("token")));
    assert_false(bytes_equal_constant_time(bytes_of("token"), bytes_of("toke")));
    assert_false(bytes_equal_constant_time(absent, absent));
}

static void dup_copies_with_nul(void **state)
{
    char *copy = bytes_dup((struct obx_bytes){"abcd", 3});
    int left = 0;

    (void)state;
    assert_string_equal(copy, "abc");
    obx_free(copy);
    copy = bytes_dup(absent);
    assert_string_equal(copy, "");
    obx_free(copy);
    obx_alloc_set_hook(allow_some, &left);
    assert_null(bytes_dup(empty));
    obx_alloc_set_hook(NULL, NULL);
    assert_null(bytes_dup((struct obx_bytes){"x", SIZE_MAX}));
}

static void to_text_says_whether_it_fitted(void **state)
{
    char text[4] = "zzz";

    (void)state;
    assert_true(bytes_to_text(bytes_of("abc"), text, sizeof(text)));
    assert_string_equal(text, "abc");
    assert_false(bytes_to_text(bytes_of("abcd"), text, sizeof(text)));
    assert_string_equal(text, "abc");
    assert_false(bytes_to_text(bytes_of("ab\xC3\xA9"), text, sizeof(text)));
    assert_string_equal(text, "ab");
    assert_true(bytes_to_text(absent, text, sizeof(text)));
    assert_string_equal(text, "");
    assert_false(bytes_to_text(empty, text, 0));
}

static void hash_depends_on_every_byte_and_the_length(void **state)
{
    unsigned char data[24] = {0};
    uint64_t seen[sizeof(data) * 8 + sizeof(data) + 1];
    size_t count = 0;

    (void)state;
    for (size_t len = 0; len <= sizeof(data); len++)
        seen[count++] = bytes_hash((struct obx_bytes){data, len});
    for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] = (unsigned char)(1u << (bit % 8));
        seen[count++] = bytes_hash((struct obx_bytes){data, sizeof(data)});
        data[bit / 8] = 0;
    }
    assert_int_equal(count, sizeof(seen) / sizeof(seen[0]));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
    }
    assert_true(bytes_hash(bytes_of("same")) == bytes_hash(bytes_of("same")));
}

/* Keys as applications make them spread over the low bits, which a table uses. */
static void hash_spreads_counting_keys(void **state)
{
    enum { BUCKETS = 256, KEYS = 256 * 64 };
    static unsigned load[BUCKETS];
    struct obx_buf key = {0};

    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        buf_reset(&key);
        assert_int_equal(buf_addf(&key, "customer-%u", i), OBX_OK);
        load[bytes_hash(buf_bytes(&key)) % BUCKETS]++;
    }
    buf_fini(&key);
    for (unsigned i = 0; i < BUCKETS; i++)
        assert_in_range(load[i], 16, 128);
}

static void buffer_grows_and_keeps_a_nul(void **state)
{
    struct obx_buf buf = {0};
    size_t expected = 0;

    (void)state;
    assert_true(bytes_equal(buf_bytes(&buf), empty));
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(buf_addf(&buf, "%u,", i), OBX_OK);
        expected += i < 10 ? 2 : i < 100 ? 3 : 4;
        assert_int_equal(buf.len, expected);
        assert_int_equal(buf.data[buf.len], '\0');
    }
    assert_memory_equal(buf.data, "0,1,2,", 6);
    assert_string_equal(buf.data + buf.len - 4, "999,");
    buf_reset(&buf);
    assert_int_equal(buf_add_text(&buf, "x"), OBX_OK);
    assert_int_equal(buf_add(&buf, "\0y", 2), OBX_OK);
    assert_int_equal(buf_add(&buf, NULL, 0), OBX_OK);
    assert_true(bytes_equal(buf_bytes(&buf), (struct obx_bytes){"x\0y", 3}));
    buf_fini(&buf);
    buf_fini(&buf);
    assert_null(buf.data);
}

static void buffer_is_unchanged_when_memory_ends(void **state)
{
    struct obx_buf buf = {0};
    char big[200];
    int left = 0;

    (void)state;
    memset(big, 'b', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    obx_alloc_set_hook(allow_some, &left);
    assert_int_equal(buf_add_text(&buf, "x"), OBX_E_NOMEM);
    assert_null(buf.data);
    assert_int_equal(buf.rc, OBX_E_NOMEM);
    left = 1;
    buf_reset(&buf);
    assert_int_equal(buf_add_text(&buf, "kept"), OBX_OK);
    assert_int_equal(buf_add_text(&buf, big), OBX_E_NOMEM);
    assert_int_equal(buf_addf(&buf, "%s", big), OBX_E_NOMEM);
    assert_string_equal(buf.data, "kept");
    obx_alloc_set_hook(NULL, NULL);
    buf_cut(&buf, 4);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX), OBX_E_NOMEM);
    buf_cut(&buf, 4);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX / 2), OBX_E_NOMEM);
    buf_cut(&buf, 4);
    assert_string_equal(buf.data, "kept");
    assert_int_equal(buf_reserve(&buf, 1000), OBX_OK);
    left = 0;
    obx_alloc_set_hook(allow_some, &left);
    for (int i = 0; i < 5; i++)
        assert_int_equal(buf_add_text(&buf, big), OBX_OK);
    obx_alloc_set_hook(NULL, NULL);
    buf_fini(&buf);
}

static void a_failure_sticks_until_the_buffer_is_reset_or_cut(void **state)
{
    struct obx_buf buf = {0};
    char big[200];
    int left = 1;

    (void)state;
    memset(big, 'b', sizeof(big));
    obx_alloc_set_hook(allow_some, &left);
    buf_add_text(&buf, "one");
    buf_add(&buf, big, sizeof(big));
    obx_alloc_set_hook(NULL, NULL);
    assert_int_equal(buf_add_text(&buf, "two"), OBX_E_NOMEM);
    assert_int_equal(buf_addf(&buf, "%d", 3), OBX_E_NOMEM);
    assert_int_equal(buf_reserve(&buf, 1), OBX_E_NOMEM);
    assert_string_equal(buf.data, "one");
    buf_cut(&buf, 2);
    assert_int_equal(buf_add_text(&buf, "ce"), OBX_OK);
    assert_string_equal(buf.data, "once");
    buf.rc = OBX_E_INVALID; /* the owner's own refusal */
    assert_int_equal(buf_add_text(&buf, "more"), OBX_E_INVALID);
    buf_reset(&buf);
    assert_int_equal(buf_add_text(&buf, "again"), OBX_OK);
    assert_string_equal(buf.data, "again");
    buf_fini(&buf);
}

static void allocator_obeys_the_hook_and_never_returns_null_for_nothing(void **state)
{
    int left = 2;
    char *text = NULL;
    void *p = NULL;

    (void)state;
    p = obx_malloc(0);
    assert_non_null(p);
    p = obx_realloc(p, 0);
    assert_non_null(p);
    obx_free(p);
    p = obx_calloc(0, 8);
    assert_non_null(p);
    obx_free(p);
    obx_free(NULL);
    obx_alloc_set_hook(allow_some, &left);
    text = obx_strdup("text");
    assert_string_equal(text, "text");
    p = obx_calloc(4, 4);
    assert_memory_equal(p, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_null(obx_malloc(1));
    assert_null(obx_calloc(1, 1));
    assert_null(obx_realloc(NULL, 1));
    assert_null(obx_strdup("text"));
    obx_alloc_set_hook(NULL, NULL);
    obx_free(text);
    obx_free(p);
}

static void calloc_refuses_an_overflow(void **state)
{
    volatile size_t half = SIZE_MAX / 2;

    (void)state;
    assert_null(obx_calloc(half, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_is_not_empty),
        cmocka_unit_test(compares_length_and_bytes),
        cmocka_unit_test(compares_in_constant_time_the_same_way),
        cmocka_unit_test(dup_copies_with_nul),
        cmocka_unit_test(to_text_says_whether_it_fitted),
        cmocka_unit_test(hash_depends_on_every_byte_and_the_length),
        cmocka_unit_test(hash_spreads_counting_keys),
        cmocka_unit_test(buffer_grows_and_keeps_a_nul),
        cmocka_unit_test(buffer_is_unchanged_when_memory_ends),
        cmocka_unit_test(a_failure_sticks_until_the_buffer_is_reset_or_cut),
        cmocka_unit_test(allocator_obeys_the_hook_and_never_returns_null_for_nothing),
        cmocka_unit_test(calloc_refuses_an_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
