/*
 * inbox-relay with to = inbox, as a process with the rights of its role: from the queue into the
 * table, by workers out of it, filed and reported (P3, P4, P6, P7, P8, P10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bridge/pack.h"
#include "cut_proxy.h"
#include "http_call.h"
#include "inbox_rig.h"
#include "process.h"
#include "wait.h"

#define ROWS(state) "SELECT COUNT(*) FROM inbox WHERE state = '" state "'"
static const char all_rows[] = "SELECT COUNT(*) FROM inbox";

static enum inbox_act by_body(const struct inbox_taken *taken)
{
    if (strcmp(taken->payload, "reject") == 0)
        return INBOX_ACT_REJECT;
    if (strcmp(taken->payload, "retry") == 0)
        return INBOX_ACT_RETRY;
    if (strcmp(taken->payload, "twice") == 0 && taken->attempt < 2)
        return INBOX_ACT_RETRY;
    return INBOX_ACT_DONE;
}

static void put(struct inbox_rig *rig, const char *id, const char *key, const char *body)
{
    rig_put(rig->rig, id, key, body);
    rig_flush(rig->rig);
}

static void stores_works_and_files(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    rig_fill(rig->rig, "m", 1000, 20);
    inbox_rig_start(rig, 0, NULL);
    workers = inbox_workers_start(rig, 3, NULL);
    rig_fill(rig->rig, "n", 500, 0);
    rig_wait_applied(rig->rig, 1500);
    rig_wait_number(rig->rig, all_rows, 0);
    assert_int_equal(inbox_workers_stop(workers), 1500);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 1500);
    rig_assert_empty(rig->rig, rig->rig->queue);
}

/* Each message of a pack has a row of its own; a pack that cannot be read is dead, and nothing else. */
static void stores_a_pack_message_by_message(void **state)
{
    static const char *const keys[] = {"a", "b", NULL};
    enum { EVENTS = 30 };
    const struct obx_header told = {
        .name = bytes_of(PACK_COUNT_HEADER), .type = OBX_H_I64, .v.i64 = 1};
    const struct bridge_message cut = {.content_type = bytes_of(PACK_CONTENT_TYPE),
                                       .app_id = bytes_of("rowpost"),
                                       .headers = &told,
                                       .header_count = 1,
                                       .body = bytes_of("[{\"id\":")};
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;
    struct rig_event events[EVENTS];

    for (int i = 0; i < EVENTS; i++) {
        events[i] = (struct rig_event){.key = keys[i % 3], .body = i == 3 ? "twice" : "ok"};
        (void)snprintf(events[i].id, sizeof(events[i].id), "p-%02d", i);
    }
    events[5].body = "reject"; /* without a key */
    rig_put_pack(rig->rig, events, EVENTS);
    rig_put_pack(rig->rig, events, EVENTS); /* a copy */
    rig_put_message(rig->rig, &cut);
    put(rig, "alone", "a", "ok");
    inbox_rig_start(rig, 0, NULL);
    rig_wait_number(rig->rig, all_rows, EVENTS + 1);
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND reason LIKE "
                    "'%a pack that is no JSON%'",
                    1);
    workers = inbox_workers_start(rig, 3, by_body);
    rig_wait_applied(rig->rig, EVENTS);
    rig_wait_number(rig->rig, ROWS("dead"), 1);
    rig_wait_number(rig->rig, all_rows, 1);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_assert_empty(rig->rig, rig->rig->queue);
}

