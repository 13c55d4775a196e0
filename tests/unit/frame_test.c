/*
 * Unit tests of how bytes from the broker become frames: within bounds, in any pieces, and with one
 * unreadable message costing no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "frame.h"

enum { DEEP = 100000, HUGE_LEN = 3 * 1024 * 1024, PAGE = 4096, OVERHEAD = 8, EACH = 5 };

/* n arrays within each other below a name of one byte; the caller frees it. */
static uint8_t *nested(unsigned n, size_t *len)
{
    uint8_t *table = calloc(1, 2 + (size_t)n * EACH);

    assert_non_null(table);
    *len = 2 + (size_t)n * EACH;
    table[0] = 1;
    table[1] = 'n';
    for (unsigned i = 0; i < n; i++) {
        uint8_t *at = table + 2 + (size_t)i * EACH;
        const uint32_t inner = (n - 1 - i) * EACH;

        at[0] = 'A';
        at[1] = (uint8_t)(inner >> 24);
        at[2] = (uint8_t)(inner >> 16);
        at[3] = (uint8_t)(inner >> 8);
        at[4] = (uint8_t)inner;
    }
    return table;
}

static void what_is_nested_too_deep_becomes_bytes(void **state)
{
    const unsigned depths[] = {1, FRAME_DEPTH_MAX, FRAME_DEPTH_MAX + 1, DEEP};

    (void)state;
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        size_t len = 0;
        uint8_t *table = nested(depths[i], &len);

        assert_true(frame_flatten_table(table, len));
        for (unsigned k = 0; k < depths[i]; k++)
            assert_int_equal(table[2 + (size_t)k * EACH], k == FRAME_DEPTH_MAX ? 'x' : 'A');
        free(table);
    }
}

static void a_table_that_lies_is_refused(void **state)
{
    uint8_t name_too_long[] = {9, 'n', 'V'};
    uint8_t no_value[] = {1, 'n'};
    uint8_t unknown_kind[] = {1, 'n', '?', 0};
    uint8_t short_number[] = {1, 'n', 'l', 0, 0};
    uint8_t text_too_long[] = {1, 'n', 'S', 0, 0, 0, 9, 'x'};
    uint8_t text_far_too_long[] = {1, 'n', 'S', 0xff, 0xff, 0xff, 0xff, 'x'};
    uint8_t inner_too_long[] = {1, 'n', 'F', 0, 0, 0, 3, 1, 'i', 'S', 0, 0, 0, 0};

    (void)state;
    assert_false(frame_flatten_table(name_too_long, sizeof(name_too_long)));
    assert_false(frame_flatten_table(no_value, sizeof(no_value)));
    assert_false(frame_flatten_table(unknown_kind, sizeof(unknown_kind)));
    assert_false(frame_flatten_table(short_number, sizeof(short_number)));
    assert_false(frame_flatten_table(text_too_long, sizeof(text_too_long)));
    assert_false(frame_flatten_table(text_far_too_long, sizeof(text_far_too_long)));
    assert_false(frame_flatten_table(inner_too_long, sizeof(inner_too_long)));
    assert_true(frame_flatten_table(no_value, 0));
}

static void the_number_of_values_is_bounded(void **state)
{
    const size_t most = FRAME_ELEMENTS_MAX;
    uint8_t *table = calloc(2, most + 1); /* an empty name and a void each */

    (void)state;
    assert_non_null(table);
    for (size_t i = 0; i <= most; i++)
        table[2 * i + 1] = 'V';
    assert_true(frame_flatten_table(table, 2 * most));
    assert_false(frame_flatten_table(table, 2 * (most + 1)));
    free(table);
}

static void give(struct inbuf *in, const uint8_t *p, size_t len)
{
    while (len > 0) {
        size_t room = 0;
        uint8_t *to = inbuf_room(in, &room);
        const size_t part = len < room ? len : room;

        assert_non_null(to);
        assert_true(part > 0);
        memcpy(to, p, part);
        inbuf_added(in, part);
        p += part;
        len -= part;
        if (len > 0) { /* as a link does: what is there is looked at before more is read */
            struct raw_frame raw;
            bool has = true;

            assert_int_equal(inbuf_next(in, &raw, &has, NULL), OBX_OK);
            assert_false(has);
        }
    }
}

/* A content header of this size that promises a body of 7 bytes; the caller frees it. */
static uint8_t *header_frame(uint32_t len)
{
    uint8_t *frame = calloc(1, (size_t)len + OVERHEAD);

    assert_non_null(frame);
    frame[0] = AMQP_FRAME_HEADER;
    frame[2] = 1;
    frame[3] = (uint8_t)(len >> 24);
    frame[4] = (uint8_t)(len >> 16);
    frame[5] = (uint8_t)(len >> 8);
    frame[6] = (uint8_t)len;
    frame[8] = AMQP_BASIC_CLASS;
    frame[18] = 7;
    frame[len + OVERHEAD - 1] = AMQP_FRAME_END;
    return frame;
}

