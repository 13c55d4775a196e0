/*
 * Packs: what goes in comes out, property by property and byte by byte; what could not, or would
 * spoil the pack for other readers, is refused; what is no sound pack is refused as a whole, with a
 * reason. P10.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/random.h"
#include "bridge/pack.h"
#include "message_header.h"

enum { OWN = 7, HEADERS_MAX = 24, ROUNDS = 3000, TEXT_MAX = 30, ROUND_MAX = 12, SMALL = 1000 };

static struct pack_writer writer; /* zeroed by the runtime; too large for a stack */

static struct obx_header text_header(const char *name, struct obx_bytes text)
{
    return (struct obx_header){.name = bytes_of(name), .type = OBX_H_TEXT, .v.text = text};
}

/* A message as the relay's envelope makes them. */
struct made {
    struct obx_header headers[HEADERS_MAX];
    struct bridge_message msg;
    char id[TEXT_MAX];
};

static void make(struct made *made, unsigned number, struct obx_bytes key, struct obx_bytes body)
{
    (void)snprintf(made->id, sizeof(made->id), "m-%u", number);
    made->headers[0] = text_header("cloudEvents_specversion", bytes_of("1.0"));
    made->headers[1] = text_header("cloudEvents_id", bytes_of(made->id));
    made->headers[2] = text_header("cloudEvents_source", bytes_of("/shop/outbox"));
    made->headers[3] = text_header("cloudEvents_type", bytes_of("order.placed"));
    made->headers[4] = text_header("cloudEvents_time", bytes_of("2026-11-25T11:12:00.123456Z"));
    made->headers[5] = (struct obx_header){
        .name = bytes_of("x-obx-outbox-id"), .type = OBX_H_I64, .v.i64 = (int64_t)number};
    made->headers[6] = text_header("cloudEvents_partitionkey", key);
    made->msg = (struct bridge_message){.exchange = bytes_of("rowpost"),
                                        .routing_key = bytes_of("order.placed"),
                                        .message_id = bytes_of(made->id),
                                        .type = bytes_of("order.placed"),
                                        .content_type = bytes_of("application/json"),
                                        .app_id = bytes_of("rowpost"),
                                        .headers = made->headers,
                                        .header_count = bytes_is_absent(key) ? OWN - 1 : OWN,
                                        .body = body};
}

static struct made sound(unsigned number, const char *body)
{
    struct made made;

    make(&made, number, bytes_of("k"), bytes_of(body));
    return made;
}

/* The headers move with a copy of it. */
static enum pack_answer add(struct made *made)
{
    made->msg.headers = made->headers;
    made->msg.message_id = bytes_of(made->id);
    made->headers[1].v.text = made->msg.message_id;
    return pack_add(&writer, &made->msg);
}

static void add_header(struct made *made, struct obx_header header)
{
    made->headers[made->msg.header_count++] = header;
}

/* ---- what comes out ---- */

static struct bridge_delivery delivery_of(const struct bridge_message *msg)
{
    struct bridge_delivery delivery = {.epoch = 3, .tag = 77, .redelivered = true, .msg = *msg};

    delivery.msg.exchange = bytes_of("rowpost");
    delivery.msg.routing_key = bytes_of("order.placed");
    return delivery;
}

static struct bridge_message end_pack(void)
{
    struct bridge_message msg = {0};

    assert_int_equal(pack_end(&writer, &msg), OBX_OK);
    assert_true(pack_is(&msg));
    return msg;
}

static void assert_bytes(struct obx_bytes a, struct obx_bytes b)
{
    assert_int_equal(bytes_is_absent(a), bytes_is_absent(b));
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.p, b.p, a.len);
}

/* By name: their order is not part of a message. */
static void assert_header(const struct obx_header *want, const struct bridge_message *msg)
{
    const struct obx_header *got = NULL;

    for (size_t i = 0; i < msg->header_count; i++)
        got = bytes_equal(msg->headers[i].name, want->name) ? &msg->headers[i] : got;
    assert_non_null(got);
    assert_int_equal(got->type, want->type);
    if (want->type == OBX_H_TEXT)
        assert_bytes(got->v.text, want->v.text);
    else if (want->type == OBX_H_I64)
        assert_true(got->v.i64 == want->v.i64);
    else if (want->type == OBX_H_F64)
        assert_memory_equal(&got->v.f64, &want->v.f64, sizeof(double));
    else if (want->type == OBX_H_BOOL)
        assert_true(got->v.yes == want->v.yes);
}

