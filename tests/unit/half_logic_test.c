/* The half-message role's logic without I/O: breaker, answers of a check, the API's JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "half/api/half_json.h"
#include "half/checkback/check_answer.h"
#include "service/breaker.h"

static void a_breaker_opens_probes_and_closes(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, 3, 100, 1000);
    assert_int_equal(breaker_admit(&b, 7, 0), 7);
    breaker_failure(&b, 0);
    breaker_failure(&b, 0);
    breaker_success(&b);
    breaker_failure(&b, 0);
    breaker_failure(&b, 0);
    assert_int_equal(b.state, BREAKER_CLOSED);
    breaker_failure(&b, 0);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms - 1), 0);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms), 1);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms), 0);
    breaker_release(&b);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms), 1);
    breaker_failure(&b, 5000);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_true(b.due_ms >= 5100 && b.due_ms <= 6000);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms), 1);
    breaker_success(&b);
    assert_int_equal(breaker_admit(&b, 7, b.due_ms), 7);
}

static enum check_answer parse(long status, const char *body)
{
    return check_answer_parse(status, bytes_of(body));
}

static void only_a_well_formed_200_is_an_answer(void **state)
{
    static char large[CHECK_ANSWER_MAX + 2];

    (void)state;
    assert_int_equal(parse(200, "{\"state\":\"committed\"}"), CHECK_COMMITTED);
    assert_int_equal(parse(200, "{\"state\":\"rolled_back\",\"at\":1}"), CHECK_ROLLED_BACK);
    assert_int_equal(parse(200, "{\"state\":\"in_progress\"}"), CHECK_IN_PROGRESS);
    assert_int_equal(parse(200, "{\"state\":\"unknown\"}"), CHECK_UNKNOWN);
    assert_int_equal(parse(200, "{\"state\":\"no_answer\"}"), CHECK_UNKNOWN);
    assert_int_equal(parse(200, "{\"state\":\"COMMITTED\"}"), CHECK_UNKNOWN);
    assert_int_equal(parse(404, "anything"), CHECK_UNKNOWN);
    assert_int_equal(parse(200, "{\"state\":\"committed\",\"state\":\"rolled_back\"}"),
                     CHECK_NO_ANSWER);
    assert_int_equal(parse(200, "{\"state\":\"committed\",\"st\\u0061te\":\"committed\"}"),
                     CHECK_NO_ANSWER);
    assert_int_equal(parse(200, "{\"a\":{\"state\":\"committed\"}}"), CHECK_NO_ANSWER);
    assert_int_equal(parse(200, "{\"state\":\"\\u0063ommitted\"}"), CHECK_COMMITTED);
    assert_int_equal(parse(200, "{\"state\":\"committed\\u0000\"}"), CHECK_UNKNOWN);
    assert_int_equal(parse(200, "{\"state\":true}"), CHECK_NO_ANSWER);
    assert_int_equal(parse(200, "committed"), CHECK_NO_ANSWER);
    assert_int_equal(parse(200, ""), CHECK_NO_ANSWER);
    assert_int_equal(parse(200, "{\"state\":\"committed\"} x"), CHECK_NO_ANSWER);
    assert_int_equal(parse(201, "{\"state\":\"committed\"}"), CHECK_NO_ANSWER);
    assert_int_equal(parse(302, "{\"state\":\"committed\"}"), CHECK_NO_ANSWER);
    assert_int_equal(parse(500, "{\"state\":\"rolled_back\"}"), CHECK_NO_ANSWER);
    memset(large, ' ', sizeof(large) - 1);
    memcpy(large, "{\"state\":\"committed\"}", 21);
    assert_int_equal(parse(200, large), CHECK_NO_ANSWER);
    large[CHECK_ANSWER_MAX] = '\0';
    assert_int_equal(parse(200, large), CHECK_COMMITTED);
}

#define GOOD                                                                                       \
    "{\"gid\":\"g-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\",\"payload\":\"p\"}]}"

static struct half_prepare *must_parse(const char *body)
{
    struct half_prepare *prepare = NULL;
    struct half_refusal refusal = {0};

    if (half_json_parse_prepare(bytes_of(body), 1000, &prepare, &refusal) != OBX_OK)
        fail_msg("%s: %s", refusal.reason, refusal.text);
    return prepare;
}

static void must_refuse(const char *body, int status, const char *reason)
{
    struct half_prepare *prepare = NULL;
    struct half_refusal refusal = {0};

    assert_int_not_equal(half_json_parse_prepare(bytes_of(body), 1000, &prepare, &refusal), OBX_OK);
    assert_null(prepare);
    assert_int_equal(refusal.status, status);
    assert_string_equal(refusal.reason, reason);
}

static void a_prepare_is_read_whole(void **state)
{
    struct half_prepare *prepare =
        must_parse("{\"gid\":\"a.b:c~1\",\"producer\":\"orders\",\"first_check_ms\":5,"
                   "\"commit\":[{\"topic\":\"t1\",\"ordering_key\":\"k\",\"message_id\":\"m-1\","
                   "\"content_type\":\"x/y\","
                   "\"headers\":{\"a\":1},\"payload\":{\"n\":[1,2]}},{\"topic\":\"t2\",\"payload_"
                   "base64\":\"AP8=\"}],"
                   "\"rollback\":[{\"topic\":\"t3\",\"payload\":\"\"}]}");
    struct half_request *req = half_prepare_request(prepare);

    (void)state;
    assert_int_equal(req->kind, HALF_REQ_PREPARE);
    assert_int_equal(req->part_count, 3);
    assert_int_equal(req->first_check_ms, 5);
    assert_true(bytes_is(req->gid, "a.b:c~1"));
    assert_true(bytes_is(req->parts[0].payload, "{\"n\":[1,2]}"));
    assert_true(bytes_is(req->parts[0].headers, "{\"a\":1}"));
    assert_int_equal(req->parts[1].payload.len, 2);
    assert_memory_equal(req->parts[1].payload.p, "\0\xff", 2);
    assert_int_equal(req->parts[2].on, HALF_ROLLBACK);
    assert_int_equal(req->parts[2].payload.len, 0);
    assert_false(bytes_is_absent(req->parts[2].payload));
    half_prepare_free(prepare);
}

#define WITH_PAYLOAD(payload)                                                                      \
    "{\"gid\":\"g-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\",\"payload\":" payload   \
    "}]}"

/* Payload and headers are the bytes that were sent: no number loses a digit, no blank goes, no
 * member moves. */
