/*
 * System tests of messages that cannot be published: returned, refused, too large, malformed. What
 * waits, waits visibly and goes through when the cause is gone; what is given up is parked with its
 * reason, and holds up its own key at most, as the topic's policy says. P1, P4, P6, P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "lane_rig.h"
#include "wait.h"

#define PARKED "SELECT COUNT(*) FROM outbox_parked"

static const struct topic_rule skip_rules[] = {{.pattern = "nowhere*", .on_park = PARK_SKIP}};

static void assert_parked(struct lane_rig *rig, uint64_t id, const char *code, const char *word)
{
    uint64_t found = rig_number(rig,
                                "SELECT COUNT(*) FROM outbox_parked WHERE id = %llu AND outbox ="
                                " 'outbox' AND reason_code = '%s' AND reason LIKE '%%%s%%'",
                                (unsigned long long)id, code, word);

    if (found != 1)
        fail_msg("row %llu is not parked as %s because of '%s'", (unsigned long long)id, code,
                 word);
}

/* ---- no queue is bound ---- */

static void an_unroutable_head_freezes_its_key(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = rig_insert(rig, "nowhere", "k", "x");
    uint64_t follower = rig_insert(rig, "t", "k", "x");
    uint64_t free_one = rig_insert(rig, "nowhere", NULL, "x");
    uint64_t other = rig_insert(rig, "t", "o", "x");
    uint64_t late = 0;

    rig->opts.max_attempts = 3;
    rig_start(rig);
    rig_wait_number(rig, 3, PARKED);
    late = rig_insert(rig, "t", "k", "x"); /* its key is frozen already */
    rig_wait_number(rig, 4, PARKED);
    rig_wait_empty(rig);
    assert_parked(rig, head, "OBX_E_MQ_UNROUTABLE", "NO_ROUTE");
    assert_parked(rig, free_one, "OBX_E_MQ_UNROUTABLE", "NO_ROUTE");
    assert_parked(rig, follower, "KEY_FROZEN", "");
    assert_parked(rig, late, "KEY_FROZEN", "");
    assert_int_equal(rig_number(rig, PARKED " WHERE attempts = 3 AND blocked_by IS NULL"), 2);
    assert_int_equal(rig_number(rig, PARKED " WHERE holds_key = 1"), 1);
    assert_int_equal(rig_number(rig, PARKED " WHERE blocked_by = %llu", (unsigned long long)head),
                     2);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1);
    assert_int_equal(rig->seen[0].id, other);
    assert_true(rig_stats(rig->lane).returned >= 6);
}

/* The next owner knows of it as well. */
static void a_frozen_key_stays_frozen(void **state)
{
    struct lane_rig *rig = *state;

    (void)rig_insert(rig, "nowhere", "k", "x");
    rig->opts.max_attempts = 1;
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED);
    rig_drain_lane(rig->lane);
    rig_bind(rig, "nowhere");
    rig_start(rig);
    rig_insert(rig, "nowhere", "k", "x");
    rig_insert(rig, "nowhere", "o", "x");
    rig_wait_number(rig, 2, PARKED);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1);
}

static void a_skipped_head_lets_its_key_go_on(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = rig_insert(rig, "nowhere", "k", "x");

    rig_insert(rig, "t", "k", "x");
    rig_insert(rig, "t", "k", "x");
    rig->opts.rules = skip_rules;
    rig->opts.rule_count = 1;
    rig->opts.max_attempts = 2;
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED " WHERE holds_key = 0");
    rig_wait_empty(rig);
    assert_parked(rig, head, "OBX_E_MQ_UNROUTABLE", "NO_ROUTE");
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 2);
    rig_assert_order(rig);
}

struct count_wait {
    struct lane *lane;
    uint64_t count;
};

static bool was_returned(void *ctx)
{
    const struct count_wait *wait = ctx;

    return rig_stats(wait->lane).returned >= wait->count;
}

static bool was_nacked(void *ctx)
{
    const struct count_wait *wait = ctx;

    return rig_stats(wait->lane).nacked >= wait->count;
}

static void a_queue_that_comes_later_gets_all(void **state)
{
    struct lane_rig *rig = *state;
    struct count_wait wait = {.count = 20};

    rig->opts.max_attempts = 100000;
    for (int i = 0; i < 40; i++)
        rig_insert(rig, "later", i % 2 == 0 ? "k" : NULL, "x");
    rig_insert(rig, "t", NULL, "x");
    rig_start(rig);
    wait.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, was_returned, &wait));
    rig_collect(rig, 1); /* the other topic goes on */
    rig_bind(rig, "later");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 41);
    rig_assert_order(rig);
    assert_int_equal(rig_number(rig, PARKED), 0);
}

/* ---- no exchange ---- */

