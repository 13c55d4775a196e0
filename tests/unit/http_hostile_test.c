/*
 * The HTTP server against the hostile peer of tests/support, and what it keeps (docs/adr/0017): the
 * token before the body, bytes in flight, connections, times, hosts. The times are shorter than the
 * defaults, so that each case ends soon; http_test.c waits for a default one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_hostile.h"
#include "http_raw.h"
#include "loop_thread.h"
#include "service/http.h"
#include "wait.h"

enum {
    CONNECTIONS = 40,
    HEAD_MS = 700,
    BODY_MAX = 100000,
    IN_FLIGHT_MAX = 250000,
    LARGE = 4 * 1024 * 1024,
    PATIENCE_MS = 20000,
};

#define TOKEN "Authorization: Bearer the-token\r\n"

struct fixture {
    struct loop_thread loop;
    struct http_server *server;
    struct http_hostile target;
    char *large;
};

static bool on_head(struct http_exchange *x, void *ctx)
{
    const char *token = http_field(x, "Authorization");
    const struct http_response answer = {.status = 401};

    (void)ctx;
    if (strcmp(http_method(x), "GET") == 0 ||
        (token != NULL && strcmp(token, "Bearer the-token") == 0))
        return true;
    http_respond(x, &answer);
    return false;
}

/* Echoes; a body of "wait" is never answered, so that its bytes stay in flight. */
static void on_request(struct http_exchange *x, void *ctx)
{
    struct fixture *fix = ctx;
    struct http_response answer = {.status = 200, .body = http_body(x)};

    if (bytes_is(http_path(x), "/large"))
        answer.body = (struct obx_bytes){fix->large, LARGE};
    if (bytes_is(http_path(x), "/hidden"))
        answer.status = 500;
    if (!bytes_is(http_path(x), "/wait"))
        http_respond(x, &answer);
}

static const struct http_ops ops = {.on_head = on_head, .on_request = on_request};

static int start(void **state)
{
    static const char *const hosts[] = {"relay.example"};
    struct fixture *fix = calloc(1, sizeof(*fix));
    const struct http_opts opts = {.base = event_base_new(),
                                   .address = "127.0.0.1",
                                   .ops = &ops,
                                   .ctx = fix,
                                   .limits = {.connections = CONNECTIONS,
                                              .body_bytes = BODY_MAX,
                                              .in_flight_bytes = IN_FLIGHT_MAX,
                                              .head_ms = HEAD_MS,
                                              .body_ms = HEAD_MS,
                                              .answer_ms = HEAD_MS,
                                              .idle_ms = HEAD_MS},
                                   .hosts = hosts,
                                   .host_count = 1};

    assert_non_null(fix);
    fix->loop.base = opts.base;
    fix->large = calloc(1, LARGE);
    assert_non_null(fix->large);
    assert_int_equal(http_server_create(&opts, &fix->server, NULL), OBX_OK);
    fix->target = (struct http_hostile){
        .port = http_server_port(fix->server), .get = "/hello", .post = "/echo", .fields = TOKEN};
    loop_thread_start(&fix->loop);
    *state = fix;
    return 0;
}

static int stop(void **state)
{
    struct fixture *fix = *state;

    loop_thread_stop(&fix->loop);
    http_server_destroy(fix->server);
    event_base_free(fix->loop.base);
    free(fix->large);
    free(fix);
    return 0;
}

static struct http_stats stats_of(const struct fixture *fix)
{
    struct http_stats stats;

    http_server_get_stats(fix->server, &stats);
    return stats;
}

static bool is_empty(void *ctx)
{
    const struct http_stats stats = stats_of(ctx);

    return stats.connections == 0 && stats.bytes_in_flight == 0;
}

/* Whatever was done to it, all is given back and an honest peer is served. */
static void expect_unharmed(struct fixture *fix)
{
    assert_true(http_hostile_is_served(&fix->target));
    assert_true(wait_until(PATIENCE_MS, is_empty, fix));
}

static void requests_of_two_meanings(void **state)
{
    struct fixture *fix = *state;

    http_hostile_smuggle(&fix->target);
    expect_unharmed(fix);
}

static void requests_that_a_seeded_hand_changed(void **state)
{
    struct fixture *fix = *state;

    http_hostile_mutate(&fix->target, 20261130, 3000);
    expect_unharmed(fix);
}