static void what_was_given_is_what_is_sent(void **state)
{
    static const char *const values[] = {
        "0.1",
        "12.50",
        "-0.0",
        "1E400",
        "123456789012345678901234567890.123456789",
        "[0.10 , 1e2,  9007199254740993]",
        "{ \"b\":1.0, \"a\" : {\"b\":2},\n\"b\":3 }",
        "{\"t\":\"\\u00e4\\/\\ud800\"}",
        "null",
        "false",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char body[400];
        struct half_prepare *prepare;
        const struct half_part *part;

        (void)snprintf(body, sizeof(body),
                       "{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"headers\": {\"n\":%s } ,"
                       "\"payload\": %s , \"topic\":\"t\"}]}",
                       values[i], values[i]);
        prepare = must_parse(body);
        part = &half_prepare_request(prepare)->parts[0];
        assert_true(bytes_is(part->payload, values[i]));
        assert_true(bytes_is_absent(part->content_type));
        (void)snprintf(body, sizeof(body), "{\"n\":%s }", values[i]);
        assert_true(bytes_is(part->headers, body));
        half_prepare_free(prepare);
    }
}

static void the_content_type_follows_what_was_given(void **state)
{
    static const struct {
        const char *payload, *type; /* NULL: the column's default, application/json */
    } cases[] = {
        {"\"payload\":\"text\"", "text/plain; charset=utf-8"},
        {"\"payload_base64\":\"AP8=\"", "application/octet-stream"},
        {"\"payload\":[1]", NULL},
        {"\"payload\":\"{}\",\"content_type\":\"application/json\"", "application/json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[200];
        struct half_prepare *prepare;
        struct obx_bytes type;

        (void)snprintf(body, sizeof(body),
                       "{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{%s,\"topic\":\"t\"}]}",
                       cases[i].payload);
        prepare = must_parse(body);
        type = half_prepare_request(prepare)->parts[0].content_type;
        assert_true(cases[i].type == NULL ? bytes_is_absent(type) : bytes_is(type, cases[i].type));
        half_prepare_free(prepare);
    }
}

static void strings_are_what_they_stand_for(void **state)
{
    struct half_prepare *prepare = must_parse(
        "{\"g\\u0069d\":\"g\\u002d1\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\\u00e4\","
        "\"ordering_key\":\"\\ud83d\\ude00\",\"payload\":\"a\\u0000\\n\"},"
        "{\"topic\":\"\\\"\",\"payload_base64\":\"QU\\u004aD\"}]}");
    const struct half_request *req = half_prepare_request(prepare);

    (void)state;
    assert_true(bytes_is(req->gid, "g-1"));
    assert_true(bytes_is(req->parts[0].topic, "t\xc3\xa4"));
    assert_true(bytes_is(req->parts[0].ordering_key, "\xf0\x9f\x98\x80"));
    assert_int_equal(req->parts[0].payload.len, 3);
    assert_memory_equal(req->parts[0].payload.p, "a\0\n", 3);
    assert_true(bytes_is(req->parts[1].topic, "\""));
    assert_true(bytes_is(req->parts[1].payload, "ABC"));
    half_prepare_free(prepare);
}

/* Every length around the steps in which it is decoded. */
static void base64_of_any_length(void **state)
{
    static char body[2000];
    unsigned char bytes[600];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        static const char head[] =
            "{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload_base64\":\"";
        char *at = body + sizeof(head) - 1;
        struct half_prepare *prepare;
        struct obx_bytes payload;

        memcpy(body, head, sizeof(head));
        at += EVP_EncodeBlock((unsigned char *)at, bytes, (int)len);
        memcpy(at, "\"}]}", 5);
        prepare = must_parse(body);
        payload = half_prepare_request(prepare)->parts[0].payload;
        assert_true(bytes_equal(payload, (struct obx_bytes){bytes, len}));
        half_prepare_free(prepare);
    }
}

