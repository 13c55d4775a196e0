/*
 * System tests of what operators ask for: a frozen key comes back whole and in order, a discarded
 * head lets its followers go, and a request that cannot run says so. P4, P6.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lane_rig.h"

#define PARKED "SELECT COUNT(*) FROM outbox_parked"

enum { FOLLOWERS = 520 }; /* more than one transaction moves */

/* A head of key k0 that was given up, and its followers behind it. Returns the head's id. */
static uint64_t park_key(struct lane_rig *rig)
{
    uint64_t head = rig_insert(rig, "nowhere", "k0", "x");

    rig->opts.max_attempts = 1;
    rig_fill(rig, FOLLOWERS, 1, 16);
    rig_start(rig);
    rig_wait_number(rig, FOLLOWERS + 1, PARKED);
    return head;
}

static void ask(struct lane_rig *rig, uint64_t id, const char *what)
{
    rig_run(rig,
            "UPDATE outbox_parked SET request = '%s', requested_at = UTC_TIMESTAMP(6),"
            " requested_by = 'test' WHERE id = %llu",
            what, (unsigned long long)id);
}

static void a_frozen_key_comes_back_in_order(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);
    uint64_t newer = 0;

    rig_bind(rig, "nowhere");
    ask(rig, head, "resume");
    for (int i = 0; i < 20; i++) /* while it goes on */
        newer = rig_insert(rig, "t", "k0", "x");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS + 21);
    rig_assert_order(rig);
    assert_int_equal(rig_place(rig, head), 0);
    assert_int_equal(rig_place(rig, newer), FOLLOWERS + 20);
    assert_in_range(rig_stats(rig->lane).resumed, FOLLOWERS + 1, FOLLOWERS + 21);
}

/* The cause is still there: it is parked again, whole. */
static void a_resume_in_vain_changes_nothing(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head, "resume");
    rig_wait_number(rig, FOLLOWERS + 1, PARKED " WHERE request IS NULL");
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, PARKED " WHERE blocked_by = %llu", (unsigned long long)head),
                     FOLLOWERS);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 0);
}

static void a_discarded_head_lets_its_followers_go(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head, "discard");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS);
    rig_assert_order(rig);
    assert_int_equal(rig_place(rig, head), SIZE_MAX);
    assert_int_equal(rig_stats(rig->lane).discarded, 1);
}

#define AUDIT "SELECT COUNT(*) FROM outbox_audit"

/* Who ended which message, and why, is there as soon as the message is gone; what is older than a
 * year goes. */
static void a_discard_leaves_an_audit_row(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    rig_run(rig,
            "INSERT INTO outbox_audit (done_at, action, actor, note, outbox, id, message_id, topic,"
            " reason_code) VALUES (UTC_TIMESTAMP(6) - INTERVAL 366 DAY, 'discard', 'old', '',"
            " 'outbox', 1, 'old', 't', 'r'), (UTC_TIMESTAMP(6) - INTERVAL 364 DAY, 'discard',"
            " 'young', '', 'outbox', 2, 'young', 't', 'r')");
    rig_run(rig,
            "UPDATE outbox_parked SET request = 'discard', requested_by = 'ann',"
            " request_note = 'sold twice' WHERE id = %llu",
            (unsigned long long)head);
    rig_wait_number(rig, 0, PARKED);
    assert_int_equal(rig_number(rig, AUDIT " WHERE actor = 'old'"), 0);
    assert_int_equal(rig_number(rig, AUDIT " WHERE actor = 'young'"), 1);
    assert_int_equal(rig_number(rig,
                                AUDIT " WHERE action = 'discard' AND actor = 'ann'"
                                      " AND note = 'sold twice' AND outbox = 'outbox'"
                                      " AND id = %llu AND message_id <> '' AND topic <> ''"
                                      " AND ordering_key IS NOT NULL AND reason_code <> ''",
                                (unsigned long long)head),
                     1);
    assert_int_equal(rig_number(rig, AUDIT), 2); /* those that went back are not in it */
}