/* A header too large to keep: its message is known, and what follows is read as ever. */
static void a_header_without_bounds_is_passed_over(void **state)
{
    static const uint8_t body[] = {AMQP_FRAME_BODY, 0, 1, 0, 0, 0, 1, 'b', AMQP_FRAME_END};
    uint8_t *frame = header_frame(HUGE_LEN);
    struct inbuf in = {.data = NULL};
    struct raw_frame raw;
    amqp_frame_t decoded;
    amqp_pool_t pool;
    bool has = false;

    (void)state;
    init_amqp_pool(&pool, PAGE);
    give(&in, frame, 100);
    assert_int_equal(inbuf_next(&in, &raw, &has, NULL), OBX_OK);
    assert_true(has && raw.is_cut);
    assert_int_equal(frame_decode(&raw, &pool, &decoded, NULL), OBX_OK);
    assert_null(decoded.payload.properties.decoded);
    assert_int_equal(decoded.payload.properties.body_size, 7);
    give(&in, frame + 100, HUGE_LEN + OVERHEAD - 100);
    assert_true(in.cap < HUGE_LEN);
    give(&in, body, sizeof(body));
    assert_int_equal(inbuf_next(&in, &raw, &has, NULL), OBX_OK);
    assert_true(has && !raw.is_cut);
    assert_int_equal(raw.type, AMQP_FRAME_BODY);
    assert_int_equal(raw.len, 1);
    empty_amqp_pool(&pool);
    inbuf_fini(&in);
    free(frame);
}

static void frames_in_single_bytes_are_whole(void **state)
{
    static const uint8_t heartbeat[] = {AMQP_FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, AMQP_FRAME_END};
    uint8_t *frame = header_frame(200 * 1024);
    struct inbuf in = {.data = NULL};
    struct raw_frame raw;
    bool has = false;

    (void)state;
    for (size_t i = 0; i < sizeof(heartbeat); i++) {
        assert_false(has);
        give(&in, &heartbeat[i], 1);
        assert_int_equal(inbuf_next(&in, &raw, &has, NULL), OBX_OK);
    }
    assert_true(has);
    assert_int_equal(raw.len, 0);
    give(&in, frame, 200 * 1024 + OVERHEAD); /* larger than was negotiated, and taken */
    assert_int_equal(inbuf_next(&in, &raw, &has, NULL), OBX_OK);
    assert_true(has && !raw.is_cut);
    assert_int_equal(raw.len, 200 * 1024);
    inbuf_fini(&in);
    free(frame);
}

static void what_is_no_frame_is_refused(void **state)
{
    static const uint8_t cases[][9] = {
        {7, 0, 1, 0, 0, 0, 0, AMQP_FRAME_END, 0},
        {'A', 'M', 'Q', 'P', 0, 0, 9, 1, 0},
        {AMQP_FRAME_BODY, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0},
        {AMQP_FRAME_METHOD, 0, 1, 0, 0x10, 0, 1, 0, 0},
        {AMQP_FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct inbuf in = {.data = NULL};
        struct raw_frame raw;
        struct obx_err err = {0};
        bool has = false;

        give(&in, cases[i], sizeof(cases[i]));
        assert_int_equal(inbuf_next(&in, &raw, &has, &err), OBX_E_MQ_PROTOCOL);
        assert_true(err.text[0] != '\0');
        inbuf_fini(&in);
    }
}

/* What a client says to a broker, with a table in it: not even looked at. */
static void a_method_of_a_client_is_refused(void **state)
{
    uint8_t payload[] = {0, 50, 0, 10, 0, 0, 1, 'q', 0, 0, 0, 0, 0};
    const struct raw_frame raw = {
        .type = AMQP_FRAME_METHOD, .channel = 1, .payload = payload, .len = sizeof(payload)};
    const struct raw_frame cut = {
        .type = AMQP_FRAME_METHOD, .channel = 1, .payload = payload, .len = 3};
    amqp_frame_t decoded;
    amqp_pool_t pool;

    (void)state;
    init_amqp_pool(&pool, PAGE);
    assert_int_equal(frame_decode(&raw, &pool, &decoded, NULL), OBX_E_MQ_PROTOCOL);
    assert_int_equal(frame_decode(&cut, &pool, &decoded, NULL), OBX_E_MQ_PROTOCOL);
    empty_amqp_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_nested_too_deep_becomes_bytes),
        cmocka_unit_test(a_table_that_lies_is_refused),
        cmocka_unit_test(the_number_of_values_is_bounded),
        cmocka_unit_test(a_header_without_bounds_is_passed_over),
        cmocka_unit_test(frames_in_single_bytes_are_whole),
        cmocka_unit_test(what_is_no_frame_is_refused),
        cmocka_unit_test(a_method_of_a_client_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