/* What the outbox would park later is no prepare. */
static void what_cannot_be_published_is_refused(void **state)
{
    static char body[300000];
    static char blob[250000];

    (void)state;
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"x-obx-outbox-id\":1}"), 400, "invalid_value");
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"CC\":[\"q\"]}"), 400, "invalid_value");
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"\":1}"), 400, "invalid_value");
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"a\":1,\"a\":2}"), 400, "invalid_value");
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"a\":\"\\u0000\"}"), 400, "invalid_value");
    must_refuse(WITH_PAYLOAD("1,\"headers\":{\"a\":\"\\ud800\"}"), 400, "invalid_value");
    memset(blob, 'x', 200000);
    (void)snprintf(body, sizeof(body), WITH_PAYLOAD("1,\"headers\":{\"a\":\"%s\"}"), blob);
    must_refuse(body, 400, "invalid_value");
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    must_refuse("", 400, "bad_json");
    must_refuse("[]", 400, "bad_json");
    must_refuse("{", 400, "bad_json");
    must_refuse(GOOD "x", 400, "bad_json");
    must_refuse("{\"gid\":\"g\",\"gid\":\"h\"}", 400, "bad_json");
    must_refuse("{\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1}]}", 400,
                "missing_field");
    must_refuse("{\"gid\":\"g\",\"commit\":[{\"topic\":\"t\",\"payload\":1}]}", 400,
                "missing_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\"}", 400, "missing_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[]}", 400, "missing_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"payload\":1}]}", 400,
                "missing_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\"}]}", 400,
                "missing_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"comit\":[]}", 400, "unknown_field");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1,"
                "\"ordering_kye\":\"k\"}]}",
                400, "unknown_field");
    must_refuse("{\"gid\":\"a b\",\"producer\":\"p\",\"commit\":[]}", 400, "invalid_value");
    must_refuse("{\"gid\":\"\",\"producer\":\"p\",\"commit\":[]}", 400, "invalid_value");
    must_refuse("{\"gid\":7,\"producer\":\"p\",\"commit\":[]}", 400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":7}", 400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1,"
                "\"receipt_from\":\"a,,b\"}]}",
                400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[7]}", 400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"first_check_ms\":-1,\"commit\":[]}", 400,
                "invalid_value");
    must_refuse(
        "{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"a\\u0000b\",\"payload\":1}]}",
        400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload_base64\":"
                "\"A===\"}]}",
                400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload_base64\":"
                "\"A\"}]}",
                400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1,"
                "\"headers\":[]}]}",
                400, "invalid_value");
    must_refuse("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1,"
                "\"payload_base64\":\"\"}]}",
                400, "invalid_value");
}