static void fails_retries_and_freezes(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    inbox_rig_start(rig, 0, NULL);
    put(rig, "a-1", "a", "twice");
    put(rig, "a-2", "a", "reject");
    put(rig, "a-3", "a", "ok");
    put(rig, "b-1", "b", "retry");
    put(rig, "b-2", "b", "ok");
    put(rig, "c-1", "c", "ok");
    workers = inbox_workers_start(rig, 2, by_body);
    rig_wait_number(rig->rig, "SELECT COUNT(*) FROM inbox WHERE state = 'dead' AND due_at IS NULL",
                    2);
    rig_wait_applied(rig->rig, 2); /* a-1 and c-1: dead ones hold their keys */
    rig_wait_number(rig->rig, ROWS("blocked"), 2);
    assert_int_equal(rig_number(rig->rig, "SELECT attempts FROM inbox WHERE message_id = 'b-1'"),
                     3);
    test_db_run(rig->rig->db, "UPDATE inbox SET due_at = UTC_TIMESTAMP(6), state = 'discarded' "
                              "WHERE message_id = 'a-2' AND state IN ('ready', 'dead')");
    rig_wait_applied(rig->rig, 3);
    test_db_run(rig->rig->db, "UPDATE inbox SET payload = 'ok', due_at = UTC_TIMESTAMP(6), "
                              "state = 'ready', attempts = 0 WHERE message_id = 'b-1' AND state = "
                              "'dead' AND is_reported = 0");
    rig_wait_applied(rig->rig, 5);
    rig_wait_number(rig->rig, all_rows, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 5);
}

static void skips_the_dead_where_it_is_told_to(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    inbox_rig_configure(rig, "on_dead = skip\nkeep_done = 1h\n");
    inbox_rig_start(rig, 0, NULL);
    put(rig, "a-1", "a", "reject");
    put(rig, "a-2", "a", "ok");
    workers = inbox_workers_start(rig, 2, by_body);
    rig_wait_applied(rig->rig, 1);
    rig_wait_number(rig->rig, ROWS("kept"), 1);
    rig_wait_number(rig->rig, ROWS("dead"), 1);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 1);
}

/* ------------------------------------------------------------------ receipts */

static const char receipts[] = "rowpost.receipts.inbox-test";

static void expect_receipt(struct inbox_rig *rig, const char *body)
{
    struct bridge_delivery *delivery = rig_take(rig->rig, receipts, RIG_WAIT_MS);

    if (delivery == NULL)
        fail_msg("no receipt: %s", body);
    assert_int_equal(delivery->msg.body.len, strlen(body));
    assert_memory_equal(delivery->msg.body.p, body, strlen(body));
    bridge_delivery_free(delivery);
}

/* Both, in one message or in two. */
static void expect_outcomes(struct inbox_rig *rig, const char *one, const char *other)
{
    char text[2048] = "";

    while (strstr(text, one) == NULL || strstr(text, other) == NULL) {
        struct bridge_delivery *delivery = rig_take(rig->rig, receipts, RIG_WAIT_MS);
        const size_t len = strlen(text);

        if (delivery == NULL)
            fail_msg("no receipt but %s", text);
        (void)bytes_to_text(delivery->msg.body, text + len, sizeof(text) - len);
        bridge_delivery_free(delivery);
    }
}

static void wait_stored(struct inbox_rig *rig, uint64_t rows)
{
    rig_wait_number(rig->rig, all_rows, rows);
}

static bool has_no_message(void *ctx)
{
    struct inbox_rig *rig = ctx;

    return broker_count(rig->rig->admin, rig->rig->queue) == 0;
}

static void reports_what_the_service_says(void **state)
{
    struct inbox_rig *rig = *state;
    struct obx_err err = {0};
    struct db *db = test_db_open(&rig->worker_opts);

    broker_queue(rig->rig->admin, receipts, NULL, 0);
    inbox_rig_start(rig, 0, NULL);
    inbox_rig_put_asking(rig, "r-1", "r", "ok", receipts);
    inbox_rig_put_asking(rig, "r-2", "r", "reject", receipts);
    put(rig, "r-3", "r", "ok");
    wait_stored(rig, 3);
    inbox_rig_put_asking(rig, "r-1", "r", "ok", receipts); /* its producer sends it again */
    rig_flush(rig->rig);
    assert_true(wait_until(RIG_WAIT_MS, has_no_message, rig));
    assert_int_equal(broker_count(rig->rig->admin, receipts), 0);
    assert_true(inbox_work_once(db, NULL, by_body, &err));
    expect_receipt(rig, "{\"receipts\":[{\"message_id\":\"r-1\",\"group\":\"group-a\","
                        "\"outcome\":\"applied\",\"token\":\"token-of-the-test\"}]}");
    assert_true(inbox_work_once(db, NULL, by_body, &err));
    expect_receipt(rig, "{\"receipts\":[{\"message_id\":\"r-2\",\"group\":\"group-a\","
                        "\"outcome\":\"rejected\",\"reason\":\"no such order\","
                        "\"token\":\"token-of-the-test\"}]}");
    rig_wait_number(rig->rig, ROWS("ready"), 1); /* r-2 is known to its producer: the key goes on */
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox_applied WHERE outcome IS NULL AND message_id IN "
                    "('r-1', 'r-3')",
                    2);
    inbox_rig_put_asking(rig, "r-1", "r", "ok", receipts);
    inbox_rig_put_asking(rig, "r-2", "r", "reject", receipts);
    rig_flush(rig->rig);
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox_applied WHERE outcome = 'rejected' AND "
                    "reason = 'no such order'",
                    1);
    expect_outcomes(rig, "\"outcome\":\"applied\"",
                    "\"outcome\":\"rejected\",\"reason\":\"no such order\"");
    db_close(db);
    inbox_rig_stop(rig, 0);
    broker_delete_queue(rig->rig->admin, receipts);
}

