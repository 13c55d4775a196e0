/*
 * inbox-relay as a process against real servers: what it calls, what it repeats, when it gives
 * up, and what it does with endpoints that are slow, dead, flapping or lying.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "notify_rig.h"
#include "wait.h"

#define SECRET_A  "a-secret-of-the-test-01"
#define SECRET_B  "b-secret-of-the-test-02"
#define ENDPOINT  "[endpoint %s]\nurl = http://127.0.0.1:%u/hook\ntopics = %s\nsecrets = %s\n"
#define DELIVERED "SELECT COUNT(*) FROM inbox_call WHERE state = 'delivered' AND last_status = 200"

static void start(struct notify_rig *rig)
{
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
}

struct metric_wait {
    struct notify_rig *rig;
    const char *line;
    double value;
};

static bool has_metric(void *ctx)
{
    const struct metric_wait *wait = ctx;

    return notify_rig_metric(wait->rig, wait->line) == wait->value;
}

/* A number follows what is in the table by a moment. */
static void wait_metric(struct notify_rig *rig, const char *line, double value)
{
    struct metric_wait wait = {rig, line, value};

    if (!wait_until(RIG_WAIT_MS, has_metric, &wait))
        fail_msg("%s is %f", line, notify_rig_metric(rig, line));
}

/* ---- the ordinary way ---- */

static void calls_each_endpoint_once_and_signed(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *orders = receiver_create(NULL);
    struct receiver *all = receiver_create(NULL);
    struct rig_call call;
    char id[80];

    orders->secrets[0] = SECRET_A;
    all->secrets[0] = SECRET_B;
    notify_rig_config(rig, "", ENDPOINT ENDPOINT, "orders", receiver_port(orders), "order.*",
                      SECRET_A, "all", receiver_port(all), "#", SECRET_B);
    start(rig);
    notify_rig_fill(rig, "o", 100, "order.placed");
    notify_rig_fill(rig, "p", 50, "payment.taken.late");
    receiver_wait(all, 150);
    receiver_wait(orders, 100);
    notify_rig_wait_number(rig, 250, DELIVERED);
    assert_int_equal(receiver_count(all), 150);
    assert_int_equal(receiver_count(orders), 100);
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "o-%d", i);
        assert_int_equal(receiver_times(orders, id), 1);
        call = receiver_call(orders, (size_t)i);
        assert_string_equal(call.id, call.body);
        assert_string_equal(call.topic, "order.placed");
        assert_string_equal(call.content_type, "text/plain");
        assert_int_equal(call.attempt, 1);
        assert_int_equal(call.signatures, 1);
        assert_true(call.verified[0]);
    }
    assert_true(receiver_call(all, 149).verified[0]);
    wait_metric(rig, "delivered_total{endpoint=\"all\"} ", 150);
    notify_rig_stop(rig, 0);
    receiver_destroy(orders);
    receiver_destroy(all);
}

/* P10: the bytes of a message are the body of the call (golden_test.c has the other ways). */
#define BYTES(text)                                                                                \
    {                                                                                              \
        .p = (text), .len = sizeof(text) - 1                                                       \
    }
static const struct obx_bytes goldens[] = {
    BYTES("{ \"a\" : 12.50, \"b\":1E400,\t\"b\":0.1234567890123456789012 }\r\n"),
    BYTES("12.50"),
    BYTES("\xff\xfe\0\xc3\x28"),
    BYTES(""),
    BYTES("{\"t\":\"\\u00e4\\/\\ud800\"}"),
};
enum { GOLDENS = sizeof(goldens) / sizeof(goldens[0]) };

static void compare_body(const struct endpoint_request *request, struct endpoint_answer *answer,
                         void *ctx)
{
    const char *id = endpoint_header(request, "webhook-id");
    unsigned index = 0;
    _Atomic unsigned *same = ctx;

    answer->status = 200;
    if (id != NULL && sscanf(id, "golden-%u", &index) == 1 && index < GOLDENS &&
        request->body_len == goldens[index].len &&
        memcmp(request->body, goldens[index].p, request->body_len) == 0)
        (*same)++;
}