/* Without the row nothing is discarded, and the request says why. */
static void a_discard_that_cannot_be_noted_is_refused(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    rig_run(rig, "RENAME TABLE outbox_audit TO hidden");
    ask(rig, head, "discard");
    rig_wait_number(rig, 1, PARKED " WHERE request IS NULL AND request_note LIKE '%outbox_audit%'");
    rig_run(rig, "RENAME TABLE hidden TO outbox_audit");
    ask(rig, head, "discard");
    rig_wait_number(rig, 0, PARKED);
    assert_int_equal(rig_number(rig, AUDIT), 1);
}

/* A follower cannot go before its head; asking for it asks for the head. One that is discarded goes
 * alone. */
static void a_follower_is_asked_for(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head + 1, "discard");
    rig_wait_number(rig, FOLLOWERS, PARKED);
    rig_bind(rig, "nowhere");
    ask(rig, head + 2, "resume");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS);
    assert_int_equal(rig_place(rig, head + 1), SIZE_MAX);
    assert_int_equal(rig_place(rig, head), 0);
    rig_assert_order(rig);
}

static void a_request_that_cannot_run_says_so(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t id = rig_insert(rig, "nowhere", NULL, "x");

    rig->opts.max_attempts = 1;
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    /* The id is in use again. */
    rig_run(rig, "INSERT INTO outbox (id, topic, payload) VALUES (%llu, 't', 'x')",
            (unsigned long long)id);
    rig->opts.gated = true; /* it stays there */
    ask(rig, id, "resume");
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED " WHERE request IS NULL AND request_note <> ''");
    lane_open_gate(rig->lane);
    rig_wait_empty(rig);
    ask(rig, id, "resume"); /* now it can be */
    rig_bind(rig, "nowhere");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, 2);
}

/* Put back, an id of the upper half would leave the outbox without ids to give; and who discards
 * is asked for no more. */
static void an_id_that_would_break_the_counter(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t next = 0;

    rig->opts.max_attempts = 1;
    rig_start(rig);
    next = rig_insert(rig, "nowhere", NULL, "x");
    rig_wait_number(rig, 1, PARKED);
    rig_run(rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key,"
                 " content_type, payload, created_at, reason_code, holds_key, request) VALUES"
                 " ('outbox', 18446744073709551610, 'm', 't', NULL, '', '', NOW(6), 'X', 0,"
                 " 'resume'), ('outbox', 18446744073709551600, 'n', 't', 'k', '', '', NOW(6), 'X',"
                 " 1, 'resume')");
    ask(rig, next, "discard");
    rig_wait_number(rig, 2,
                    PARKED " WHERE request IS NULL AND request_note LIKE '%without ids to give%'");
    rig_wait_number(rig, 2, PARKED);
    assert_int_equal(rig_insert(rig, "t", NULL, "x"), next + 1);
    rig_run(rig, "UPDATE outbox_parked SET request = 'discard'");
    rig_wait_number(rig, 0, PARKED);
}

/* ---- rows without a key ---- */

/* Rows without a key that no queue takes; the lane is up. Later on one does. Each deleted row notes
 * the lease as its transaction has renewed it: so many values, so many transactions. */
static void park_keyless(struct lane_rig *rig, unsigned rows)
{
    rig_run(rig, "CREATE TABLE steps (at DATETIME(6) NOT NULL)");
    rig_run(rig, "CREATE TRIGGER note_step AFTER DELETE ON outbox_parked FOR EACH ROW"
                 " INSERT INTO steps SELECT expires_at FROM outbox_lease");
    rig->opts.max_attempts = 1;
    rig_fill(rig, rows, 0, 16);
    rig_run(rig, "UPDATE outbox SET topic = 'nowhere'");
    rig_start(rig);
    rig_wait_number(rig, rows, PARKED);
    rig_wait_empty(rig);
    rig_bind(rig, "nowhere");
}

static uint64_t steps(struct lane_rig *rig)
{
    return rig_number(rig, "SELECT COUNT(DISTINCT at) FROM steps");
}