/* More bytes than a dedup row keeps, though not more characters, and one of them cut in the middle. */
static void a_long_reason_is_reported(void **state)
{
    struct inbox_rig *rig = *state;
    struct db *db = test_db_open(&rig->worker_opts);
    struct inbox_taken taken = {0};
    struct obx_err err = {0};
    char reason[3 * 250 + 1] = "";
    bool found = false;

    for (int i = 0; i < 250; i++)
        memcpy(reason + (ptrdiff_t)3 * i, "\xE2\x82\xAC", 3);
    broker_queue(rig->rig->admin, receipts, NULL, 0);
    inbox_rig_start(rig, 0, NULL);
    inbox_rig_put_asking(rig, "r-1", "r", "reject", receipts);
    rig_flush(rig->rig);
    wait_stored(rig, 1);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(inbox_take(db, "orders", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found);
    assert_int_equal(inbox_reject(db, &taken, reason, &err), OBX_OK);
    assert_int_equal(db_commit(db, &err), OBX_OK);
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox_applied WHERE outcome = 'rejected' AND "
                    "LENGTH(reason) BETWEEN 250 AND 255",
                    1);
    db_close(db);
    inbox_rig_stop(rig, 0);
    broker_delete_queue(rig->rig->admin, receipts);
}

/* done without the successor, which this worker's next could not see. */
static void done_past_its_successor(struct db *db, uint64_t id)
{
    struct obx_err err = {0};
    uint64_t changed = 0;

    assert_int_equal(db_exec(db, inbox_statement_text(INBOX_DONE), DB_ARGS(DB_U64(id), DB_U64(0)),
                             &changed, &err),
                     OBX_OK);
    assert_int_equal(changed, 1);
    assert_int_equal(db_commit(db, &err), OBX_OK);
}

/* More than inbox-relay holds receipts for in memory. */
static const char owe_many[] =
    "INSERT INTO inbox (queue, state, due_at, message_id, topic, receipt_to, receipt_token, size,"
    " payload) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 64)"
    " SELECT 'orders', 'done', UTC_TIMESTAMP(6), CONCAT('owed-', a.i, '-', b.i), 't',"
    " 'rowpost.receipts.inbox-test', 'token', 1, 'p' FROM n a JOIN n b";

