/*
 * The console over HTTP, on the real programs and servers: who may what, requests from other sites,
 * every page with rows that a hostile producer has written, every action to its end, what a page costs,
 * and a database that stands still while messages go on.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_raw.h"
#include "program_rig.h"
#include "sql/schema.h"
#include "wait.h"

#define READER   "reader-token-0123456789"
#define OPERATOR "operator-token-0123456789"
#define ADMIN    "admin-token-0123456789"

enum { CONSOLE = RIG_RELAYS - 1, DEADLINE_MS = 20000, SHORT_MS = 3000 };

static struct {
    struct program_rig *rig;
    struct test_db stock;
    struct db *stock_db;
    struct obx_buf answer;
    int deaf; /* accepts and never says a word */
    uint16_t deaf_port;
} test;

/* ---- asking ---- */

static uint16_t console_port(void)
{
    return test.rig->http_ports[CONSOLE];
}

/* Fields are whole lines. Returns the status; the answer with its head is in test.answer. */
static int ask(const char *method, const char *path, const char *token, const char *fields,
               const char *body)
{
    struct obx_buf request = {0};
    int status;

    buf_addf(&request, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s", method, path,
             fields);
    if (token != NULL)
        buf_addf(&request, "Authorization: Bearer %s\r\n", token);
    if (body != NULL)
        buf_addf(&request,
                 "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n",
                 strlen(body));
    buf_addf(&request, "\r\n%s", body == NULL ? "" : body);
    status = http_raw_request(console_port(), request.data, request.len, &test.answer);
    buf_fini(&request);
    return status;
}

static int get(const char *path, const char *token)
{
    return ask("GET", path, token, "", NULL);
}

static int post(const char *path, const char *token, const char *body)
{
    return ask("POST", path, token, "", body);
}

static void expect(int status, int wanted)
{
    if (status != wanted)
        fail_msg("%d, not %d: %s", status, wanted, test.answer.data);
}

static void said(const char *text)
{
    if (strstr(test.answer.data, text) == NULL)
        fail_msg("not said: %s\n%s", text, test.answer.data);
}

static void said_not(const char *text)
{
    if (strstr(test.answer.data, text) != NULL)
        fail_msg("said: %s\n%s", text, test.answer.data);
}

/* ---- set-up ---- */

static void listen_deaf(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    test.deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(test.deaf, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(test.deaf, 16), 0);
    assert_int_equal(getsockname(test.deaf, (struct sockaddr *)&at, &len), 0);
    test.deaf_port = ntohs(at.sin_port);
}

/* more: further lines for the section of the console. */
static void configure(unsigned deadline_ms, const char *more)
{
    struct obx_buf text = {0};
    char path[192];

    rig_config_text(test.rig, &text);
    buf_addf(&text,
             "[consumer stock]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n"
             "[consumer away]\nport = %u\nuser = x\ndatabase = x\n"
             "[console]\nhttp_port = %u\nreader_token = " READER "\noperator_token = " OPERATOR "\n"
             "admin_token = " ADMIN "\ndeadline = %ums\n%s",
             test.stock.opts.host, (unsigned)test.stock.opts.port, test.stock.opts.user,
             test.stock.opts.password, test.stock.name, (unsigned)test.deaf_port,
             (unsigned)console_port(), deadline_ms, more);
    rig_write(test.rig, "relay.conf", text.data, path);
    buf_fini(&text);
}