static void assert_message(const struct bridge_message *got, const struct bridge_message *want)
{
    assert_bytes(got->exchange, want->exchange);
    assert_bytes(got->routing_key, want->routing_key);
    assert_bytes(got->message_id, want->message_id);
    assert_bytes(got->type, want->type);
    assert_bytes(got->content_type, want->content_type);
    assert_bytes(got->app_id, want->app_id);
    assert_int_equal(got->body.len, want->body.len);
    if (want->body.len > 0)
        assert_memory_equal(got->body.p, want->body.p, want->body.len);
    assert_int_equal(got->header_count, want->header_count);
    for (size_t i = 0; i < want->header_count; i++)
        assert_header(&want->headers[i], got);
}

static void free_events(struct bridge_delivery **events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bridge_delivery_free(events[i]);
    obx_free(events);
}

static void assert_comes_out(struct made *all, size_t count)
{
    const struct bridge_message msg = end_pack();
    const struct bridge_delivery pack = delivery_of(&msg);
    struct bridge_delivery **events = NULL;
    struct obx_err err = {0};
    size_t got = 0;

    if (pack_read(&pack, &events, &got, &err) != OBX_OK)
        fail_msg("%s: %.*s", err.text, (int)msg.body.len, (const char *)msg.body.p);
    assert_int_equal(got, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(events[i]->epoch, 3);
        assert_int_equal(events[i]->tag, 77);
        assert_true(events[i]->redelivered);
        assert_message(&events[i]->msg, &all[i].msg);
    }
    free_events(events, got);
}

static void one_comes_out(struct made *made)
{
    pack_begin(&writer, PACK_EVENTS_MAX, PACK_BYTES_MAX);
    assert_int_equal(add(made), PACK_ADDED);
    assert_comes_out(made, 1);
}

static bool has(const char *text)
{
    return strstr(writer.body.data, text) != NULL;
}

static void json_is_embedded_as_it_is(void **state)
{
    static const char *const bodies[] = {
        "{\"a\": 12.50,\"b\":0.1234567890123456789012, \"a\":1e3}",
        "[ ]",
        "\"text \\\" \\u00e9 \\ud83d\\ude00\"",
        "-0.0",
        "true",
        "{\n\t\"deep\": [[[[{}]]]]\r\n}",
        "123456789012345678",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct made made = sound(1, bodies[i]);

        one_comes_out(&made);
        assert_true(has(",\"data\":"));
        assert_true(has(bodies[i]));
    }
}

static void what_not_everybody_reads_goes_as_base64(void **state)
{
    static char deep[200];
    const char *bodies[] = {
        " {}",
        "{} ",
        "null",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0000\"",
        "1e400",
        "12345678901234567890",
        "{",
        "no json",
        "\xff\xfe",
        "[1,]",
        deep,
    };

    (void)state;
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct made made = sound(1, bodies[i]);

        one_comes_out(&made);
        assert_true(has(",\"data_base64\":\""));
    }
}