/* The broker is away, and receipts are owed: no key waits for that, and nothing else does. */
static void no_key_waits_for_the_broker(void **state)
{
    struct inbox_rig *rig = *state;
    struct cut_proxy *proxy =
        cut_proxy_create(rig->rig->broker.host, (uint16_t)rig->rig->broker.port);
    struct db *db = test_db_open(&rig->worker_opts);
    struct inbox_taken taken = {0};
    struct broker direct = rig->rig->broker;
    struct obx_err err = {0};
    bool found = false;

    broker_queue(rig->rig->admin, receipts, NULL, 0);
    (void)snprintf(rig->rig->broker.address, sizeof(rig->rig->broker.address), "127.0.0.1:%u",
                   (unsigned)cut_proxy_port(proxy));
    inbox_rig_configure(rig, "on_dead = skip\n");
    rig->rig->broker = direct;
    inbox_rig_start(rig, 0, NULL);
    inbox_rig_put_asking(rig, "r-1", "r", "ok", receipts);
    rig_flush(rig->rig);
    wait_stored(rig, 1);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(inbox_take(db, "orders", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found);
    put(rig, "r-2", "r", "ok");
    put(rig, "d-1", "d", "reject");
    put(rig, "d-2", "d", "ok");
    put(rig, "e-1", "e", "ok");
    put(rig, "e-2", "e", "ok");
    wait_stored(rig, 6);
    cut_proxy_set_refuse(proxy, true);
    cut_proxy_cut_all(proxy);
    test_db_run(rig->rig->db, owe_many);
    done_past_its_successor(db, taken.id);
    test_db_run(rig->rig->db, "UPDATE inbox SET state = 'dead', due_at = UTC_TIMESTAMP(6) WHERE "
                              "message_id = 'd-1'");
    test_db_run(rig->rig->db, "UPDATE inbox SET state = 'discarded', due_at = UTC_TIMESTAMP(6) "
                              "WHERE message_id = 'e-1'");
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox WHERE state = 'ready' AND message_id IN "
                    "('r-2', 'd-2', 'e-2')",
                    3);
    cut_proxy_set_refuse(proxy, false);
    rig_wait_number(rig->rig, ROWS("done"), 0); /* and nothing that is owed is forgotten */
    db_close(db);
    inbox_rig_stop(rig, 0);
    cut_proxy_destroy(proxy);
    broker_delete_queue(rig->rig->admin, receipts);
}

/* ------------------------------------------------------------------ what others do to the table */

static void rows_removed_by_hand(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    inbox_rig_start(rig, 0, NULL);
    inbox_rig_put_asking(rig, "a-1", "a", "ok", receipts);
    put(rig, "a-2", "a", "ok");
    put(rig, "a-3", "a", "ok");
    wait_stored(rig, 3);
    test_db_run(rig->rig->db, "DELETE FROM inbox WHERE message_id IN ('a-1', 'a-2')");
    test_db_run(rig->rig->db, "UPDATE inbox SET ordering_key = 'z'");
    workers = inbox_workers_start(rig, 2, NULL);
    rig_wait_applied(rig->rig, 1);
    inbox_rig_put_asking(rig, "a-1", "a", "ok", receipts);
    rig_flush(rig->rig);
    assert_true(proc_wait_log(rig->relay[0], 0, "row.missing", RIG_WAIT_MS));
    put(rig, "b-1", "b", "ok");
    rig_wait_applied(rig->rig, 2);
    test_db_run(rig->rig->db, "TRUNCATE inbox");
    put(rig, "b-2", "b", "ok");
    rig_wait_applied(rig->rig, 3);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 3);
}

static void a_worker_that_sleeps_holds_its_key_only(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;
    struct db *db = test_db_open(&rig->worker_opts);
    struct inbox_taken taken = {0};
    struct obx_err err = {0};
    bool found = false;

    inbox_rig_start(rig, 0, NULL);
    put(rig, "a-1", "a", "ok");
    put(rig, "a-2", "a", "ok");
    wait_stored(rig, 2);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(inbox_take(db, "orders", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found);
    put(rig, "a-3", "a", "ok"); /* stored, though a-1 is in somebody's hands */
    rig_fill(rig->rig, "b", 100, 5);
    workers = inbox_workers_start(rig, 2, NULL);
    rig_wait_applied(rig->rig, 100);
    rig_wait_number(rig->rig, all_rows, 3);
    db_close(db); /* and never comes back */
    rig_wait_applied(rig->rig, 103);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 103);
}

/* ------------------------------------------------------------------ wake-up */

static bool is_gone(void *path)
{
    return access(path, F_OK) != 0;
}

