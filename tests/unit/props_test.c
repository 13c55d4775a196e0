/* Unit tests of how inbox_parked keeps properties, headers and keys: what goes in comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "store/parked_db.h"
#include "store/props.h"

enum { ROUNDS = 2000, HEADERS_MAX = 8, TEXT_MAX = 40 };

/* A text of any bytes, those that have a meaning in the form among them more often than not. */
static struct obx_bytes any_bytes(char room[TEXT_MAX], size_t least)
{
    static const char special[] = "=%\n\r\t .0AF\\header.text.type";
    size_t len = least + random_u64() % (TEXT_MAX - least);

    for (size_t i = 0; i < len; i++) {
        const unsigned char any = (unsigned char)random_u64();

        memcpy(&room[i], &any, 1);
        if (random_u64() % 2 == 0)
            room[i] = special[random_u64() % (sizeof(special) - 1)];
    }
    return (struct obx_bytes){room, len};
}

static void assert_bytes(struct obx_bytes a, struct obx_bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.p, b.p, a.len);
}

static void assert_header(const struct obx_header *a, const struct obx_header *b)
{
    assert_bytes(a->name, b->name);
    assert_int_equal(a->type, b->type);
    switch (a->type) {
    case OBX_H_NULL:
        break;
    case OBX_H_TEXT:
        assert_bytes(a->v.text, b->v.text);
        break;
    case OBX_H_I64:
        assert_true(a->v.i64 == b->v.i64);
        break;
    case OBX_H_F64:
        assert_true(a->v.f64 == b->v.f64);
        break;
    case OBX_H_BOOL:
        assert_true(a->v.yes == b->v.yes);
        break;
    }
}

static void random_header(struct obx_header *header, char name[TEXT_MAX], char text[TEXT_MAX])
{
    *header = (struct obx_header){.name = any_bytes(name, 1),
                                  .type = (enum obx_header_type)(random_u64() % 5)};
    if (header->type == OBX_H_TEXT)
        header->v.text = any_bytes(text, 0);
    else if (header->type == OBX_H_I64)
        header->v.i64 = (int64_t)random_u64();
    else if (header->type == OBX_H_F64)
        header->v.f64 = (double)(int64_t)random_u64() / 3.0;
    else if (header->type == OBX_H_BOOL)
        header->v.yes = random_u64() % 2 == 0;
}

/* The room for what is read is exactly what the contract asks for, so that the sanitizers see a
 * step beyond. */
static void check_round_trip(const struct bridge_message *msg)
{
    struct obx_buf text = {0};
    struct bridge_message back = {0};
    struct obx_header *headers = NULL;
    char *scratch = NULL;

    assert_int_equal(props_write(msg, &text), OBX_OK);
    assert_int_equal(props_header_count(buf_bytes(&text)), msg->header_count);
    headers = malloc(msg->header_count * sizeof(*headers) + 1);
    scratch = malloc(text.len + 1);
    assert_true(headers != NULL && scratch != NULL);
    props_read(buf_bytes(&text), scratch, headers, &back);
    assert_bytes(msg->type, back.type);
    assert_bytes(msg->content_type, back.content_type);
    assert_int_equal(bytes_is_absent(msg->content_type), bytes_is_absent(back.content_type));
    assert_bytes(msg->content_encoding, back.content_encoding);
    assert_bytes(msg->correlation_id, back.correlation_id);
    assert_bytes(msg->reply_to, back.reply_to);
    assert_bytes(msg->app_id, back.app_id);
    assert_int_equal(msg->timestamp_s, back.timestamp_s);
    assert_int_equal(msg->header_count, back.header_count);
    for (size_t i = 0; i < msg->header_count; i++)
        assert_header(&msg->headers[i], &back.headers[i]);
    buf_fini(&text);
    free(headers);
    free(scratch);
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct obx_header headers[HEADERS_MAX];
        char names[HEADERS_MAX][TEXT_MAX];
        char texts[HEADERS_MAX][TEXT_MAX];
        char type[TEXT_MAX];
        char content_type[TEXT_MAX];
        struct bridge_message msg = {.type = any_bytes(type, 0),
                                     .timestamp_s = random_u64() % 3 == 0 ? 0 : random_u64(),
                                     .headers = headers,
                                     .header_count = random_u64() % (HEADERS_MAX + 1)};

        if (random_u64() % 2 == 0)
            msg.content_type = any_bytes(content_type, 0);
        for (size_t i = 0; i < msg.header_count; i++)
            random_header(&headers[i], names[i], texts[i]);
        check_round_trip(&msg);
    }
}

/* Somebody has written into the column by hand. */
static void any_text_is_read_without_harm(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char room[TEXT_MAX];
        struct obx_bytes text = any_bytes(room, 0);
        char *copy = malloc(text.len + 1);
        char *scratch = malloc(text.len + 1);
        struct obx_header *headers = malloc(props_header_count(text) * sizeof(*headers) + 1);
        struct bridge_message msg = {0};

        assert_true(copy != NULL && scratch != NULL && headers != NULL);
        memcpy(copy, room, text.len);
        props_read((struct obx_bytes){copy, text.len}, scratch, headers, &msg);
        assert_int_equal(msg.header_count, props_header_count(text));
        free(copy);
        free(scratch);
        free(headers);
    }
}

static void a_long_key_is_cut_and_still_itself(void **state)
{
    char one[700];
    char other[700];
    struct parked_key a;
    struct parked_key b;
    struct parked_key again;

    (void)state;
    memset(one, 'k', sizeof(one));
    memcpy(other, one, sizeof(one));
    other[sizeof(other) - 1] = 'l';
    parked_key_of((struct obx_bytes){one, PARKED_KEY_MAX}, &a);
    assert_bytes(a.bytes, (struct obx_bytes){one, PARKED_KEY_MAX});
    parked_key_of((struct obx_bytes){one, sizeof(one)}, &a);
    parked_key_of((struct obx_bytes){other, sizeof(other)}, &b);
    assert_int_equal(a.bytes.len, PARKED_KEY_MAX);
    assert_int_equal(b.bytes.len, PARKED_KEY_MAX);
    assert_memory_not_equal(a.bytes.p, b.bytes.p, PARKED_KEY_MAX);
    parked_key_of(a.bytes, &again);
    assert_bytes(again.bytes, a.bytes);
    parked_key_of((struct obx_bytes){NULL, 0}, &a);
    assert_true(bytes_is_absent(a.bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(any_text_is_read_without_harm),
        cmocka_unit_test(a_long_key_is_cut_and_still_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