static int setup(void **state)
{
    static const enum schema_side sides[] = {SCHEMA_CONSUMER, SCHEMA_NOTIFY, SCHEMA_INBOX};
    struct obx_err err = {0};

    assert_int_equal(program_setup(state), 0);
    test.rig = *state;
    test_db_create(&test.stock, "constock");
    test.stock_db = test_db_open(&test.stock.opts);
    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
        assert_int_equal(schema_migrate(test.stock_db, sides[i], NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(test.rig->root, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    listen_deaf();
    return 0;
}

static int teardown(void **state)
{
    close(test.deaf);
    db_close(test.stock_db);
    test_db_drop(&test.stock);
    buf_fini(&test.answer);
    return program_teardown(state);
}

static int begin(void **state)
{
    assert_int_equal(program_reset(state), 0);
    test_db_run(test.stock_db, "DELETE FROM inbox_parked");
    rig_sql(test.rig, "DELETE FROM outbox_action");
    return 0;
}

static void start(void)
{
    configure(DEADLINE_MS, "");
    rig_start_ready(test.rig, 0, NULL);
}

/* What a producer can put into a row to make it say something else on a page. */

static void park(unsigned count, const char *topic)
{
    for (unsigned i = 1; i <= count; i++)
        rig_sql(test.rig,
                "INSERT INTO outbox_parked (parked_id, outbox, id, message_id, topic, ordering_key,"
                " headers, content_type, payload, created_at, reason_code, reason) VALUES (%u,"
                " 'outbox', %u, 'm-%u', '%s', '%s', '{\"h\": 1}', 'c', '%s', UTC_TIMESTAMP(6),"
                " 'unroutable', '%s')",
                i, i, i, topic, "<b>key</b>", "secret <payload>", "<i>why</i>");
}

/* ---- who may what ---- */

static void nobody_gets_in_without_a_token(void **state)
{
    static const char *const paths[] = {"/",       "/parked", "/dead",           "/inbox",
                                        "/notify", "/half",   "/fleet",          "/actions",
                                        "/search", "/m/x",    "/parked/row?id=1"};

    (void)state;
    start();
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        expect(get(paths[i], NULL), 401);
        said("WWW-Authenticate: Basic");
        expect(get(paths[i], "reader-token-012345678"), 401);
        expect(get(paths[i], READER "0"), 401);
        expect(get(paths[i], ""), 401);
    }
    expect(post("/parked/act", NULL, "id=1&action=discard"), 401);
    /* Basic: any name, the token as the password; "anna:" READER in base64. */
    expect(ask("GET", "/", NULL,
               "Authorization: Basic YW5uYTpyZWFkZXItdG9rZW4tMDEyMzQ1Njc4OQ==\r\n", NULL),
           200);
    said("anna (reader)");
    expect(ask("GET", "/", NULL, "Authorization: Basic ====\r\n", NULL), 401);
    /* What a proxy would say counts from a configured peer only. */
    expect(ask("GET", "/", NULL, "X-Forwarded-User: eve\r\nX-Rowpost-Role: admin\r\n", NULL), 401);
    expect(get("/nothing", ADMIN), 404);
    expect(ask("PUT", "/", ADMIN, "", NULL), 405);
    expect(post("/parked", ADMIN, "a=b"), 405);
    expect(get("/parked/act", ADMIN), 405);
}

static void a_role_may_what_it_may(void **state)
{
    (void)state;
    park(1, "t.a");
    start();
    expect(get("/parked", READER), 200);
    said("disabled title=\"needs the role operator\"");
    said("needs the role admin");
    expect(post("/parked/act", READER, "id=1&action=resume"), 403);
    expect(post("/parked/act", READER, "id=1&action=resume&confirm=yes&note=n"), 403);
    expect(post("/parked/act", OPERATOR, "id=1&action=discard&confirm=yes&note=n"), 403);
    assert_int_equal(
        rig_number(test.rig, "SELECT COUNT(*) FROM outbox_parked WHERE request IS NULL"), 1);
    assert_int_equal(rig_number(test.rig, "SELECT COUNT(*) FROM outbox_action"), 0);
    /* The payload, and what may tell as much. */
    expect(get("/parked/row?id=1", OPERATOR), 200);
    said_not("secret");
    said("hidden");
    expect(get("/parked/row?id=1&format=json", OPERATOR), 200);
    said_not("secret");
    expect(get("/parked/row?id=1", ADMIN), 200);
    said("secret &lt;payload&gt;");
}

static void a_proxy_may_say_who_it_is(void **state)
{
    (void)state;
    configure(DEADLINE_MS, "proxy_peers = 127.0.0.1\nprefix = /ops\n");
    rig_start_ready(test.rig, 0, NULL);
    expect(ask("GET", "/ops/", NULL, "X-Forwarded-User: eve\r\nX-Rowpost-Role: operator\r\n", NULL),
           200);
    said("eve (operator)");
    said("href=\"/ops/parked\"");
    said("href=\"/ops/console.css\"");
    expect(ask("GET", "/ops/", NULL, "X-Forwarded-User: eve\r\nX-Rowpost-Role: root\r\n", NULL),
           401);
    expect(ask("GET", "/", NULL, "X-Forwarded-User: eve\r\nX-Rowpost-Role: admin\r\n", NULL), 404);
    expect(ask("GET", "/ops/search?q=a%20b&kind=key", READER, "", NULL), 303);
    said("Location: /ops/m?key=a%20b\r\n");
}

static void another_site_can_do_nothing(void **state)
{
    static const char basic[] = "Authorization: Basic "
                                "YW5uYTphZG1pbi10b2tlbi0wMTIzNDU2Nzg5\r\n"; /* anna, ADMIN */
    static const char *const foreign[] = {
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        ""};
    char fields[256];

    (void)state;
    park(1, "t.a");
    start();
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        snprintf(fields, sizeof(fields), "%s%s", basic, foreign[i]);
        expect(ask("POST", "/parked/act", NULL, fields, "id=1&action=discard&confirm=yes&note=n"),
               403);
    }
    snprintf(fields, sizeof(fields), "%sSec-Fetch-Site: same-origin\r\n", basic);
    expect(ask("POST", "/parked/act", NULL, fields, "id=1&action=discard"), 200);
    snprintf(fields, sizeof(fields), "%sOrigin: http://localhost\r\n", basic);
    expect(ask("POST", "/parked/act", NULL, fields, "id=1&action=discard"), 200);
    assert_int_equal(
        rig_number(test.rig, "SELECT COUNT(*) FROM outbox_parked WHERE request IS NULL"), 1);
}

/* ---- pages ---- */

static void what_a_row_says_is_only_text(void **state)
{
    static const char *const paths[] = {"/",
                                        "/parked",
                                        "/parked?topic=%3Cscript%3E*",
                                        "/parked?format=json",
                                        "/parked?format=csv",
                                        "/parked/row?id=1",
                                        "/m/m-1",
                                        "/m?key=%3Cb%3Ekey%3C%2Fb%3E",
                                        "/m/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
                                        "/parked?at=%3Cscript%3E",
                                        "/dead?at=stock",
                                        "/dead?at=stock&state=any&key=%22%3E%3Cscript%3E",
                                        "/inbox?at=stock",
                                        "/notify?at=stock",
                                        "/dead",
                                        "/fleet",
                                        "/actions",
                                        "/search",
                                        "/search?q=%3Cscript%3E&kind=id"};

    (void)state;
    rig_sql(
        test.rig,
        "INSERT INTO outbox_parked (parked_id, outbox, id, message_id, topic, ordering_key,"
        " headers, content_type, payload, created_at, reason_code, reason) VALUES (1, 'outbox', 1,"
        " 'm-1', '%s', '%s', '%s', '%s', '%s', UTC_TIMESTAMP(6), '<script>', '%s')",
        "<script>alert(1)</script>", "<b>key</b>", "<script>", "<script>", "<script>x</script>",
        "\\'><script>");
    test_db_run(test.stock_db,
                "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state,"
                " reason_code, reason, replay_until, queue, topic, properties, body, size) VALUES"
                " ('g', '<script>', '\\xff<script>', 1, 'dead', '<script>', '<script>',"
                " UTC_TIMESTAMP(6), '<script>', '<script>', '<script>', '<script>', 1)");
    start();
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const int status = get(paths[i], ADMIN);

        if (status != 200 && status != 303 &&
            (status != 404 || strcmp(paths[i], "/parked?at=%3Cscript%3E") != 0))
            fail_msg("%s: %d %s", paths[i], status, test.answer.data);
        said("Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'");
        said("X-Content-Type-Options: nosniff");
        if (strstr(paths[i], "format=") == NULL) {
            said_not("<script>");
            said_not("<b>key");
        }
    }
    expect(get("/console.css", NULL), 200);
    said("text/css");
    expect(get("/console.js", NULL), 200);
}