static void pipelines_and_aborts(void **state)
{
    struct fixture *fix = *state;

    http_hostile_pipeline(&fix->target, 2000);
    http_hostile_abort(&fix->target, 20261130, 500);
    fix->target.get = "/large";
    http_hostile_abort(&fix->target, 7, 60);
    expect_unharmed(fix);
}

/* Far more than there is room for. */
static void thousands_of_connections(void **state)
{
    struct fixture *fix = *state;

    for (int i = 0; i < 8; i++)
        http_hostile_crowd(&fix->target, 2, 200);
    assert_true(stats_of(fix).cut_off >= UINT64_C(8) * (400 - CONNECTIONS - 1));
    expect_unharmed(fix);
}

static void slow_heads_and_bodies(void **state)
{
    struct fixture *fix = *state;

    assert_true(http_hostile_drip(&fix->target, "GET /hello HTTP/1.1\r\nX: ", 'x', PATIENCE_MS));
    assert_true(http_hostile_drip(&fix->target,
                                  "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                                  "Content-Length: 90000\r\n\r\n",
                                  'x', PATIENCE_MS));
    assert_true(http_hostile_drip(&fix->target,
                                  "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                                  "Transfer-Encoding: chunked\r\n\r\nfff\r\n",
                                  'x', PATIENCE_MS));
    assert_true(stats_of(fix).cut_off >= 3);
    expect_unharmed(fix);
}

static bool has_cut_one_off(void *ctx)
{
    return stats_of(ctx).cut_off > 0;
}

/* A peer that asks and does not take the answer. */
static void a_reader_that_stands_still(void **state)
{
    static const char request[] = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct fixture *fix = *state;
    int fd = http_raw_connect(fix->target.port);

    assert_true(fd >= 0);
    assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
    assert_true(wait_until(PATIENCE_MS, has_cut_one_off, fix));
    (void)close(fd);
    expect_unharmed(fix);
}