static void an_exchange_that_comes_later_gets_all(void **state)
{
    struct lane_rig *rig = *state;
    char exchange[80];
    struct topic_rule rule = {.pattern = "x*", .exchange = exchange};
    struct count_wait wait = {.count = 3};

    (void)snprintf(exchange, sizeof(exchange), "%s-x", rig->exchange);
    rig->opts.rules = &rule;
    rig->opts.rule_count = 1;
    rig->opts.max_attempts = 100000;
    rig_fill(rig, 300, 7, 64);
    for (int i = 0; i < 30; i++)
        rig_insert(rig, "x", i % 2 == 0 ? "k1" : "x", "x"); /* k1 has rows of topic t, too */
    rig_fill(rig, 300, 7, 64);
    rig_start(rig);
    wait.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, was_returned, &wait));
    /* Only what stands behind the exchange in its key waits. */
    rig_wait_number(rig, 30 + 43, "SELECT COUNT(*) FROM outbox");
    broker_exchange(rig->admin, exchange);
    broker_bind(rig->admin, rig->queue, exchange, "x");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_true(rig->seen_count >= 630);
    rig_assert_order(rig);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    broker_delete_exchange(rig->admin, exchange);
}

/* ---- the queue is full ---- */

static void a_full_queue_loses_nothing(void **state)
{
    struct lane_rig *rig = *state;
    const struct broker_arg full[] = {{.name = "x-max-length", .number = 10},
                                      {.name = "x-overflow", .text = "reject-publish"}};
    struct count_wait wait = {.count = 50};
    int64_t until_ms = 0;

    broker_queue(rig->admin, rig->queue, full, 2);
    rig_bind(rig, "t");
    rig->opts.max_attempts = 2; /* nacks do not count */
    rig_fill(rig, 200, 5, 64);
    rig_start(rig);
    wait.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, was_nacked, &wait));
    assert_true(rig_stats(rig->lane).retrying > 0);
    until_ms = wait_now_ms() + RIG_WAIT_MS;
    while (rig_number(rig, "SELECT COUNT(*) FROM outbox") > 0 && wait_now_ms() < until_ms)
        rig_collect_all(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 200);
    rig_assert_order(rig);
    assert_int_equal(rig_number(rig, PARKED), 0);
}

/* ---- rows that can never be a message ---- */

static uint64_t insert_values(struct lane_rig *rig, const char *topic, const char *headers,
                              const char *payload)
{
    rig_run(rig,
            "INSERT INTO outbox (topic, ordering_key, headers, payload)"
            " VALUES (%s, UUID(), %s, %s)",
            topic, headers, payload);
    return db_insert_id(rig->db);
}

/* A producer may use one id twice: the row that no queue takes is parked, whichever came first. */
static void one_id_twice_and_one_of_them_unroutable(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.max_attempts = 3;
    rig->opts.retry_min_ms = 50; /* so that giving up takes no minute */
    rig->opts.retry_cap_ms = 100;
    for (int i = 0; i < 20; i++)
        rig_run(rig,
                "INSERT INTO outbox (message_id, topic, payload)"
                " VALUES ('order-%d', '%s', 'x'), ('order-%d', '%s', 'x')",
                i, i % 2 == 0 ? "t" : "nowhere", i, i % 2 == 0 ? "nowhere" : "t");
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked WHERE topic = 'nowhere'"
                                     " AND reason_code = 'OBX_E_MQ_UNROUTABLE'"
                                     " AND reason LIKE CONCAT('%%', 'key ''nowhere''%%')"),
                     20);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 20);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 20);
}

/* RabbitMQ's topic permissions forbid one topic of an exchange. */
static void a_forbidden_topic_parks_no_other(void **state)
{
    struct lane_rig *rig = *state;

    broker_topic_exchange(rig->admin, "lane_topics");
    broker_bind(rig->admin, rig->queue, "lane_topics", "#");
    assert_int_not_equal(
        system("\"$OBX_TEST_SERVERS\" rabbitmqctl -q delete_user lane-topics >/dev/null 2>&1"), -1);
    broker_servers("rabbitmqctl -q add_user lane-topics lane-topics");
    broker_servers("rabbitmqctl -q set_permissions lane-topics '.*' '.*' '.*'");
    broker_servers(
        "rabbitmqctl -q set_topic_permissions lane-topics lane_topics '^good$' '^good$'");
    rig->opts.exchange = "lane_topics";
    rig->opts.bridge.user = "lane-topics";
    rig->opts.bridge.password = "lane-topics";
    rig->opts.retry_min_ms = 20; /* so that giving up takes no minute */
    rig->opts.retry_cap_ms = 200;
    for (int i = 0; i < 400; i++)
        rig_insert(rig, i % 20 == 0 ? "bad" : "good", NULL, "x");
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked WHERE topic = 'good'"), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked WHERE topic = 'bad'"
                                     " AND reason_code = 'OBX_E_MQ_DENIED'"),
                     20);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    broker_servers("rabbitmqctl -q delete_user lane-topics");
    broker_delete_exchange(rig->admin, "lane_topics");
}