static void a_page_costs_a_few_statements(void **state)
{
    static const char *const paths[] = {"/parked",        "/parked?topic=t.a&limit=200",
                                        "/dead?at=stock", "/inbox?at=stock",
                                        "/fleet",         "/actions"};

    (void)state;
    park(60, "t.a");
    start();
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const char *at;

        expect(get(paths[i], READER), 200);
        at = strstr(test.answer.data, "Server-Timing: db;desc=\"");
        assert_non_null(at);
        at += strlen("Server-Timing: db;desc=\"");
        print_message("%s: %ld statements\n", paths[i], strtol(at, NULL, 10));
        assert_in_range(strtol(at, NULL, 10), 1, 20);
    }
    expect(get("/parked", READER), 200);
    said("rel=\"next\"");
    said("<td class=\"n\">60</td>"); /* its group */
}

/* ---- actions ---- */

static void all_that_match_means_what_was_seen(void **state)
{
    const char *at;
    char until[32] = "", body[256];

    (void)state;
    park(30, "t.a");
    start();
    expect(post("/parked/act", OPERATOR, "all=yes&topic=t.a&action=resume"), 200);
    said("<b>30</b> messages will be put back into the outbox");
    at = strstr(test.answer.data, "name=\"until\" value=\"");
    assert_non_null(at);
    (void)sscanf(at, "name=\"until\" value=\"%31[0-9]", until);
    /* One more comes between the question and the answer. */
    rig_sql(test.rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type,"
                      " payload, created_at, reason_code) VALUES ('outbox', 99, 'late', 't.a', 'c',"
                      " 'x', UTC_TIMESTAMP(6), 'r')");
    snprintf(body, sizeof(body), "all=yes&topic=t.a&action=resume&until=%s&confirm=yes", until);
    expect(post("/parked/act", OPERATOR, body), 400); /* without a note nothing is done */
    said("Say why");
    snprintf(body, sizeof(body),
             "all=yes&topic=t.a&action=resume&until=%s&confirm=yes&note=was+fixed", until);
    expect(post("/parked/act", OPERATOR, body), 200);
    rig_wait_number(test.rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    assert_int_equal(rig_number(test.rig, "SELECT COUNT(*) FROM outbox_parked WHERE message_id ="
                                          " 'late' AND request IS NULL"),
                     1);
    assert_int_equal(
        rig_number(test.rig, "SELECT COUNT(*) FROM outbox_action WHERE actor = 'operator (console)'"
                             " AND role = 'operator' AND action = 'parked resume' AND note ="
                             " 'was fixed' AND found = 30 AND ended_at IS NOT NULL"),
        1);
    rig_wait_log(test.rig, 0, "was fixed");
    expect(get("/actions", READER), 200);
    said("was fixed");
}

static void one_is_discarded_with_a_result_for_each(void **state)
{
    (void)state;
    park(3, "t.a");
    start();
    expect(post("/parked/act?format=json", ADMIN,
                "id=2&id=3&id=777&action=discard&confirm=yes&note=wrong"),
           200);
    said("\"found\":3");
    said("there is no parked message 777");
    rig_wait_number(test.rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    assert_int_equal(rig_number(test.rig, "SELECT COUNT(*) FROM outbox_audit WHERE actor ="
                                          " 'admin (console)' AND note = 'wrong'"),
                     2);
}

static void a_consumers_rows_are_asked_for_there(void **state)
{
    (void)state;
    test_db_run(
        test.stock_db,
        "INSERT INTO inbox_parked (id, consumer_group, message_id, lane, state, reason_code,"
        " replay_until, queue, topic, properties, body, size) VALUES (5, 'g', 'd-5', 1,"
        " 'dead', 'rejected', UTC_TIMESTAMP(6) + INTERVAL 1 DAY, 'q', 't', '', 'x', 1)");
    start();
    expect(get("/dead?at=stock", READER), 200);
    said("rejected");
    expect(post("/dead/act", OPERATOR, "at=stock&id=5&action=replay"), 200);
    said("will be tried again");
    expect(post("/dead/act", OPERATOR, "at=stock&id=5&action=replay&confirm=yes&note=again"), 200);
    said("requested");
    assert_int_equal(test_db_number(test.stock_db,
                                    "SELECT COUNT(*) FROM inbox_parked WHERE request ="
                                    " 'replay' AND requested_by ="
                                    " 'operator (console)' AND request_note = 'again'"),
                     1);
    assert_int_equal(
        rig_number(test.rig, "SELECT COUNT(*) FROM outbox_action WHERE place = 'stock'"), 1);
    expect(get("/m/d-5", READER), 200);
    said("table inbox_parked of stock");
    said("requested by operator (console): again");
}

static void frozen_keys_of_both_sides_are_on_one_page(void **state)
{
    (void)state;
    park(3, "t.a");
    rig_sql(test.rig,
            "UPDATE outbox_parked SET holds_key = parked_id = 1, blocked_by = IF(parked_id ="
            " 1, NULL, 1)");
    test_db_run(
        test.stock_db,
        "INSERT INTO inbox_parked (id, consumer_group, message_id, ordering_key, lane, state,"
        " reason_code, replay_until, queue, topic, properties, body, size) VALUES (6, 'g',"
        " 'd-6', 'k6', 1, 'dead', 'rejected', UTC_TIMESTAMP(6), 'q', 't', '', 'x', 1), (7, 'g',"
        " 'd-7', 'k6', 1, 'blocked', '', UTC_TIMESTAMP(6), 'q', 't', '', 'x', 1)");
    start();
    expect(get("/frozen", READER), 200);
    said("&lt;b&gt;key&lt;/b&gt;</a></td><td>unroutable</td>");
    said("<td class=\"n\">2</td>");
    said("/dead/row?at=stock&amp;id=6");
    said("k6</a></td><td>rejected</td>");
    said("This database did not answer"); /* the one that is away, after the others */
}

/* ---- what may not hold anything up ---- */

static bool is_story_there(void *ctx)
{
    (void)ctx;
    return get("/m/m-1", READER) == 200;
}

static void a_database_that_stands_still_holds_up_no_message(void **state)
{
    uint64_t began_ms;
    int status;

    (void)state;
    configure(SHORT_MS, "");
    rig_start_ready(test.rig, 0, NULL);
    began_ms = clock_now_ms();
    status = get("/dead?at=away", READER);
    assert_true(status == 503 ||
                status == 504); /* its own time, or that of the page, is up first */
    assert_true(clock_now_ms() - began_ms < 10 * SHORT_MS);
    said("did not answer");
    rig_insert(test.rig, "outbox", "t.a", NULL, "p");
    rig_wait_empty(test.rig, "outbox");
    /* One of its places is away, and is a line of the story; its share of the page's time is gone, and a
     * slow machine may need more than the rest. */
    assert_true(wait_until(RIG_WAIT_MS, is_story_there, NULL));
    said("unknown, because the database has not answered");
    said("table outbox of shop");
    expect(get("/", READER), 200);
    expect(get("/parked", READER), 200);
}

/* On a shared network, metrics and status say as much as a page. */
static void metrics_may_need_a_token(void **state)
{
    static const char request[] =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Authorization: Bearer " READER "\r\n\r\n";

    (void)state;
    rig_start_ready(test.rig, 0, WORDS("OBX_RELAY_HTTP_TOKEN=" READER));
    assert_int_equal(rig_get(test.rig, 0, "/metrics", &test.answer), 401);
    assert_int_equal(rig_get(test.rig, 0, "/status", &test.answer), 401);
    assert_int_equal(rig_get(test.rig, 0, "/readyz", &test.answer), 200);
    assert_int_equal(
        http_raw_request(test.rig->http_ports[0], request, strlen(request), &test.answer), 200);
    said("rowpost_rows_waiting");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup(f, begin)
    const struct CMUnitTest tests[] = {
        CASE(nobody_gets_in_without_a_token),
        CASE(a_role_may_what_it_may),
        CASE(a_proxy_may_say_who_it_is),
        CASE(another_site_can_do_nothing),
        CASE(what_a_row_says_is_only_text),
        CASE(a_page_costs_a_few_statements),
        CASE(all_that_match_means_what_was_seen),
        CASE(one_is_discarded_with_a_result_for_each),
        CASE(a_consumers_rows_are_asked_for_there),
        CASE(frozen_keys_of_both_sides_are_on_one_page),
        CASE(a_database_that_stands_still_holds_up_no_message),
        CASE(metrics_may_need_a_token),
    };

    return cmocka_run_group_tests_name("console", tests, setup, teardown);
}