static void the_type_decides_what_data_is(void **state)
{
    static const struct {
        const char *type;
        bool is_json;
    } types[] = {
        {NULL, true},
        {"application/json", true},
        {"Application/JSON; charset=UTF-8", true},
        {"application/vnd.shop+json", true},
        {"application/json; charset=latin1", false},
        {"text/plain", false},
        {"application/octet-stream", false},
        {"+json", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct made made = sound(1, "{}");

        made.msg.content_type = bytes_of(types[i].type);
        one_comes_out(&made);
        assert_int_equal(has("\"data\":{}"), types[i].is_json);
    }
}

static void an_empty_payload_stays_empty(void **state)
{
    struct made made = sound(1, "");

    (void)state;
    one_comes_out(&made);
    assert_false(has("\"data\":") || has("data_base64"));
}

static void headers_keep_name_type_and_value(void **state)
{
    struct made made = sound(1, "{}");

    (void)state;
    add_header(&made, text_header("traceparent", bytes_of("00-4bf9-00f0-01")));
    add_header(&made, text_header("cloudEvents_tenant", bytes_of("north \"1\"")));
    add_header(&made, text_header("cloudEvents_data", bytes_of("not the data")));
    add_header(&made, text_header("cloudEvents_traceparent", bytes_of("another")));
    add_header(&made, text_header("cloudEvents_Upper", bytes_of("case")));
    add_header(&made, text_header("with \"quotes\" and \\", bytes_of("a\nb\tc\x01")));
    add_header(&made, text_header("empty", bytes_of("")));
    add_header(&made, text_header("x-obx-receipt-to", bytes_of("rowpost.receipts.shop")));
    add_header(&made, (struct obx_header){
                          .name = bytes_of("least"), .type = OBX_H_I64, .v.i64 = INT64_MIN});
    add_header(&made,
               (struct obx_header){.name = bytes_of("tenth"), .type = OBX_H_F64, .v.f64 = 0.1});
    add_header(&made,
               (struct obx_header){.name = bytes_of("whole"), .type = OBX_H_F64, .v.f64 = 1000.0});
    add_header(&made,
               (struct obx_header){.name = bytes_of("minus"), .type = OBX_H_F64, .v.f64 = -0.0});
    add_header(&made,
               (struct obx_header){.name = bytes_of("large"), .type = OBX_H_F64, .v.f64 = 1e300});
    add_header(&made,
               (struct obx_header){.name = bytes_of("yes"), .type = OBX_H_BOOL, .v.yes = true});
    add_header(&made, (struct obx_header){.name = bytes_of("none"), .type = OBX_H_NULL});
    one_comes_out(&made);
    assert_true(has("\"traceparent\":\"00-4bf9-00f0-01\""));
    assert_true(has("\"tenant\":\"north \\\"1\\\"\""));
}

/* Random ones, several to a pack; what is refused is simply not in it. */
static struct obx_bytes any_bytes(char room[TEXT_MAX])
{
    static const char special[] = "{}[]\":,\\ \tu0e9ds=+/.-1";
    const size_t len = random_u64() % TEXT_MAX;

    for (size_t i = 0; i < len; i++) {
        const unsigned char any = (unsigned char)random_u64();

        memcpy(&room[i], &any, 1);
        if (random_u64() % 8 != 0)
            room[i] = special[random_u64() % (sizeof(special) - 1)];
    }
    return (struct obx_bytes){room, len};
}

static void whatever_goes_in_comes_out(void **state)
{
    static char keys[ROUND_MAX][TEXT_MAX], bodies[ROUND_MAX][TEXT_MAX], texts[ROUND_MAX][TEXT_MAX];
    static struct made all[ROUND_MAX];
    size_t added = 0;

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t count = 0;

        pack_begin(&writer, ROUND_MAX, SMALL + random_u64() % SMALL);
        for (unsigned i = 0; i < ROUND_MAX; i++) {
            make(&all[count], i, any_bytes(keys[count]), any_bytes(bodies[count]));
            add_header(&all[count], text_header("app", any_bytes(texts[count])));
            count += add(&all[count]) == PACK_ADDED;
        }
        if (count > 0)
            assert_comes_out(all, count);
        assert_true(writer.body.len <= writer.max_bytes);
        added += count;
    }
    assert_true(added > ROUNDS);
}

/* Another parser sees an array of CloudEvents. */
static void every_reader_sees_cloud_events(void **state)
{
    struct made first = sound(1, "{\"order\":4711}");
    struct made second = sound(2, "\xff");
    struct bridge_message msg;
    json_t *events = NULL;

    (void)state;
    pack_begin(&writer, 10, SMALL);
    assert_int_equal(add(&first), PACK_ADDED);
    assert_int_equal(add(&second), PACK_ADDED);
    msg = end_pack();
    assert_true(bytes_is_absent(msg.message_id));
    assert_int_equal(message_header(&msg, PACK_COUNT_HEADER)->v.i64, 2);
    events = json_loadb(msg.body.p, msg.body.len, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(events), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(events, 0), "id")), "m-1");
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_array_get(events, 0), "data"), "order")),
                     4711);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(events, 1), "data_base64")), "/w==");
    json_decref(events);
}