/* The broker cuts its text within the topic, and within a character of it. */
static void a_reason_that_is_cut_is_parked(void **state)
{
    struct lane_rig *rig = *state;

    broker_topic_exchange(rig->admin, "lane_cut");
    assert_int_not_equal(
        system("\"$OBX_TEST_SERVERS\" rabbitmqctl -q delete_user lane-cut >/dev/null 2>&1"), -1);
    broker_servers("rabbitmqctl -q add_user lane-cut lane-cut");
    broker_servers("rabbitmqctl -q set_permissions lane-cut '.*' '.*' '.*'");
    broker_servers("rabbitmqctl -q set_topic_permissions lane-cut lane_cut '^good$' '^good$'");
    rig->opts.exchange = "lane_cut";
    rig->opts.bridge.user = "lane-cut";
    rig->opts.bridge.password = "lane-cut";
    rig->opts.max_attempts = 2; /* so that giving up takes no minute */
    rig->opts.retry_min_ms = 20;
    rig->opts.retry_cap_ms = 200;
    (void)insert_values(rig, "REPEAT('\xc3\xa4', 125)", "NULL", "'x'");
    (void)insert_values(rig, "CONCAT('a', REPEAT('\xc3\xa4', 125))", "NULL", "'x'");
    rig_start(rig);
    rig_wait_number(rig, 2, PARKED);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    broker_servers("rabbitmqctl -q delete_user lane-cut");
    broker_delete_exchange(rig->admin, "lane_cut");
}

static void what_is_no_message_is_parked_with_its_reason(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t array = insert_values(rig, "'t'", "'[1]'", "'x'");
    uint64_t text = insert_values(rig, "'t'", "'\"a\"'", "'x'");
    uint64_t nul = insert_values(rig, "'t'", "'{\"a\": \"\\\\u0000\"}'", "'x'");
    uint64_t reserved = insert_values(rig, "'t'", "'{\"x-obx-outbox-id\": 1}'", "'x'");
    uint64_t reserved_long =
        insert_values(rig, "'t'", "CONCAT('{\"x-obx-', REPEAT('\xc3\xa4', 120), '\": 1}')", "'x'");
    uint64_t big_headers =
        insert_values(rig, "'t'", "CONCAT('{\"a\": \"', REPEAT('h', 200000), '\"}')", "'x'");
    uint64_t huge_headers =
        insert_values(rig, "'t'", "CONCAT('{\"a\": \"', REPEAT('h', 3000000), '\"}')", "'x'");
    uint64_t topic_long = insert_values(rig, "REPEAT('\xc3\xa4', 200)", "NULL", "'x'");
    uint64_t topic_nul = insert_values(rig, "CONCAT('t', CHAR(0), 'x')", "NULL", "'x'");
    uint64_t topic_empty = insert_values(rig, "''", "NULL", "'x'");
    uint64_t large = insert_values(rig, "'t'", "NULL", "REPEAT('x', 50001)");
    uint64_t good = insert_values(rig, "'t'", "CONCAT('{\"a\": \"', REPEAT('h', 60000), '\"}')",
                                  "REPEAT('x', 50000)");

    rig->opts.max_body_bytes = 50000;
    rig_start(rig);
    rig_wait_number(rig, 11, PARKED);
    rig_wait_empty(rig);
    assert_parked(rig, array, "OBX_E_FORMAT", "object");
    assert_parked(rig, text, "OBX_E_FORMAT", "object");
    assert_parked(rig, nul, "OBX_E_FORMAT", "headers");
    assert_parked(rig, reserved, "OBX_E_FORMAT", "reserved");
    assert_parked(rig, reserved_long, "OBX_E_FORMAT", "x-obx-");
    assert_parked(rig, big_headers, "OBX_E_FORMAT", "");
    assert_parked(rig, huge_headers, "OBX_E_TOO_LARGE", "headers of 3000");
    assert_parked(rig, topic_long, "OBX_E_FORMAT", "400 bytes");
    assert_parked(rig, topic_nul, "OBX_E_FORMAT", "NUL");
    assert_parked(rig, topic_empty, "OBX_E_FORMAT", "empty");
    assert_parked(rig, large, "OBX_E_TOO_LARGE", "50001 bytes");
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1);
    assert_int_equal(rig->seen[0].id, good);
    assert_int_equal(rig->seen[0].body_len, 50000);
    /* Each is there as it was. */
    assert_int_equal(rig_number(rig, PARKED " WHERE LENGTH(headers) > 3000000"), 1);
    assert_int_equal(rig_number(rig, PARKED " WHERE LENGTH(payload) = 50001"), 1);
    assert_int_equal(rig_stats(rig->lane).parked, 11);
}

