/* Unit tests of inbox-relay's pure parts: topics, signatures, Retry-After, delays, sets of ids,
 * the key table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "inbox-relay/idset.h"
#include "inbox-relay/job.h"
#include "inbox-relay/notify_config.h"
#include "inbox-relay/outlet.h"
#include "inbox-relay/record.h"
#include "inbox-relay/sign.h"
#include "service/http_client.h"

static bool matches(const char *pattern, const char *topic)
{
    return topic_match(pattern, bytes_of(topic));
}

static void topics_match_as_in_a_topic_exchange(void **state)
{
    (void)state;
    assert_true(matches("order.placed", "order.placed"));
    assert_false(matches("order.placed", "order.place"));
    assert_false(matches("order.placed", "order.placed.late"));
    assert_true(matches("order.*", "order.placed"));
    assert_false(matches("order.*", "order"));
    assert_false(matches("order.*", "order.placed.late"));
    assert_true(matches("*.placed", "order.placed"));
    assert_true(matches("order.#", "order"));
    assert_true(matches("order.#", "order.placed.late"));
    assert_false(matches("order.#", "orders.placed"));
    assert_true(matches("#", ""));
    assert_true(matches("#", "a.b.c"));
    assert_true(matches("#.late", "a.b.late"));
    assert_true(matches("#.late", "late"));
    assert_false(matches("#.late", "late.again"));
    assert_true(matches("a.#.b.#.c", "a.b.b.x.c"));
    assert_false(matches("a.#.b.#.c", "a.x.c"));
    assert_true(matches("*.*", "."));
    assert_false(matches("", "a"));
    /* Backtracking over every # must not take for ever. */
    assert_false(
        matches("#.a.#.a.#.a.#.a.#.a.#.a.#.b", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"));
}

/* The example of the Standard Webhooks specification. */
static void signature_is_that_of_the_standard(void **state)
{
    struct sign_keys keys;
    struct obx_buf out = {0};
    const char *body = "{\"test\": 2432232314}";

    (void)state;
    sign_parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &keys);
    assert_int_equal(keys.count, 1);
    assert_int_equal(
        sign_add(&out, &keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, bytes_of(body)), OBX_OK);
    assert_string_equal(out.data, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    buf_fini(&out);
}

static bool verifies(const char *secret, const char *id, const char *timestamp, const char *body,
                     const char *signature)
{
    struct sign_keys keys;
    struct obx_buf out = {0};
    bool is_same;

    if (strchr(id, '.') != NULL) /* as the page tells receivers */
        return false;
    sign_parse_secrets(secret, &keys);
    assert_int_equal(keys.count, 1);
    assert_int_equal(sign_add(&out, &keys, id, strtoull(timestamp, NULL, 10), bytes_of(body)),
                     OBX_OK);
    is_same = strcmp(out.data, signature) == 0;
    buf_fini(&out);
    return is_same;
}

/* What the line has between its two `. */
static void read_value(const char *line, char *value, size_t size)
{
    const char *begin = strchr(line, '`');
    const char *end = begin == NULL ? NULL : strrchr(begin + 1, '`');

    assert_non_null(end);
    assert_true(
        bytes_to_text((struct obx_bytes){begin + 1, (size_t)(end - begin - 1)}, value, size));
}

/* Each vector is five lines: secret, id, timestamp, body, signature. */
static void the_vectors_of_the_page_are_right(void **state)
{
    FILE *page = fopen(NOTIFY_PAGE, "re");
    char line[1024];
    char value[5][128];
    int vectors = 0;

    (void)state;
    assert_non_null(page);
    while (fgets(line, sizeof(line), page) != NULL) {
        if (strncmp(line, "secret ", strlen("secret ")) != 0)
            continue;
        for (int i = 0; i < 5; i++) {
            read_value(line, value[i], sizeof(value[i]));
            assert_non_null(fgets(line, sizeof(line), page));
        }
        assert_true(verifies(value[0], value[1], value[2], value[3], value[4]));
        vectors++;
    }
    fclose(page);
    assert_true(vectors >= 4);
}

/* The call of the last vector, read with other borders: the same bytes are signed, and it is the
 * dot in the id that tells. */
static void a_call_is_not_another_one(void **state)
{
    static const char secret[] = "a-plain-secret-of-24-chr";
    struct job *job = obx_calloc(1, sizeof(*job));
    struct obx_bytes texts[JOB_TEXTS] = {bytes_of("m1.1764500000"), bytes_of("a.b")};
    struct sign_keys keys;
    struct obx_buf out = {0};

    (void)state;
    sign_parse_secrets(secret, &keys);
    assert_int_equal(sign_add(&out, &keys, "m1", 1764500000, bytes_of("1999999999.text")), OBX_OK);
    assert_true(verifies(secret, "m1", "1764500000", "1999999999.text", out.data));
    assert_false(verifies(secret, "m1.1764500000", "1999999999", "text", out.data));
    buf_fini(&out);
    /* And no id of ours has one, whatever a producer calls its message. */
    assert_int_equal(job_set_texts(job, texts), OBX_OK);
    assert_string_equal(job->message_id, "m1%2E1764500000");
    assert_string_equal(job->topic, "a.b");
    job_destroy(job);
}

static void secrets_are_checked(void **state)
{
    const char *why = NULL;
    size_t count = 0;

    (void)state;
    assert_true(sign_check_secrets("0123456789abcdef, 0123456789abcdeg\n", &count, &why));
    assert_int_equal(count, 2);
    assert_false(sign_check_secrets("", &count, &why));
    assert_false(sign_check_secrets(" ,\n", &count, &why));
    assert_false(sign_check_secrets("0123456789abcde", &count, &why));
    assert_false(sign_check_secrets("whsec_****************", &count, &why));
    assert_false(sign_check_secrets("whsec_AAAA", &count, &why));
    assert_false(sign_check_secrets(
        "a123456789abcdef b123456789abcdef c123456789abcdef d123456789abcdef e123456789abcdef "
        "f123456789abcdef g123456789abcdef h123456789abcdef i123456789abcdef",
        &count, &why));
}

static void retry_after_is_seconds_or_a_date(void **state)
{
    const uint64_t now_us = 1000000000ULL * 1000000; /* Sun, 09 Sep 2001 01:46:40 GMT */

    (void)state;
    assert_int_equal(http_retry_after_ms("120", now_us), 120000);
    assert_int_equal(http_retry_after_ms(" 1 ", now_us), 1000);
    assert_int_equal(http_retry_after_ms("0", now_us), 0);
    assert_int_equal(http_retry_after_ms("-5", now_us), 0);
    assert_int_equal(http_retry_after_ms("5x", now_us), 0);
    assert_int_equal(http_retry_after_ms("", now_us), 0);
    assert_int_equal(http_retry_after_ms("soon", now_us), 0);
    assert_true(http_retry_after_ms("99999999999999999999999", now_us) >= UINT32_MAX);
    assert_int_equal(http_retry_after_ms("Sun, 09 Sep 2001 01:46:50 GMT", now_us), 10000);
    assert_int_equal(http_retry_after_ms("Sun, 09 Sep 2001 01:46:30 GMT", now_us), 0);
}

static void delays_have_a_unit(void **state)
{
    uint32_t ms = 7;

    (void)state;
    assert_true(keys_parse_delay("0s", &ms) && ms == 0);
    assert_true(keys_parse_delay("250ms", &ms) && ms == 250);
    assert_true(keys_parse_delay("5m", &ms) && ms == 300000);
    assert_true(keys_parse_delay("10h", &ms) && ms == 36000000);
    assert_true(keys_parse_delay("2d", &ms) && ms == 172800000);
    assert_false(keys_parse_delay("5", &ms));
    assert_false(keys_parse_delay("-5s", &ms));
    assert_false(keys_parse_delay("50d", &ms));
    assert_false(keys_parse_delay("99999999999999999999s", &ms));
    assert_false(keys_parse_delay("", &ms));
}

/* Against a plain array, through many additions and removals. */
static void idset_is_a_set(void **state)
{
    enum { IDS = 500, ROUNDS = 20000 };
    struct idset set = {0};
    bool in[IDS] = {false};
    size_t count = 0;
    uint64_t random = 12345;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t at;

        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        at = (size_t)(random >> 33) % IDS;
        if ((random >> 20 & 1U) != 0) {
            assert_int_equal(idset_add(&set, at + 1), OBX_OK);
            count += !in[at];
            in[at] = true;
        } else {
            idset_remove(&set, at + 1);
            count -= in[at];
            in[at] = false;
        }
        assert_int_equal(set.count, count);
    }
    for (size_t i = 0; i < IDS; i++)
        assert_int_equal(idset_has(&set, i + 1), in[i]);
    idset_clear(&set);
    assert_int_equal(set.count, 0);
    assert_false(idset_has(&set, 1));
    idset_fini(&set);
}