static void rows_without_a_key_go_together(void **state)
{
    enum { ROWS = 1200, STEPS_MAX = 20 };
    struct lane_rig *rig = *state;

    park_keyless(rig, ROWS);
    rig_run(rig, "UPDATE outbox_parked SET requested_at = UTC_TIMESTAMP(6),"
                 " request = IF(MOD(parked_id, 4) = 0, 'discard', 'resume')");
    rig_run(rig, "CREATE TABLE discarded SELECT id FROM outbox_parked WHERE request = 'discard'");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM steps"), ROWS);
    assert_in_range(steps(rig), 2, STEPS_MAX);
    rig_collect(rig, ROWS - ROWS / 4);
    rig_collect_all(rig);
    for (size_t i = 0; i < rig->seen_count; i++)
        assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM discarded WHERE id = %llu",
                                    (unsigned long long)rig->seen[i].id),
                         0);
    assert_int_equal(rig->seen_count, ROWS - ROWS / 4);
    assert_int_equal(rig_stats(rig->lane).resumed, ROWS - ROWS / 4);
    assert_int_equal(rig_stats(rig->lane).discarded, ROWS / 4);
}

/* Two ids of many are in use again: these two stay and say why, the others go, and still not one by
 * one. */
static void a_row_in_the_way_does_not_stop_the_others(void **state)
{
    enum { ROWS = 600, STEPS_MAX = 60 };
    struct lane_rig *rig = *state;

    park_keyless(rig, ROWS);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_run(rig, "INSERT INTO outbox (id, topic, payload) SELECT id, 't', 'x' FROM outbox_parked"
                 " ORDER BY parked_id LIMIT 2 OFFSET 400");
    rig->opts.gated = true;
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
    rig_start(rig);
    rig_wait_number(rig, 0, PARKED " WHERE request IS NOT NULL");
    assert_int_equal(rig_number(rig, PARKED " WHERE request_note <> ''"), 2);
    assert_int_equal(rig_number(rig, PARKED), 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), ROWS);
    assert_in_range(steps(rig), 2, STEPS_MAX);
    assert_int_equal(rig_stats(rig->lane).resumed, ROWS - 2);
    lane_open_gate(rig->lane);
    rig_wait_empty(rig);
    rig_collect(rig, ROWS);
}

/* A request is taken back in a transaction that is still open when the lane sees it. */
static void a_request_taken_back_does_not_run(void **state)
{
    enum { ROWS = 30 };
    struct lane_rig *rig = *state;
    uint64_t kept = 0;
    uint64_t other = 0;

    park_keyless(rig, ROWS);
    rig_drain_lane(rig->lane);
    kept = rig_number(rig, "SELECT MAX(id) FROM outbox_parked");
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
    rig_run(rig, "START TRANSACTION");
    rig_run(rig, "UPDATE outbox_parked SET request = NULL WHERE id = %llu",
            (unsigned long long)kept);
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED); /* the others do not wait for it */
    rig_wait_empty(rig);
    rig_run(rig, "COMMIT");
    other = rig_insert(rig, "unbound", NULL, "x"); /* until requests have been looked at again */
    rig_wait_number(rig, 2, PARKED);
    ask(rig, other, "discard");
    rig_wait_number(rig, 1, PARKED);
    rig_wait_empty(rig);
    assert_int_equal(
        rig_number(rig, PARKED " WHERE id = %llu AND request IS NULL", (unsigned long long)kept),
        1);
    rig_collect(rig, ROWS - 1);
    assert_int_equal(rig_place(rig, kept), SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_frozen_key_comes_back_in_order, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_resume_in_vain_changes_nothing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_discarded_head_lets_its_followers_go, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_discard_leaves_an_audit_row, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_discard_that_cannot_be_noted_is_refused, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_follower_is_asked_for, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_request_that_cannot_run_says_so, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_id_that_would_break_the_counter, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(rows_without_a_key_go_together, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_row_in_the_way_does_not_stop_the_others, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_request_taken_back_does_not_run, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