/* An id that stands in outbox_parked already (a table that was emptied by hand) cannot be parked a
 * second time: it waits, visibly, and the others are parked beside it. */
static void one_that_cannot_be_parked_holds_up_no_other(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t twice = rig_insert(rig, "nowhere", "k", "x");
    uint64_t other = rig_insert(rig, "nowhere", "o", "x");

    rig_run(rig,
            "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload,"
            " created_at, reason_code) VALUES ('outbox', %llu, 'old', 't', '', '', NOW(6), 'OLD')",
            (unsigned long long)twice);
    rig->opts.max_attempts = 1;
    rig_start(rig);
    rig_insert(rig, "t", "free", "x");
    rig_collect(rig, 1);
    rig_wait_number(rig, 2, PARKED);
    assert_parked(rig, other, "OBX_E_MQ_UNROUTABLE", "NO_ROUTE");
    assert_int_equal(rig_number(rig, "SELECT MIN(id) FROM outbox"), twice);
    rig_run(rig, "DELETE FROM outbox_parked WHERE reason_code = 'OLD'");
    rig_wait_empty(rig);
    assert_parked(rig, twice, "OBX_E_MQ_UNROUTABLE", "NO_ROUTE");
}

/* More is parked, by others, than an owner looks at when it takes the lease: a key that is frozen
 * beyond stays so. */
static void a_key_frozen_beyond_what_is_looked_at(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t follower = 0;

    rig_run(rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload,"
                 " created_at, reason_code, reason) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
                 " SELECT i + 1 FROM n WHERE i < 900) SELECT 'other', a.i * 1000 + b.i,"
                 " CONCAT(a.i, '-', b.i), 't', 'text/plain', 'x', UTC_TIMESTAMP(6), 'X', 'x'"
                 " FROM n a JOIN n b WHERE a.i <= 6");
    rig_insert(rig, "", "frozen", "x");
    rig_start(rig);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    follower = rig_insert(rig, "t", "frozen", "x");
    (void)rig_insert(rig, "t", "free", "x");
    rig_collect(rig, 1);
    assert_string_equal(rig->seen[0].key, "free");
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig,
                                "SELECT COUNT(*) FROM outbox_parked WHERE id = %llu"
                                " AND outbox = 'outbox' AND blocked_by IS NOT NULL",
                                (unsigned long long)follower),
                     1);
}

/* ---- bounds ---- */

struct bound_watch {
    struct lane *lane;
    uint64_t held_max;
    uint64_t retrying_max;
    uint64_t confirmed;
};

static bool stays_in_bounds(void *ctx)
{
    struct bound_watch *watch = ctx;
    struct lane_stats stats = rig_stats(watch->lane);

    watch->held_max = stats.held > watch->held_max ? stats.held : watch->held_max;
    watch->retrying_max =
        stats.retrying > watch->retrying_max ? stats.retrying : watch->retrying_max;
    return stats.confirmed >= watch->confirmed;
}

/* A key with more followers than there is room for, behind a head that nobody takes, and a topic
 * that is refused throughout: what is in memory is bounded, and other keys go on. */
static void a_hot_key_takes_its_share_only(void **state)
{
    struct lane_rig *rig = *state;
    struct bound_watch watch = {.confirmed = 500};

    rig->opts.max_attempts = 100000;
    rig_insert(rig, "nowhere", "k0", "x");
    rig_fill(rig, 2500, 1, 16); /* all of key k0 */
    rig_run(rig, "UPDATE outbox SET topic = 'nowhere' WHERE id %% 3 = 0");
    for (int i = 0; i < 2; i++)
        rig_run(rig,
                "INSERT INTO outbox (topic, payload) SELECT 'nowhere', 'x' FROM outbox LIMIT 2500");
    rig_fill(rig, 500, 0, 16);
    rig_start(rig);
    watch.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, stays_in_bounds, &watch));
    assert_in_range(watch.held_max, 100, 2000);
    assert_in_range(watch.retrying_max, 1, 4096);
    rig_collect(rig, 500);
    rig_bind(rig, "nowhere");
    rig_wait_empty(rig);
    rig_collect(rig, 8001);
    rig_assert_order(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_unroutable_head_freezes_its_key, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_frozen_key_stays_frozen, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_skipped_head_lets_its_key_go_on, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_queue_that_comes_later_gets_all, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_exchange_that_comes_later_gets_all, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_loses_nothing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(one_id_twice_and_one_of_them_unroutable, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_forbidden_topic_parks_no_other, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_reason_that_is_cut_is_parked, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_message_is_parked_with_its_reason, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_parked_holds_up_no_other, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_key_frozen_beyond_what_is_looked_at, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_hot_key_takes_its_share_only, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