/* Four calls in a schedule that takes a second and a half. */
static bool is_hopeless(struct reach *reach, uint64_t now_ms, uint64_t *overdue_ms)
{
    return reach_is_hopeless(reach, 4, 1500, now_ms, overdue_ms);
}

static void hope_ends_by_time_and_by_probes(void **state)
{
    struct reach reach;
    uint64_t overdue_ms = 0;

    (void)state;
    reach_init(&reach);
    assert_false(is_hopeless(&reach, 100000, &overdue_ms));
    for (uint64_t at = 1000; at < 1100; at += 10)
        reach_failed(&reach, false, at);
    assert_false(is_hopeless(&reach, 100000, &overdue_ms)); /* nobody asked for those that wait */
    reach_failed(&reach, true, 1100);
    reach_failed(&reach, true, 1200);
    reach_failed(&reach, true, 1300);
    assert_false(is_hopeless(&reach, 100000, &overdue_ms));
    reach_failed(&reach, true, 1400);
    assert_false(is_hopeless(&reach, 2499, &overdue_ms)); /* it has failed for too short a time */
    assert_true(is_hopeless(&reach, 2500, &overdue_ms));
    assert_int_equal(overdue_ms, 1500);
    /* Later only those that were due at the first of the four. */
    assert_true(is_hopeless(&reach, 5000, &overdue_ms));
    assert_int_equal(overdue_ms, 5000 - 1100);
    reach_failed(&reach, true, 5000);
    assert_true(is_hopeless(&reach, 5000, &overdue_ms));
    assert_int_equal(overdue_ms, 5000 - 1200);
    reach_clear(&reach);
    assert_false(is_hopeless(&reach, 5000, &overdue_ms));
    for (uint64_t i = 0; i < 3 * NOTIFY_SCHEDULE_MAX; i++)
        reach_failed(&reach, true, 10000 + i * 1000);
    assert_true(is_hopeless(&reach, 200000, &overdue_ms));
    assert_int_equal(overdue_ms, 200000 - (10000 + (3 * NOTIFY_SCHEDULE_MAX - 4) * 1000));
    assert_true(reach_is_hopeless(&reach, NOTIFY_SCHEDULE_MAX, 1500, 200000, &overdue_ms));
    reach_fini(&reach);
}