static void the_body_is_the_messages_own_bytes(void **state)
{
    struct notify_rig *rig = *state;
    _Atomic unsigned same = 0;
    struct endpoint *endpoint = endpoint_create_full(compare_body, &same);
    char id[32];

    notify_rig_config(rig, "", ENDPOINT, "to", endpoint_port(endpoint), "#", SECRET_A);
    start(rig);
    for (unsigned i = 0; i < GOLDENS; i++) {
        snprintf(id, sizeof(id), "golden-%u", i);
        notify_rig_publish_bytes(rig, id, "t", goldens[i]);
    }
    notify_rig_wait_number(rig, GOLDENS, DELIVERED);
    assert_int_equal(same, GOLDENS);
    notify_rig_stop(rig, 0);
    endpoint_destroy(endpoint);
}

/* A message id or topic from the outside must not become a header of its own. */
static void a_hostile_message_adds_no_header(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);
    struct rig_call call;

    to->secrets[0] = SECRET_A;
    notify_rig_config(rig, "", ENDPOINT, "to", receiver_port(to), "#", SECRET_A);
    start(rig);
    notify_rig_publish(rig, "id.1\r\nx-obx-topic: forged", "t\n\xC3\xA4%", "");
    receiver_wait(to, 1);
    call = receiver_call(to, 0);
    assert_string_equal(call.id, "id%2E1%0D%0Ax-obx-topic: forged");
    assert_string_equal(call.topic, "t%0A%C3%A4%25");
    assert_string_equal(call.body, "");
    assert_true(call.verified[0]);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

static void secrets_are_changed_without_a_gap(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);

    to->secrets[0] = SECRET_A;
    to->secrets[1] = SECRET_B;
    notify_rig_config(rig, "", ENDPOINT, "to", receiver_port(to), "#", SECRET_A " " SECRET_B);
    start(rig);
    notify_rig_publish(rig, "both", "t", "x");
    receiver_wait(to, 1);
    assert_int_equal(receiver_call(to, 0).signatures, 2);
    assert_true(receiver_call(to, 0).verified[0] && receiver_call(to, 0).verified[1]);
    notify_rig_config(rig, "", ENDPOINT, "to", receiver_port(to), "#", SECRET_B);
    assert_true(proc_signal(rig->procs[0], SIGHUP));
    notify_rig_wait_log(rig, "reload.taken");
    notify_rig_publish(rig, "new", "t", "x");
    receiver_wait(to, 2);
    assert_int_equal(receiver_call(to, 1).signatures, 1);
    assert_true(!receiver_call(to, 1).verified[0] && receiver_call(to, 1).verified[1]);
    /* What cannot be taken is refused whole, and said. */
    notify_rig_config(rig, "group = other", ENDPOINT, "to", receiver_port(to), "#", SECRET_A);
    assert_true(proc_signal(rig->procs[0], SIGHUP));
    notify_rig_wait_log(rig, "notify.group: notify -> other");
    notify_rig_config(rig, "", ENDPOINT, "to", receiver_port(to), "new.topic", SECRET_A);
    assert_true(proc_signal(rig->procs[0], SIGHUP));
    notify_rig_wait_log(rig, "topic new.topic is new");
    notify_rig_publish(rig, "still", "t", "x");
    receiver_wait(to, 3);
    assert_true(receiver_call(to, 2).verified[1]);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

/* ---- failures ---- */

static void always_500(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    (void)n;
    answer->status = 500;
    snprintf(answer->body, sizeof(answer->body), "out of\norder");
}