static void the_digest_tells_contents_apart(void **state)
{
    static const char *const bodies[] = {
        GOOD,
        "{\"gid\":\"g-1\",\"producer\":\"orders2\",\"commit\":[{\"topic\":\"t\",\"payload\":\"p\"}]"
        "}",
        "{\"gid\":\"g-1\",\"producer\":\"orders\",\"rollback\":[{\"topic\":\"t\",\"payload\":\"p\"}"
        "]}",
        "{\"gid\":\"g-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"tp\",\"payload\":\"\"}]"
        "}",
        "{\"gid\":\"g-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\",\"ordering_key\":"
        "\"p\",\"payload\":\"p\"}]}",
    };
    unsigned char digests[5][HALF_DIGEST_LEN];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct half_prepare *prepare = must_parse(bodies[i]);

        memcpy(digests[i], half_prepare_request(prepare)->digest, HALF_DIGEST_LEN);
        half_prepare_free(prepare);
        for (unsigned k = 0; k < i; k++)
            assert_memory_not_equal(digests[i], digests[k], HALF_DIGEST_LEN);
    }
}

/* A repeat is the same when the same bytes would be sent: the request's own spelling does not
 * count, that of payload and headers does. */
static void the_same_is_what_sends_the_same_bytes(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {WITH_PAYLOAD("\"\\u0061\""), WITH_PAYLOAD("\"a\""), true},
        {WITH_PAYLOAD("1,\"ordering_key\":null"), WITH_PAYLOAD("1"), true},
        {WITH_PAYLOAD("1.0"), WITH_PAYLOAD("1.00"), false},
        {WITH_PAYLOAD("{\"a\":1,\"b\":2}"), WITH_PAYLOAD("{\"b\":2,\"a\":1}"), false},
        {WITH_PAYLOAD("[1, 2]"), WITH_PAYLOAD("[1,2]"), false},
        {WITH_PAYLOAD("1,\"headers\":{\"a\":1}"), WITH_PAYLOAD("1,\"headers\":{\"a\": 1}"), false},
        {WITH_PAYLOAD("[1]"), WITH_PAYLOAD("\"[1]\""), false}, /* another content type */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct half_prepare *a = must_parse(cases[i].a);
        struct half_prepare *b = must_parse(cases[i].b);

        assert_int_equal(memcmp(half_prepare_request(a)->digest, half_prepare_request(b)->digest,
                                HALF_DIGEST_LEN) == 0,
                         cases[i].same);
        half_prepare_free(a);
        half_prepare_free(b);
    }
}

static void the_time_of_the_check_and_blanks_do_not_change_the_digest(void **state)
{
    struct half_prepare *a = must_parse(GOOD);
    struct half_prepare *b =
        must_parse("{ \"producer\":\"orders\", \"first_check_ms\": 9, \"gid\":\"g-1\",\n"
                   "\"commit\":[{\"payload\":\"p\",\"topic\":\"t\"}]}");

    (void)state;
    assert_memory_equal(half_prepare_request(a)->digest, half_prepare_request(b)->digest,
                        HALF_DIGEST_LEN);
    half_prepare_free(a);
    half_prepare_free(b);
}

struct budget {
    unsigned left;
};

static bool allow(void *ctx)
{
    struct budget *budget = ctx;

    if (budget->left == 0)
        return false;
    budget->left--;
    return true;
}