static void each_commit_wakes_who_listens(void **state)
{
    struct inbox_rig *rig = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX}, gone = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0), dead = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    char text[64] = "";

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/one", rig->wake);
    (void)snprintf(gone.sun_path, sizeof(gone.sun_path), "%s/gone", rig->wake);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(bind(dead, (const struct sockaddr *)&gone, sizeof(gone)), 0);
    assert_int_equal(close(dead), 0);
    inbox_rig_start(rig, 0, NULL);
    put(rig, "a-1", NULL, "ok");
    assert_int_equal(poll(&poll_fd, 1, RIG_WAIT_MS), 1);
    assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), strlen("orders"));
    assert_string_equal(text, "orders");
    assert_int_equal(rig_number(rig->rig, ROWS("ready")), 1); /* it came after the commit */
    assert_true(wait_until(RIG_WAIT_MS, is_gone, gone.sun_path));
    assert_int_equal(close(fd), 0);
    inbox_rig_stop(rig, 0);
}

/* ------------------------------------------------------------------ two of them, and an old table */

static void two_on_one_queue(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers = inbox_workers_start(rig, 3, NULL);

    inbox_rig_start(rig, 0, NULL);
    inbox_rig_start(rig, 1, NULL);
    rig_fill(rig->rig, "a", 400, 10);
    rig_wait_applied(rig->rig, 100);
    assert_true(proc_signal(rig->relay[0], SIGSTOP));
    rig_fill(rig->rig, "b", 400, 10);
    proc_kill(rig->relay[1]);
    assert_true(proc_signal(rig->relay[0], SIGCONT));
    rig_fill(rig->rig, "c", 400, 10);
    rig_wait_applied(rig->rig, 1200);
    rig_wait_number(rig->rig, all_rows, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 1200);
}

static void waits_for_its_table(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    test_db_run(rig->rig->db, "RENAME TABLE inbox TO inbox_away");
    inbox_rig_start(rig, 0, NULL);
    rig_fill(rig->rig, "a", 20, 4);
    assert_true(proc_wait_log(rig->relay[0], 0, "inbox", RIG_WAIT_MS));
    rig_wait_number(rig->rig, "SELECT COUNT(*) >= 4 FROM inbox_parked", 1);
    test_db_run(rig->rig->db, "RENAME TABLE inbox_away TO inbox");
    workers = inbox_workers_start(rig, 2, NULL);
    rig_wait_applied(rig->rig, 20);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 20);
}

/* ------------------------------------------------------------------ what a row says */

static void a_row_says_what_came(void **state)
{
    struct inbox_rig *rig = *state;
    const struct obx_header headers[] = {
        {.name = bytes_of("n"), .type = OBX_H_I64, .v.i64 = INT64_MAX},
        {.name = bytes_of("d"), .type = OBX_H_F64, .v.f64 = 0.1},
        {.name = bytes_of("yes"), .type = OBX_H_BOOL, .v.yes = true},
        {.name = bytes_of("t\"\n"), .type = OBX_H_TEXT, .v.text = bytes_of("\xC3\xA4\x01\\")},
        {.name = bytes_of("bad"), .type = OBX_H_TEXT, .v.text = bytes_of("a\xFFz")},
    };
    const struct bridge_message msg = {.message_id = bytes_of("a-1"),
                                       .type = bytes_of("order.placed"),
                                       .content_type = bytes_of("text/plain"),
                                       .headers = headers,
                                       .header_count = 5,
                                       .body = {.p = "\0\xFF\xFE", .len = 3}};
    const struct bridge_message empty = {.message_id = bytes_of("a-2")};
    /* Brokers sort them as they like. */
    static const char *const wanted[] = {"\"n\":9223372036854775807", "\"d\":0.1", "\"yes\":true",
                                         "\"t\\\"\\u000a\":\"\xC3\xA4\\u0001\\\\\"",
                                         "\"bad\":\"a\xEF\xBF\xBDz\""};
    struct db_rows *rows = NULL;
    char text[1024];

    inbox_rig_start(rig, 0, NULL);
    rig_put_message(rig->rig, &msg);
    rig_put_message(rig->rig, &empty);
    rig_flush(rig->rig);
    wait_stored(rig, 2);
    assert_int_equal(
        rig_number(rig->rig,
                   "SELECT COUNT(*) FROM inbox WHERE message_id = 'a-1' AND topic = 'order.placed'"
                   " AND content_type = 'text/plain' AND HEX(payload) = '00FFFE' AND size ="
                   " LENGTH(headers) + 3 AND ordering_key IS NULL AND key_hash IS NULL"),
        1);
    assert_int_equal(db_query(rig->rig->db, "SELECT headers FROM inbox WHERE message_id = 'a-1'",
                              DB_NO_ARGS, &rows, NULL),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_to_text(db_rows_bytes(rows, 0), text, sizeof(text)));
    db_rows_free(rows);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (strstr(text, wanted[i]) == NULL)
            fail_msg("%s lacks %s", text, wanted[i]);
    }
    assert_int_equal(rig_number(rig->rig, "SELECT COUNT(*) FROM inbox WHERE message_id = 'a-2' AND "
                                          "payload = ''"),
                     1);
    inbox_rig_stop(rig, 0);
}