static void texts_become_fit_for_a_header(void **state)
{
    struct job *job = obx_calloc(1, sizeof(*job));
    struct obx_bytes texts[JOB_TEXTS] = {{"a\r\nb: c", 7}, {"\0x", 2}, {NULL, 0}, {" edge ", 6}};

    (void)state;
    assert_int_equal(job_set_texts(job, texts), OBX_OK);
    assert_string_equal(job->message_id, "a%0D%0Ab: c");
    assert_string_equal(job->topic, "%00x");
    assert_string_equal(job->ordering_key, "");
    assert_string_equal(job->content_type, "%20edge%20");
    job_destroy(job);
}

static enum obx_code load(const char *text, struct notify_config **config, struct obx_buf *problems)
{
    const struct cfg_input input = {.path = "notify.ini", .text = bytes_of(text)};

    return notify_config_load(&input, config, problems, NULL);
}

#define BASE "[database]\nuser = u\ndatabase = d\n"
#define GOOD                                                                                       \
    BASE "[endpoint a]\nurl = https://a.example/x\ntopics = t.*, u\nsecrets = 0123456789abcdef\n"

static void configuration_is_built(void **state)
{
    struct notify_config *config = NULL, *other = NULL;
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(cfg_verify(&notify_schema, NULL, &err), OBX_OK);
    assert_int_equal(
        load(GOOD "[endpoint b]\nurl = http://b\ntopics = u\nsign = no\n", &config, NULL), OBX_OK);
    assert_int_equal(config->endpoint_count, 2);
    assert_int_equal(config->consumer.binding_count, 2);
    assert_int_equal(config->endpoints[0].schedule_count, 8);
    assert_int_equal(config->endpoints[0].schedule_ms[3], 1800000);
    assert_int_equal(config->endpoints[1].keys.count, 0);
    /* Fewer topics can follow; a new one, or another database, cannot. */
    assert_int_equal(load(GOOD, &other, NULL), OBX_OK);
    assert_true(notify_config_can_follow(config, other, &err));
    notify_config_unref(other);
    assert_int_equal(
        load(GOOD "[endpoint c]\nurl = http://c\ntopics = new\nsign = no\n", &other, NULL), OBX_OK);
    assert_false(notify_config_can_follow(config, other, &err));
    assert_non_null(strstr(err.text, "new"));
    notify_config_unref(other);
    notify_config_unref(config);
}

static void mistakes_are_named(void **state)
{
    static const char *const wrong[] = {
        BASE,
        GOOD "schedule = 5\n",
        GOOD "breaker_min = 2m\n",
        BASE "[endpoint a]\nurl = ftp://a\ntopics = t\nsign = no\n",
        BASE "[endpoint a]\nurl = http://\ntopics = t\nsign = no\n",
        BASE "[endpoint a]\nurl = http://a\ntopics = t\n",
        BASE "[endpoint a]\nurl = http://a\nsign = no\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct notify_config *config = NULL;
        struct obx_buf problems = {0};

        assert_int_equal(load(wrong[i], &config, &problems), OBX_E_CONFIG);
        assert_null(config);
        assert_true(problems.len > 0);
        assert_null(strstr(problems.data, "0123456789abcdef"));
        buf_fini(&problems);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_match_as_in_a_topic_exchange),
        cmocka_unit_test(signature_is_that_of_the_standard),
        cmocka_unit_test(the_vectors_of_the_page_are_right),
        cmocka_unit_test(a_call_is_not_another_one),
        cmocka_unit_test(secrets_are_checked),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
        cmocka_unit_test(delays_have_a_unit),
        cmocka_unit_test(idset_is_a_set),
        cmocka_unit_test(hope_ends_by_time_and_by_probes),
        cmocka_unit_test(texts_become_fit_for_a_header),
        cmocka_unit_test(configuration_is_built),
        cmocka_unit_test(mistakes_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