/* ---- what has to go alone ---- */

static void assert_unfit(struct made *made)
{
    struct made other = sound(9, "{}");

    pack_begin(&writer, 10, SMALL);
    assert_int_equal(add(&other), PACK_ADDED);
    assert_int_equal(add(made), PACK_UNFIT);
    assert_comes_out(&other, 1); /* it is not in it */
}

static void what_could_not_come_out_goes_alone(void **state)
{
    struct made made = sound(9, "{}");

    (void)state;
    assert_unfit(&made); /* an id that is in the pack */
    made = sound(1, "{}");
    made.headers[6].v.text = bytes_of("\xff");
    assert_unfit(&made);
    made = sound(1, "{}");
    made.headers[6].v.text = bytes_of("");
    assert_unfit(&made);
    made = sound(1, "{}");
    made.headers[6].v.text = bytes_of("a\x01");
    assert_unfit(&made);
    made = sound(1, "{}");
    add_header(&made, text_header("app", bytes_of("\xc3")));
    assert_unfit(&made);
    made = sound(1, "{}");
    made.msg.content_type = bytes_of("a\tb");
    assert_unfit(&made);
    made = sound(1, "{}");
    made.msg.reply_to = bytes_of("q");
    assert_unfit(&made);
    made = sound(1, "{}");
    made.msg.app_id = bytes_of("another");
    assert_unfit(&made);
    made = sound(1, "{}");
    add_header(&made, text_header("cloudEvents_partitionkey", bytes_of("another")));
    assert_unfit(&made);
    made = sound(1, "{}");
    made.headers[0].v.text = bytes_of("0.3");
    assert_unfit(&made);
    made = sound(1, "{}");
    made.headers[2] = made.headers[3]; /* no source */
    assert_unfit(&made);
}

static void a_pack_keeps_its_bounds(void **state)
{
    struct made made = sound(1, "{}");
    struct made second = sound(2, "{}");

    (void)state;
    pack_begin(&writer, 1, SMALL);
    assert_int_equal(add(&made), PACK_ADDED);
    assert_int_equal(add(&second), PACK_FULL);
    assert_comes_out(&made, 1);
    pack_begin(&writer, 10, 20);
    assert_int_equal(add(&made), PACK_UNFIT); /* too large for any pack of this size */
    for (size_t bytes = 200; bytes < 2 * SMALL; bytes += 13) {
        size_t count = 0;

        pack_begin(&writer, PACK_EVENTS_MAX, bytes);
        for (unsigned i = 0; i < ROUND_MAX; i++) {
            struct made next = sound(i, "{\"n\":1}");
            const enum pack_answer answer = add(&next);

            assert_true(answer == PACK_ADDED || answer == (count > 0 ? PACK_FULL : PACK_UNFIT));
            count += answer == PACK_ADDED;
        }
        assert_true(end_pack().body.len <= bytes);
    }
}

/* ---- what is no sound pack ---- */

static struct obx_header told = {.type = OBX_H_I64, .v.i64 = 1};

static enum obx_code read_text(const char *text, size_t len, struct obx_err *err)
{
    const struct bridge_message msg = {.content_type = bytes_of(PACK_CONTENT_TYPE),
                                       .app_id = bytes_of("rowpost"),
                                       .headers = &told,
                                       .header_count = 1,
                                       .body = {.p = text, .len = len}};
    const struct bridge_delivery pack = delivery_of(&msg);
    struct bridge_delivery **events = NULL;
    size_t count = 0;
    const enum obx_code rc = pack_read(&pack, &events, &count, err);

    told.name = bytes_of(PACK_COUNT_HEADER);
    free_events(events, count);
    return rc;
}

