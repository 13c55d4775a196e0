/*
 * Unit test of the partition of a key: the vectors that docs/message-format.md publishes, and
 * whether keys as they occur are spread evenly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/bytes.h"
#include "base/partition.h"

enum { KEYS = 10000 };

/* The same as zlib.crc32() in Python, CRC32() in MySQL, hash/crc32 in Go. */
static void the_published_vectors(void **state)
{
    static const struct {
        const char *key;
        uint32_t crc;
        unsigned of_8, of_12;
    } vectors[] = {
        {"", 0x00000000, 0, 0},
        {"123456789", 0xcbf43926, 6, 2},
        {"customer-42", 0x49fda815, 5, 5},
        {"order/4711", 0x5c899eaf, 7, 7},
        {"M\xc3\xbcller", 0x6c47b7c5, 5, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct obx_bytes key = bytes_of(vectors[i].key);

        assert_int_equal(partition_crc(key), vectors[i].crc);
        assert_int_equal(partition_of(key, 8), vectors[i].of_8);
        assert_int_equal(partition_of(key, 12), vectors[i].of_12);
        assert_int_equal(partition_of(key, 1), 0);
    }
}

struct shape {
    const char *before, *after;
    int digits;
};

/* Numbered keys differ in their last bytes only, which is where a weak hash puts them together. */
static void expect_even(const struct shape *shape, unsigned count)
{
    unsigned keys[PARTITIONS_MAX] = {0};
    char key[64];

    for (unsigned i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "%s%0*u%s", shape->before, shape->digits, i, shape->after);
        keys[partition_of(bytes_of(key), count)]++;
    }
    for (unsigned p = 0; p < count; p++) {
        if (keys[p] < KEYS / count * 8 / 10 || keys[p] > KEYS / count * 12 / 10)
            fail_msg("%s: partition %u of %u has %u keys of %d", key, p, count, keys[p], KEYS);
    }
}

static void numbered_keys_are_spread_evenly(void **state)
{
    static const struct shape shapes[] = {
        {"", "", 1}, {"customer-", "", 1}, {"", "", 8}, {"order/", "/x", 1}};
    static const unsigned counts[] = {2, 3, 7, 8, 12, 16};

    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
            expect_even(&shapes[s], counts[c]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors),
        cmocka_unit_test(numbered_keys_are_spread_evenly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