static int begin(const struct fixture *fix, const char *request)
{
    int fd = http_raw_connect(fix->target.port);

    assert_true(fd >= 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    return fd;
}

/* What the server says first, up to its first empty line. */
static void read_head(int fd, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    while (strstr(out, "\r\n\r\n") == NULL && len + 1 < size) {
        ssize_t got = recv(fd, out + len, 1, 0);

        if (got <= 0)
            break;
        out[++len] = '\0';
    }
}

/* No byte of the body was sent, and yet the answer is there. */
static void the_token_comes_before_the_body(void **state)
{
    struct fixture *fix = *state;
    char head[1024];
    int fd = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n");

    read_head(fd, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 401 ", 13);
    assert_int_equal(stats_of(fix).bytes_in_flight, 0);
    (void)close(fd);
    fd = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
                    "Expect: 100-continue\r\n\r\n");
    read_head(fd, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 401 ", 13);
    (void)close(fd);
    fd = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                    "Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n");
    read_head(fd, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 413 ", 13);
    (void)close(fd);
    expect_unharmed(fix);
}

static void a_body_is_sent_when_it_is_asked_for(void **state)
{
    struct fixture *fix = *state;
    char head[1024];
    int fd = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                        "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");

    read_head(fd, head, sizeof(head));
    assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
    read_head(fd, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 200 ", 13);
    assert_int_equal(recv(fd, head, 5, MSG_WAITALL), 5);
    assert_memory_equal(head, "hello", 5);
    (void)close(fd);
    expect_unharmed(fix);
}

static bool has_two_bodies(void *ctx)
{
    return stats_of(ctx).bytes_in_flight == 200000;
}

/* Room for two and a half of the largest: the third is told to come back, and is taken later. */
static void bytes_in_flight_are_bounded(void **state)
{
    static const char ask[] =
        "POST /wait HTTP/1.1\r\nHost: localhost\r\n" TOKEN "Content-Length: 100000\r\n\r\n";
    struct fixture *fix = *state;
    char *body = calloc(1, BODY_MAX);
    char head[1024];
    int first = begin(fix, ask), second = begin(fix, ask), third;

    assert_non_null(body);
    assert_int_equal(send(first, body, BODY_MAX, MSG_NOSIGNAL), BODY_MAX);
    assert_int_equal(send(second, body, BODY_MAX, MSG_NOSIGNAL), BODY_MAX);
    assert_true(wait_until(PATIENCE_MS, has_two_bodies, fix));
    third = begin(fix, ask);
    read_head(third, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(head, "Retry-After: 1\r\n"));
    (void)close(third);
    third = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                       "Transfer-Encoding: chunked\r\n\r\nf000\r\n");
    read_head(third, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 503 ", 13);
    (void)close(third);
    http_raw_reset(first);
    http_raw_reset(second);
    assert_true(wait_until(PATIENCE_MS, is_empty, fix));
    third = begin(fix, "POST /echo HTTP/1.1\r\nHost: localhost\r\n" TOKEN
                       "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n");
    read_head(third, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(head, "Content-Length: 5\r\n"));
    (void)close(third);
    free(body);
    expect_unharmed(fix);
}

/* A connection whose request is being worked on is not the one that makes room. */
static void work_in_hand_is_not_cut_off(void **state)
{
    static const char ask[] = "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct fixture *fix = *state;
    struct pollfd busy = {.fd = begin(fix, ask), .events = POLLIN};
    int all[CONNECTIONS - 1];
    char head[256];
    int late;

    http_hostile_crowd(&fix->target, 1, 200);
    assert_int_equal(poll(&busy, 1, 0), 0);
    for (size_t i = 0; i < CONNECTIONS - 1; i++)
        all[i] = begin(fix, ask);
    late = begin(fix, ask);
    read_head(late, head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 503 ", 13);
    assert_int_equal(poll(&busy, 1, 0), 0);
    for (size_t i = 0; i < CONNECTIONS - 1; i++)
        http_raw_reset(all[i]);
    (void)close(late);
    http_raw_reset(busy.fd);
    /* Until the server has seen that they are gone, they are at work, and nobody else has room. */
    assert_true(wait_until(PATIENCE_MS, is_empty, fix));
    expect_unharmed(fix);
}

static int status_for_host(const struct fixture *fix, const char *host)
{
    char request[512];
    struct obx_buf answer = {0};
    int len = snprintf(request, sizeof(request), "GET /hello HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    int status = http_raw_request(fix->target.port, request, (size_t)len, &answer);

    buf_fini(&answer);
    return status;
}

/* A page of somebody else that has its name point to us sends that name. */
static void only_our_hosts_are_served(void **state)
{
    static const char *const ours[] = {"localhost",     "LOCALHOST:8377", "127.0.0.1",
                                       "10.1.2.3:8377", "[::1]",          "[fe80::1]:80",
                                       "relay.example", "Relay.Example:1"};
    static const char *const others[] = {"rebound.example", "relay.example.com", "xlocalhost",
                                         "localhost.",      "127.0.0.1.example", "1.2.3",
                                         "[relay.example]", "[127.0.0.1]",       ""};
    struct fixture *fix = *state;

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        assert_int_equal(status_for_host(fix, ours[i]), 200);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_int_equal(status_for_host(fix, others[i]), 421);
    expect_unharmed(fix);
}

/* A proxy's form of the target is as good, and its host counts. */
static void absolute_targets(void **state)
{
    static const char ours[] = "GET http://relay.example/hello HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char other[] = "GET http://rebound/hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct fixture *fix = *state;
    struct obx_buf answer = {0};

    assert_int_equal(http_raw_request(fix->target.port, ours, sizeof(ours) - 1, &answer), 200);
    assert_int_equal(http_raw_request(fix->target.port, other, sizeof(other) - 1, &answer), 421);
    buf_fini(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_of_two_meanings, start, stop),
        cmocka_unit_test_setup_teardown(requests_that_a_seeded_hand_changed, start, stop),
        cmocka_unit_test_setup_teardown(pipelines_and_aborts, start, stop),
        cmocka_unit_test_setup_teardown(thousands_of_connections, start, stop),
        cmocka_unit_test_setup_teardown(slow_heads_and_bodies, start, stop),
        cmocka_unit_test_setup_teardown(a_reader_that_stands_still, start, stop),
        cmocka_unit_test_setup_teardown(the_token_comes_before_the_body, start, stop),
        cmocka_unit_test_setup_teardown(a_body_is_sent_when_it_is_asked_for, start, stop),
        cmocka_unit_test_setup_teardown(bytes_in_flight_are_bounded, start, stop),
        cmocka_unit_test_setup_teardown(work_in_hand_is_not_cut_off, start, stop),
        cmocka_unit_test_setup_teardown(only_our_hosts_are_served, start, stop),
        cmocka_unit_test_setup_teardown(absolute_targets, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