static void without_memory_it_is_503_and_nothing_leaks(void **state)
{
    struct half_refusal refusal = {0};
    struct half_prepare *prepare = NULL;
    enum obx_code rc = OBX_E_NOMEM;

    (void)state;
    for (unsigned n = 0; rc != OBX_OK; n++) {
        struct budget budget = {n};

        assert_true(n < 50);
        obx_alloc_set_hook(allow, &budget);
        rc = half_json_parse_prepare(
            bytes_of("{\"gid\":\"g\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\","
                     "\"payload\":{\"a\":1},\"headers\":{\"\\u0061\":1}}]}"),
            1000, &prepare, &refusal);
        obx_alloc_set_hook(NULL, NULL);
        if (rc != OBX_OK)
            assert_int_equal(refusal.status, 503);
    }
    half_prepare_free(prepare);
}

static enum obx_code build_answers(struct obx_buf *out)
{
    const struct half_record rec = {.state = HALF_COMMITTED,
                                    .producer = "orders",
                                    .decided_by = "check",
                                    .note = "n",
                                    .prepared_us = 1,
                                    .decided_us = 2};
    struct half_item items[2] = {{.gid = "a", .rec = rec}, {.gid = "b", .rec = rec}};
    const struct half_list list = {.items = items, .count = 2, .next = "b"};
    struct half_id ids[2] = {{HALF_COMMIT, "m-1"}, {HALF_ROLLBACK, "m-2"}};
    const struct half_request req = {
        .gid = bytes_of("g"), .rec = rec, .is_repeat = true, .ids = ids, .id_count = 2};
    enum obx_code rc = half_json_add_answer(out, &req);

    if (rc == OBX_OK)
        rc = half_json_add_list(out, &list);
    return rc == OBX_OK ? half_json_add_error(out, "why", "text", bytes_of("g"), &rec) : rc;
}

/* A text of the database's that was cut within a character, and what JSON must escape. */
static void an_answer_is_json_whatever_it_says(void **state)
{
    static const struct {
        const char *text, *shown;
    } texts[] = {
        {"a\"b\\c\n\x01/", "a\"b\\c\n\x01/"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xaf",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xaf"},
        {"cut \xe2\x82", "cut ??"},
        {"\xff\xc0\xaf\xed\xa0\x80 end", "?????? end"},
        {"\xf4\x90\x80\x80", "????"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct obx_buf out = {0};
        json_t *root;

        assert_int_equal(
            half_json_add_error(&out, "why", texts[i].text, (struct obx_bytes){0}, NULL), OBX_OK);
        root = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(root);
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(root, "error"), "message")),
            texts[i].shown);
        json_decref(root);
        buf_fini(&out);
    }
}

/* An answer is whole, or there is none: a member that is missing would be read as its absence. */
static void no_answer_is_written_in_part(void **state)
{
    struct obx_buf whole = {0};
    enum obx_code rc = OBX_E_NOMEM;

    (void)state;
    assert_int_equal(build_answers(&whole), OBX_OK);
    for (unsigned n = 0; rc != OBX_OK; n++) {
        struct obx_buf out = {0};
        struct budget budget = {n};

        assert_true(n < 500);
        obx_alloc_set_hook(allow, &budget);
        rc = build_answers(&out);
        obx_alloc_set_hook(NULL, NULL);
        assert_true(rc == OBX_OK || rc == OBX_E_NOMEM);
        assert_true(out.len <= whole.len &&
                    (out.len == 0 || memcmp(out.data, whole.data, out.len) == 0));
        assert_int_equal(rc == OBX_OK, out.len == whole.len);
        buf_fini(&out);
    }
    buf_fini(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_breaker_opens_probes_and_closes),
        cmocka_unit_test(only_a_well_formed_200_is_an_answer),
        cmocka_unit_test(a_prepare_is_read_whole),
        cmocka_unit_test(what_was_given_is_what_is_sent),
        cmocka_unit_test(the_content_type_follows_what_was_given),
        cmocka_unit_test(strings_are_what_they_stand_for),
        cmocka_unit_test(base64_of_any_length),
        cmocka_unit_test(what_cannot_be_published_is_refused),
        cmocka_unit_test(the_same_is_what_sends_the_same_bytes),
        cmocka_unit_test(an_answer_is_json_whatever_it_says),
        cmocka_unit_test(no_answer_is_written_in_part),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(the_digest_tells_contents_apart),
        cmocka_unit_test(the_time_of_the_check_and_blanks_do_not_change_the_digest),
        cmocka_unit_test(without_memory_it_is_503_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