static void gives_up_at_the_end_of_the_schedule(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(always_500);

    notify_rig_config(rig, "", ENDPOINT "schedule = 0s, 100ms, 300ms\n", "to", receiver_port(to),
                      "#", SECRET_A);
    start(rig);
    notify_rig_publish(rig, "m", "t", "x");
    notify_rig_wait_number(rig, 1,
                           "SELECT COUNT(*) FROM inbox_call WHERE state = 'given_up' AND "
                           "due_at IS NULL AND attempts = 3 AND last_status = 500 AND "
                           "last_error = 'HTTP 500: out of order'");
    assert_int_equal(receiver_count(to), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(receiver_call(to, i).attempt, i + 1);
    assert_true(receiver_call(to, 1).at_ms - receiver_call(to, 0).at_ms >= 100);
    assert_true(receiver_call(to, 2).at_ms - receiver_call(to, 1).at_ms >= 300);
    notify_rig_wait_log(rig, "given_up endpoint=to");
    wait_metric(rig, "given_up_total{endpoint=\"to\"} ", 1);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

static void never(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    (void)n;
    answer->mode = ENDPOINT_SILENT;
}

/* One that refuses connections and one that never answers, beside a healthy one. */
static void the_dead_do_not_hold_up_the_healthy(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *silent = receiver_create(never);
    struct receiver *healthy = receiver_create(NULL);
    int64_t began_ms;

    notify_rig_config(rig, "",
                      ENDPOINT "timeout = 20s\nconcurrency = 2\n" ENDPOINT
                               "breaker_failures = 3\nbreaker_min = 1m\n" ENDPOINT,
                      "silent", receiver_port(silent), "#", SECRET_A, "closed", 1U, "#", SECRET_A,
                      "healthy", receiver_port(healthy), "#", SECRET_A);
    start(rig);
    began_ms = wait_now_ms();
    notify_rig_fill(rig, "m", 300, "t");
    receiver_wait(healthy, 300);
    assert_true(wait_now_ms() - began_ms < 20000); /* not one timeout of the silent one */
    assert_true(receiver_count(silent) <= 2);
    notify_rig_wait_number(rig, 300, DELIVERED " AND endpoint = 'healthy'");
    notify_rig_wait_log(rig, "breaker endpoint=closed from=closed to=open");
    /* Only calls that were made count; the breaker kept the others back. */
    assert_true(notify_rig_number(rig, "SELECT SUM(attempts) FROM inbox_call WHERE endpoint "
                                       "= 'closed'") <= 64);
    assert_int_equal(notify_rig_number(rig, "SELECT COUNT(*) FROM inbox_call WHERE endpoint "
                                            "<> 'healthy' AND state = 'waiting'"),
                     600);
    notify_rig_kill(rig, 0);
    receiver_destroy(silent);
    receiver_destroy(healthy);
}

/* A listener that takes connections and says nothing, not even at the end of a request. */
static int mute_listener(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4096), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* With the options as they are: more silent endpoints than there are places for calls. The healthy
 * one has its calls before the first of theirs has come to its end. */
static void many_silent_ones_leave_the_others_their_places(void **state)
{
    enum { SILENT = 24, ROWS = 40 };
    struct notify_rig *rig = *state;
    struct receiver *healthy = receiver_create(NULL);
    struct obx_buf text = {0};
    uint16_t port = 0;
    int mute = mute_listener(&port);

    for (int i = 0; i < SILENT; i++)
        assert_int_equal(buf_addf(&text,
                                  "[endpoint silent%d]\nurl = http://127.0.0.1:%u/\ntopics = #\n"
                                  "sign = no\n",
                                  i, (unsigned)port),
                         OBX_OK);
    notify_rig_config(rig, "",
                      "%s[endpoint healthy]\nurl = http://127.0.0.1:%u/\ntopics = ok\n"
                      "sign = no\n",
                      text.data, receiver_port(healthy));
    start(rig);
    notify_rig_fill(rig, "m", ROWS, "t");
    notify_rig_wait_number(rig, (uint64_t)ROWS * SILENT, "SELECT COUNT(*) FROM inbox_call");
    notify_rig_fill(rig, "h", ROWS, "ok");
    receiver_wait(healthy, ROWS);
    assert_int_equal(notify_rig_number(rig, "SELECT COUNT(*) FROM inbox_call WHERE endpoint"
                                            " <> 'healthy' AND attempts > 0"),
                     0);
    notify_rig_kill(rig, 0);
    (void)close(mute);
    buf_fini(&text);
    receiver_destroy(healthy);
}

static void every_other_fails(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    if (n % 2 == 0)
        answer->mode = n % 4 == 0 ? ENDPOINT_CLOSE : ENDPOINT_ANSWER;
    answer->status = n % 2 == 0 ? 503 : 204;
}

static void a_flapping_endpoint_gets_everything(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(every_other_fails);

    notify_rig_config(rig, "",
                      ENDPOINT "schedule = 0s, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, "
                               "10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms\n"
                               "breaker_failures = 3\nbreaker_min = 10ms\nbreaker_max = 50ms\n",
                      "to", receiver_port(to), "#", SECRET_A);
    start(rig);
    notify_rig_fill(rig, "m", 100, "t");
    notify_rig_wait_number(rig, 100, "SELECT COUNT(*) FROM inbox_call WHERE state = 'delivered'");
    /* curl by itself repeats a call once when an old connection turns out to be closed. */
    assert_in_range(notify_rig_number(rig, "SELECT SUM(attempts) FROM inbox_call"), 150,
                    receiver_count(to));
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

static void lie(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)n;
    if (strcmp(call->id, "huge") == 0)
        answer->mode = ENDPOINT_HUGE;
    else if (strcmp(call->id, "endless") == 0)
        answer->mode = ENDPOINT_ENDLESS;
    else if (strcmp(call->id, "garbage") == 0)
        answer->mode = ENDPOINT_GARBAGE;
    else if (strcmp(call->id, "close") == 0)
        answer->mode = ENDPOINT_CLOSE;
    else if (strcmp(call->id, "redirect") == 0)
        answer->status = 307;
    snprintf(answer->location, sizeof(answer->location), "http://127.0.0.1:1/elsewhere");
}

static void a_lying_endpoint_is_not_believed(void **state)
{
    static const char *const lies[] = {"huge", "endless", "garbage", "close", "redirect"};
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(lie);

    notify_rig_config(rig, "", ENDPOINT "schedule = 0s\ntimeout = 1s\nmax_response = 4KiB\n", "to",
                      receiver_port(to), "#", SECRET_A);
    start(rig);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        notify_rig_publish(rig, lies[i], "t", "x");
    notify_rig_wait_number(rig, 5, "SELECT COUNT(*) FROM inbox_call WHERE state = 'given_up'");
    assert_int_equal(notify_rig_number(rig, "SELECT COUNT(*) FROM inbox_call WHERE "
                                            "message_id = 'huge' AND last_error = 'the answer has "
                                            "more than 4096 bytes'"),
                     1);
    assert_int_equal(notify_rig_number(rig, "SELECT COUNT(*) FROM inbox_call WHERE "
                                            "message_id = 'redirect' AND last_status = 307"),
                     1);
    assert_int_equal(
        notify_rig_number(rig, "SELECT COUNT(*) FROM inbox_call WHERE last_error = ''"), 0);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

/* Only probes are sent to a dead endpoint, and yet everything for it comes to its end. */
static void what_cannot_be_reached_comes_to_an_end(void **state)
{
    struct notify_rig *rig = *state;

    notify_rig_config(rig, "",
                      ENDPOINT "schedule = 0s, 100ms\nbreaker_failures = 1\nbreaker_min = 500ms\n"
                               "breaker_max = 500ms\n",
                      "dead", 1U, "#", SECRET_A);
    start(rig);
    notify_rig_fill(rig, "m", 50, "t");
    /* Most; a few had calls of their own as probes. */
    notify_rig_wait_number(rig, 1,
                           "SELECT COUNT(*) >= 40 FROM inbox_call WHERE state = 'given_up' "
                           "AND last_error LIKE '%could not be reached for the whole schedule'");
    notify_rig_wait_log(rig, "given_up endpoint=dead rows=");
    notify_rig_kill(rig, 0);
}

static void fails_four_times(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    answer->status = n < 4 ? 500 : 200;
}

/* Rows that are old because their endpoint was paused, or because an operator sent them again, have
 * their calls: though the breaker opens at once, and the next probe comes after whole schedules. */
static void the_old_are_called_too(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(fails_four_times);

    notify_rig_config(rig, "",
                      ENDPOINT "schedule = 0s, 100ms, 100ms, 100ms\nbreaker_failures = 3\n"
                               "breaker_min = 6s\nbreaker_max = 6s\nconcurrency = 1\n",
                      "to", receiver_port(to), "#", SECRET_A);
    start(rig);
    test_db_run(rig->db, "INSERT INTO inbox_endpoint (consumer_group, endpoint,"
                         " is_paused) SELECT consumer_group, 'to', 1 FROM inbox_lease");
    notify_rig_wait_log(rig, "endpoint.paused");
    notify_rig_fill(rig, "m", 60, "t");
    notify_rig_wait_number(rig, 60, "SELECT COUNT(*) FROM inbox_call");
    test_db_run(rig->db, "UPDATE inbox_call SET recorded_at = recorded_at - INTERVAL 1 DAY,"
                         " due_at = IF(id % 2, due_at, due_at - INTERVAL 1 DAY)");
    test_db_run(rig->db, "UPDATE inbox_endpoint SET is_paused = 0");
    notify_rig_wait_number(rig, 60, DELIVERED);
    assert_int_equal(receiver_count(to), 64);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

/* ---- what an endpoint asks for ---- */

static void gone_at_first(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    answer->status = n == 0 ? 410 : 200;
}

static void gone_pauses_until_it_is_resumed(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(gone_at_first);

    notify_rig_config(rig, "", ENDPOINT "concurrency = 1\n", "to", receiver_port(to), "#",
                      SECRET_A);
    start(rig);
    notify_rig_fill(rig, "m", 20, "t");
    notify_rig_wait_number(rig, 1,
                           "SELECT COUNT(*) FROM inbox_endpoint WHERE endpoint = 'to' "
                           "AND is_paused = 1 AND reason = 'HTTP 410'");
    notify_rig_wait_number(rig, 20, "SELECT COUNT(*) FROM inbox_call");
    notify_rig_wait_log(rig, "endpoint.gone");
    wait_metric(rig, "rowpost_notify_paused{endpoint=\"to\"} ", 1);
    /* A restart does not forget it. At most one more was in flight when the first was answered. */
    notify_rig_stop(rig, 0);
    start(rig);
    notify_rig_wait_log(rig, "endpoint.paused");
    assert_true(receiver_count(to) <= 2);
    test_db_run(rig->db, "UPDATE inbox_endpoint SET is_paused = 0");
    notify_rig_wait_number(rig, 20, DELIVERED);
    assert_int_equal(notify_rig_number(rig, "SELECT MAX(attempts) FROM inbox_call"), 1);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

static void busy_at_first(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    if (n > 0)
        return;
    answer->status = 503;
    snprintf(answer->retry_after, sizeof(answer->retry_after), "1");
}

static void busy_for_years(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    if (n > 0)
        return;
    answer->status = 429;
    snprintf(answer->retry_after, sizeof(answer->retry_after), "Fri, 31 Dec 2088 23:59:59 GMT");
}

static void retry_after_is_obeyed_and_bounded(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *busy = receiver_create(busy_at_first);
    struct receiver *years = receiver_create(busy_for_years);
    int64_t waited_ms;

    notify_rig_config(rig, "",
                      ENDPOINT "schedule = 0s, 20ms\nconcurrency = 1\n" ENDPOINT
                               "schedule = 0s, 20ms\nretry_after_max = 700ms\nconcurrency = 1\n",
                      "busy", receiver_port(busy), "t", SECRET_A, "years", receiver_port(years),
                      "t", SECRET_A);
    start(rig);
    notify_rig_publish(rig, "m", "t", "x");
    notify_rig_publish(rig, "other", "t", "x");
    receiver_wait(busy, 3);
    receiver_wait(years, 3);
    waited_ms = receiver_call(busy, 1).at_ms - receiver_call(busy, 0).at_ms;
    assert_true(waited_ms >= 1000);
    waited_ms = receiver_call(years, 1).at_ms - receiver_call(years, 0).at_ms;
    assert_true(waited_ms >= 700);
    notify_rig_wait_number(rig, 4, DELIVERED);
    notify_rig_stop(rig, 0);
    receiver_destroy(busy);
    receiver_destroy(years);
}

static void half_a_second(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    (void)n;
    answer->delay_ms = 500;
}

/* TERM waits for what is in flight and starts nothing more. */
static void a_stop_awaits_the_calls_in_flight(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(half_a_second);

    notify_rig_config(rig, "", ENDPOINT "concurrency = 3\n", "to", receiver_port(to), "#",
                      SECRET_A);
    start(rig);
    notify_rig_fill(rig, "m", 10, "t");
    receiver_wait(to, 3);
    notify_rig_wait_number(rig, 10, "SELECT COUNT(*) FROM inbox_call");
    notify_rig_stop(rig, 0);
    assert_in_range(receiver_count(to), 3, 6);
    assert_int_equal(notify_rig_number(rig, DELIVERED), receiver_count(to));
    /* The lease was given back: the next process need not wait for its end. */
    assert_int_equal(notify_rig_number(rig, "SELECT expires_at <= UTC_TIMESTAMP(6) FROM "
                                            "inbox_lease"),
                     1);
    receiver_destroy(to);
}

/* ---- a command line ---- */

static void check_says_what_is_wrong(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);

    notify_rig_config(rig, "", ENDPOINT, "to", receiver_port(to), "#", SECRET_A);
    assert_int_equal(notify_rig_command(rig, "--check"), 0);
    assert_int_equal(receiver_count(to), 0);
    notify_rig_config(rig, "", ENDPOINT, "to", 1U, "#", SECRET_A);
    assert_int_equal(notify_rig_command(rig, "--check"), 1);
    notify_rig_wait_log(rig, "FAILED  endpoint to: ");
    notify_rig_config(rig, "", ENDPOINT, "to", 1U, "#", "short");
    assert_int_equal(notify_rig_command(rig, "--check"), 2);
    notify_rig_wait_log(rig, "a secret has less than 16 bytes");
    assert_int_equal(notify_rig_command(rig, "--help"), 0);
    assert_int_equal(notify_rig_command(rig, "--help-config"), 0);
    receiver_destroy(to);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, notify_rig_setup, notify_rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_each_endpoint_once_and_signed),
        TEST(the_body_is_the_messages_own_bytes),
        TEST(a_hostile_message_adds_no_header),
        TEST(secrets_are_changed_without_a_gap),
        TEST(many_silent_ones_leave_the_others_their_places),
        TEST(gives_up_at_the_end_of_the_schedule),
        TEST(the_dead_do_not_hold_up_the_healthy),
        TEST(a_flapping_endpoint_gets_everything),
        TEST(a_lying_endpoint_is_not_believed),
        TEST(gone_pauses_until_it_is_resumed),
        TEST(retry_after_is_obeyed_and_bounded),
        TEST(what_cannot_be_reached_comes_to_an_end),
        TEST(the_old_are_called_too),
        TEST(a_stop_awaits_the_calls_in_flight),
        TEST(check_says_what_is_wrong),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