/* ------------------------------------------------------------------ pages and --check */

struct page_wanted {
    uint16_t port;
    const char *path, *text;
    struct http_answer answer;
};

static bool page_has(void *ctx)
{
    struct page_wanted *wanted = ctx;

    http_call(&(struct http_call){.port = wanted->port, .path = wanted->path}, &wanted->answer);
    return strstr(wanted->answer.body, wanted->text) != NULL;
}

static void expect_page(uint16_t port, const char *path, const char *text)
{
    struct page_wanted wanted = {.port = port, .path = path, .text = text};

    if (!wait_until(RIG_WAIT_MS, page_has, &wanted))
        fail_msg("%s has no \"%s\": %s", path, text, wanted.answer.body);
}

static void its_pages_say_what_it_does(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;
    const uint16_t port = proc_free_port();
    char env[64];

    (void)snprintf(env, sizeof(env), "OBX_NOTIFY_HTTP_PORT=%u", (unsigned)port);
    inbox_rig_start(rig, 0, env);
    rig_fill(rig->rig, "a", 10, 1);
    expect_page(port, "/readyz", "ready\nqueue orders: broker up, database up, filing up\n");
    expect_page(port, "/metrics", "rowpost_inbox_stored_total{queue=\"orders\"} 10\n");
    expect_page(port, "/metrics", "rowpost_inbox_ready{queue=\"orders\"} 1\n");
    expect_page(port, "/metrics", "rowpost_inbox_blocked{queue=\"orders\"} 9\n");
    workers = inbox_workers_start(rig, 1, NULL);
    expect_page(port, "/metrics", "rowpost_inbox_done_total{queue=\"orders\"} 10\n");
    expect_page(port, "/metrics", "rowpost_inbox_ready{queue=\"orders\"} 0\n");
    (void)inbox_workers_stop(workers);
    test_db_run(rig->rig->db, "RENAME TABLE inbox TO inbox_away");
    expect_page(port, "/readyz", "not ready\n");
    test_db_run(rig->rig->db, "RENAME TABLE inbox_away TO inbox");
    expect_page(port, "/readyz", "ready\nqueue orders: broker up, database up, filing up\n");
    inbox_rig_stop(rig, 0);
}

/* One that listens and does not let itself be woken: a stream socket stands for missing rights,
 * which root has. */
static void a_refused_wake_is_said(void **state)
{
    struct inbox_rig *rig = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const uint16_t port = proc_free_port();
    char env[64];

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/one", rig->wake);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    (void)snprintf(env, sizeof(env), "OBX_NOTIFY_HTTP_PORT=%u", (unsigned)port);
    inbox_rig_start(rig, 0, env);
    put(rig, "a-1", NULL, "ok");
    assert_true(proc_wait_log(rig->relay[0], 0, "wake.refused", RIG_WAIT_MS));
    expect_page(port, "/metrics", "rowpost_inbox_wakes_refused_total{queue=\"orders\"} 1\n");
    assert_int_equal(close(fd), 0);
    inbox_rig_stop(rig, 0);
}

static void check(struct inbox_rig *rig, int status, const char *line)
{
    const char *const argv[] = {INBOX_PROGRAM, "--config", rig->config, "--check", NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = rig->log};
    struct proc *proc = proc_start(&opts);
    struct proc_exit how = {0};

    assert_non_null(proc);
    assert_true(proc_wait(proc, RIG_WAIT_MS, &how));
    if (how.code != status || !proc_log_has(proc, 0, line))
        fail_msg("status %d, wanted %d and %s", how.code, status, line);
    proc_destroy(proc);
}