#define EVENT                                                                                      \
    "\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s/o\",\"type\":\"t\","                     \
    "\"time\":\"2026-11-25T11:12:00Z\""

static void a_bad_pack_is_refused_with_its_reason(void **state)
{
    static const struct {
        int64_t told;
        const char *text, *why;
    } bad[] = {
        {1, "", "no JSON"},
        {1, "[{" EVENT "}", "no JSON"},
        {1, "{" EVENT "}", "no array"},
        {1, "[1]", "no object"},
        {2, "[{" EVENT "}]", "a pack of 2 messages has 1"},
        {1, "[{" EVENT "},{" EVENT "}]", "more than the 1"},
        {1, "[]", "a pack of 1 messages has 0"},
        {0, "[]", "does not tell"},
        {-1, "[]", "does not tell"},
        {1001, "[{" EVENT "}]", "1000 are allowed"},
        {2, "[{" EVENT "},{" EVENT "}]", "two messages of one id"},
        {1, "[{" EVENT ",\"id\":\"b\"}]", "id is there twice"},
        {1, "[{\"specversion\":\"1.0\",\"id\":\"a\"}]", "source is missing"},
        {1, "[{" EVENT ",\"partitionkey\":1}]", "partitionkey is no string"},
        {1, "[{" EVENT ",\"partitionkey\":\"\\ud800\"}]", "partitionkey cannot be read"},
        {1, "[{" EVENT ",\"partitionkey\":\"a\\u0000\"}]", "partitionkey cannot be read"},
        {1, "[{" EVENT ",\"partitionkey\":\"\"}]", "partitionkey cannot be read"},
        {2,
         "[{" EVENT "},{\"specversion\":\"1.0\",\"id\":\"b\",\"source\":\"/s/p\",\"type\":\"t\","
         "\"time\":\"t\"}]",
         "two sources"},
        {1, "[{" EVENT ",\"data\":1,\"data_base64\":\"\"}]", "data is there twice"},
        {1, "[{" EVENT ",\"data_base64\":\"a\"}]", "no base64"},
        {1, "[{" EVENT ",\"data_base64\":\"/x==\"}]", "no base64"},
        {1, "[{" EVENT ",\"data_base64\":\"a===\"}]", "no base64"},
        {1, "[{" EVENT ",\"data_base64\":\"ab=c\"}]", "no base64"},
        {1, "[{" EVENT ",\"obxoutboxid\":\"1x\"}]", "obxoutboxid cannot be read"},
        {1, "[{" EVENT ",\"obxoutboxid\":\"9223372036854775808\"}]", "obxoutboxid cannot be read"},
        {1, "[{" EVENT ",\"obxheaders\":\"[]\"}]", "no JSON object"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\"}]", "no JSON object"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\\\"a\\\":[]}\"}]", "a header cannot be read"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\\\"\\\":1}\"}]", "a header cannot be read"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\\\"a\\\":1e999}\"}]", "a header cannot be read"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\\\"x-obx-pack\\\":2}\"}]", "a header cannot be read"},
        {1, "[{" EVENT ",\"obxheaders\":\"{\\\"cloudEvents_partitionkey\\\":\\\"k\\\"}\"}]",
         "a header cannot be read"},
        {1, "[{" EVENT ",\"Tenant\":\"a\"}]", "no attribute has"},
        {1, "[{" EVENT ",\"tenant\":{}}]", "no attribute has"},
        {1, "[{" EVENT ",\"i\\u0064\":\"b\"}]", "no attribute has"},
        {1,
         "[{\"specversion\":\"0.3\",\"id\":\"a\",\"source\":\"s\",\"type\":\"t\",\"time\":\"t\"}]",
         "not 1.0"},
    };
    struct obx_err err = {0};

    (void)state;
    told.name = bytes_of(PACK_COUNT_HEADER);
    told.v.i64 = 1;
    assert_int_equal(read_text("[{" EVENT "}]", strlen("[{" EVENT "}]"), &err), OBX_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum obx_code rc = OBX_OK;

        told.v.i64 = bad[i].told;
        rc = read_text(bad[i].text, strlen(bad[i].text), &err);
        assert_true(rc == OBX_E_FORMAT || rc == OBX_E_TOO_LARGE);
        if (strstr(err.text, bad[i].why) == NULL)
            fail_msg("'%s' is not about '%s': %s", err.text, bad[i].why, bad[i].text);
    }
}