static void its_check_names_what_is_missing(void **state)
{
    struct inbox_rig *rig = *state;
    char sql[256];
    struct db_opts root = test_db_root_opts();
    struct db *db = test_db_open(&root);

    check(rig, 0, "ok      rights: all there");
    (void)snprintf(sql, sizeof(sql), "REVOKE DELETE ON `%s`.inbox FROM '%s'@'%%'",
                   rig->rig->test_db.name, rig->relay_user.name);
    test_db_run(db, sql);
    check(rig, 1, "fix: sql/schema/grants.md");
    test_db_run(rig->rig->db, "DELETE FROM rowpost_schema WHERE side = 'inbox'");
    check(rig, 1, "outboxctl migrate --side inbox");
    inbox_rig_configure(rig, "retry_min = 1h\nto = table\nwake = nowhere\n");
    check(rig, 2, "to");
    db_close(db);
}

/* ------------------------------------------------------------------ a database that is not near */

struct far {
    struct inbox_rig *rig;
    int bell;
    uint64_t rung; /* once for each commit that stored something */
};

static bool all_are_stored(void *ctx)
{
    enum { MESSAGES = 1000 };
    struct far *far = ctx;
    char text[64];

    while (recv(far->bell, text, sizeof(text), MSG_DONTWAIT) > 0)
        far->rung++;
    return rig_number(far->rig->rig, all_rows) == MESSAGES;
}

/* A millisecond each way, which is another data centre: messages share commits as ever, so that a
 * commit's price is not paid for each of them, and all of it is right. */
static void a_far_database_is_not_paid_for_each_message(void **state)
{
    struct inbox_rig *rig = *state;
    struct cut_proxy *proxy = cut_proxy_create("127.0.0.1", rig->relay_user.opts.port);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct far far = {.rig = rig, .bell = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    struct inbox_workers *workers;

    assert_non_null(proxy);
    cut_proxy_set_delay(proxy, CUT_TO_SERVER, 1);
    cut_proxy_set_delay(proxy, CUT_TO_CLIENT, 1);
    rig->relay_user.opts.port = rig->worker_opts.port = cut_proxy_port(proxy);
    inbox_rig_configure(rig, "");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/far", rig->wake);
    assert_int_equal(bind(far.bell, (const struct sockaddr *)&address, sizeof(address)), 0);
    rig_fill(rig->rig, "m", 1000, 20);
    inbox_rig_start(rig, 0, NULL);
    if (!wait_until(RIG_WAIT_MS, all_are_stored, &far))
        fail_msg("%" PRIu64 " are stored", rig_number(rig->rig, all_rows));
    print_message("1000 messages in %" PRIu64 " commits\n", far.rung);
    /* A batch ends by time (100 ms), so it is smaller than near by; on a busy machine, too. */
    assert_true(far.rung > 0 && far.rung <= 1000 / 4);
    workers = inbox_workers_start(rig, 4, NULL);
    rig_wait_applied(rig->rig, 1000);
    rig_wait_number(rig->rig, all_rows, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 1000);
    (void)close(far.bell);
    cut_proxy_destroy(proxy);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, inbox_rig_setup, inbox_rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stores_works_and_files),
        TEST(stores_a_pack_message_by_message),
        TEST(fails_retries_and_freezes),
        TEST(skips_the_dead_where_it_is_told_to),
        TEST(reports_what_the_service_says),
        TEST(a_long_reason_is_reported),
        TEST(no_key_waits_for_the_broker),
        TEST(rows_removed_by_hand),
        TEST(a_worker_that_sleeps_holds_its_key_only),
        TEST(each_commit_wakes_who_listens),
        TEST(a_refused_wake_is_said),
        TEST(two_on_one_queue),
        TEST(waits_for_its_table),
        TEST(a_row_says_what_came),
        TEST(a_far_database_is_not_paid_for_each_message),
        TEST(its_pages_say_what_it_does),
        TEST(its_check_names_what_is_missing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