/* Cut off at any byte, it is refused; nothing is read beyond its end. */
static void a_pack_that_is_cut_off_is_refused(void **state)
{
    static const char text[] = "[{" EVENT ",\"data\":{\"a\":1}}]";
    struct obx_err err = {0};

    (void)state;
    told.name = bytes_of(PACK_COUNT_HEADER);
    told.v.i64 = 1;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *copy = malloc(len + 1);

        assert_non_null(copy);
        memcpy(copy, text, len);
        assert_int_equal(read_text(copy, len, &err), OBX_E_FORMAT);
        free(copy);
    }
}

static void what_is_large_or_deep_is_refused_before_it_is_read(void **state)
{
    char *huge = malloc(PACK_BYTES_MAX + 1);
    struct obx_err err = {0};

    (void)state;
    assert_non_null(huge);
    told.name = bytes_of(PACK_COUNT_HEADER);
    told.v.i64 = 1;
    memset(huge, '[', PACK_BYTES_MAX + 1);
    assert_int_equal(read_text(huge, PACK_BYTES_MAX + 1, &err), OBX_E_TOO_LARGE);
    assert_int_equal(read_text(huge, PACK_BYTES_MAX, &err), OBX_E_FORMAT);
    assert_non_null(strstr(err.text, "nested too deeply"));
    free(huge);
}

static void only_our_header_makes_a_pack(void **state)
{
    struct bridge_message msg = {.content_type = bytes_of(PACK_CONTENT_TYPE)};
    struct obx_err err = {0};
    struct bridge_delivery pack;
    struct bridge_delivery **events = NULL;
    size_t count = 0;

    (void)state;
    assert_false(pack_is(&msg)); /* what an application sends is its own */
    told.name = bytes_of(PACK_COUNT_HEADER);
    told.v.i64 = 1;
    msg.headers = &told;
    msg.header_count = 1;
    msg.body = bytes_of("[{" EVENT "}]");
    assert_true(pack_is(&msg));
    pack = delivery_of(&msg);
    assert_int_equal(pack_read(&pack, &events, &count, &err), OBX_E_FORMAT);
    pack.msg.app_id = bytes_of("another");
    assert_int_equal(pack_read(&pack, &events, &count, &err), OBX_E_FORMAT);
    pack.msg.app_id = bytes_of("rowpost");
    assert_int_equal(pack_read(&pack, &events, &count, &err), OBX_OK);
    free_events(events, count);
    pack.msg.content_type = bytes_of("application/json");
    assert_int_equal(pack_read(&pack, &events, &count, &err), OBX_E_FORMAT);
    assert_non_null(strstr(err.text, "not of Rowpost"));
}

static int free_writer(void **state)
{
    (void)state;
    pack_writer_fini(&writer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_embedded_as_it_is),
        cmocka_unit_test(what_not_everybody_reads_goes_as_base64),
        cmocka_unit_test(the_type_decides_what_data_is),
        cmocka_unit_test(an_empty_payload_stays_empty),
        cmocka_unit_test(headers_keep_name_type_and_value),
        cmocka_unit_test(whatever_goes_in_comes_out),
        cmocka_unit_test(every_reader_sees_cloud_events),
        cmocka_unit_test(what_could_not_come_out_goes_alone),
        cmocka_unit_test(a_pack_keeps_its_bounds),
        cmocka_unit_test(a_bad_pack_is_refused_with_its_reason),
        cmocka_unit_test(a_pack_that_is_cut_off_is_refused),
        cmocka_unit_test(what_is_large_or_deep_is_refused_before_it_is_read),
        cmocka_unit_test(only_our_header_makes_a_pack),
    };

    return cmocka_run_group_tests(tests, NULL, free_writer);
}
