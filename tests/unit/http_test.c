/*
 * Unit tests of base/service/http: the server runs on a thread of its own, the test is a
 * raw socket on the loopback, so that it can be as rude as it likes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop_thread.h"
#include "process.h"
#include "service/http_get.h"
#include "service/http_pages.h"

struct fixture {
    struct loop_thread loop;
    struct http_pages *server;
    uint16_t port;
    char *answer;
    size_t answer_cap;
    const char *token; /* of the pages; NULL: none is needed */
};

static enum obx_code say_hello(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    return buf_add_text(&reply->body, "hello\n");
}

static enum obx_code not_ready(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    reply->status = 503;
    reply->content_type = "application/json";
    return buf_add_text(&reply->body, "{\"ready\":false}\n");
}

static enum obx_code broken(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    (void)reply;
    return OBX_E_NOMEM;
}

static const struct http_route routes[] = {
    {"/hello", say_hello}, {"/not-ready", not_ready}, {"/broken", broken}};

static enum obx_code listen_on(struct fixture *fix, struct http_pages **out, struct obx_err *err)
{
    const struct http_pages_opts opts = {
        .http = {.base = fix->loop.base, .address = "127.0.0.1", .port = fix->port},
        .routes = routes,
        .route_count = sizeof(routes) / sizeof(routes[0]),
        .token = fix->token,
        .open_count = 1};

    return http_pages_create(&opts, out, err);
}

static int start_with(void **state, const char *token)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_non_null(fix);
    fix->token = token;
    fix->loop.base = event_base_new();
    fix->port = proc_free_port();
    fix->answer_cap = 65536;
    fix->answer = malloc(fix->answer_cap);
    assert_int_equal(listen_on(fix, &fix->server, NULL), OBX_OK);
    loop_thread_start(&fix->loop);
    *state = fix;
    return 0;
}

static int start(void **state)
{
    return start_with(state, NULL);
}

static int start_with_token(void **state)
{
    return start_with(state, "0123456789abcdef");
}

static int stop(void **state)
{
    struct fixture *fix = *state;

    loop_thread_stop(&fix->loop);
    http_pages_destroy(fix->server);
    event_base_free(fix->loop.base);
    free(fix->answer);
    free(fix);
    return 0;
}

static int dial(const struct fixture *fix)
{
    const struct timeval patience = {.tv_sec = 20};
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons(fix->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* Reads until the server closes; the answer as a string. */
static const char *read_all(struct fixture *fix, int fd)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = recv(fd, fix->answer + len, fix->answer_cap - 1 - len, 0);

        if (n <= 0)
            break;
        len += (size_t)n;
    }
    fix->answer[len] = '\0';
    return fix->answer;
}

static const char *ask(struct fixture *fix, const char *request, size_t len)
{
    int fd = dial(fix);
    const char *answer;

    (void)send(fd, request, len, MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    answer = read_all(fix, fd);
    close(fd);
    return answer;
}

static void expect_status(struct fixture *fix, const char *request, const char *status_line)
{
    const char *answer = ask(fix, request, strlen(request));

    if (strncmp(answer, status_line, strlen(status_line)) != 0)
        fail_msg("\"%s\" was answered \"%s\"", request, answer);
}

static void answers_what_the_route_says(void **state)
{
    struct fixture *fix = *state;

    expect_status(fix, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
    assert_non_null(strstr(fix->answer, "\r\n\r\nhello\n"));
    expect_status(fix, "GET /hello?x=1&y=%00 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ");
    expect_status(fix, "GET /not-ready HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 503 ");
    assert_non_null(strstr(fix->answer, "Content-Type: application/json"));
    assert_non_null(strstr(fix->answer, "{\"ready\":false}"));
    expect_status(fix, "GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 500 ");
    assert_non_null(strstr(fix->answer, "OBX_E_NOMEM"));
}

static void head_has_no_body(void **state)
{
    struct fixture *fix = *state;

    expect_status(fix, "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
    assert_null(strstr(fix->answer, "hello\n"));
}

static void unknown_paths_are_404(void **state)
{
    struct fixture *fix = *state;
    struct http_stats stats;

    expect_status(fix, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ");
    expect_status(fix, "GET /hello/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ");
    expect_status(fix, "GET /../hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ");
    http_pages_get_stats(fix->server, &stats);
    assert_int_equal(stats.refused, 3);
}

static void other_methods_are_405(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"};
    struct fixture *fix = *state;
    char request[128];

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        snprintf(request, sizeof(request),
                 "%s /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", methods[i]);
        expect_status(fix, request, "HTTP/1.1 405 ");
        assert_non_null(strstr(fix->answer, "Allow: GET, HEAD"));
    }
}

/* Whatever comes in, the server closes or answers with an error, and serves the next one. */
static void survives_rubbish(void **state)
{
    struct fixture *fix = *state;
    char *big = malloc(200000);
    static const char *const rubbish[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\xfc\x03",
        "BREW /pot HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/9.9\r\n\r\n",
        "POST /hello HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST /hello HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET http://[::1:/hello HTTP/1.1\r\nHost: localhost\r\n\r\n"};

    assert_non_null(big);
    for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
        int fd = dial(fix);

        (void)send(fd, rubbish[i], strlen(rubbish[i]), MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
        assert_null(strstr(read_all(fix, fd), "hello\n"));
        close(fd);
    }
    memset(big, 'a', 200000);
    memcpy(big, "GET /", 5);
    assert_null(strstr(ask(fix, big, 200000), " 200 "));
    memcpy(big, "GET /hello HTTP/1.1\r\nX: ", strlen("GET /hello HTTP/1.1\r\nX: "));
    assert_null(strstr(ask(fix, big, 200000), " 200 "));
    free(big);
    expect_status(fix, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
}

/* Sends a byte now and then until the server has had enough; false when that takes too long. */
static bool drips_until_closed(int fd, uint64_t start_ms)
{
    struct pollfd peer = {.fd = fd, .events = POLLIN};

    while (clock_now_ms() - start_ms < 15000) {
        if (send(fd, "G", 1, MSG_NOSIGNAL) < 0 || poll(&peer, 1, 300) > 0)
            return true;
    }
    return false;
}

/* Neither silence nor a byte now and then keeps a connection open. */
static void silent_and_slow_peers_are_closed(void **state)
{
    struct fixture *fix = *state;
    uint64_t start_ms = clock_now_ms();
    int silent = dial(fix);
    int slow = dial(fix);

    (void)send(silent, "GET /hel", 8, MSG_NOSIGNAL);
    assert_true(drips_until_closed(slow, start_ms));
    (void)read_all(fix, silent);
    close(silent);
    close(slow);
    assert_true(clock_now_ms() - start_ms < 15000);
    assert_true(clock_now_ms() - start_ms >= 4000);
}

/* More silent peers than there is room for: who asks is answered at once all the same. */
static void a_crowd_keeps_nobody_out(void **state)
{
    struct fixture *fix = *state;
    int crowd[300];
    struct http_stats stats;
    char byte;

    for (size_t i = 0; i < 300; i++)
        crowd[i] = dial(fix);
    expect_status(fix, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
    http_pages_get_stats(fix->server, &stats);
    assert_true(stats.cut_off >= 300 - 64);
    assert_true(recv(crowd[0], &byte, 1, 0) <= 0); /* the oldest had to go */
    for (size_t i = 0; i < 300; i++)
        close(crowd[i]);
}

/* A head in many pieces, and a peer that closes its own side before it reads. */
static void a_head_in_pieces(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaa\r\n\r\n";
    struct fixture *fix = *state;
    int fd = dial(fix);

    for (size_t i = 0; i < sizeof(request) - 1; i++)
        assert_int_equal(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
    shutdown(fd, SHUT_WR);
    assert_non_null(strstr(read_all(fix, fd), "\r\n\r\nhello\n"));
    close(fd);
}

/* A body that nobody asked for does not take the answer away. */
static void a_body_is_not_read(void **state)
{
    static const char head[] =
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000\r\n\r\n";
    struct fixture *fix = *state;
    char *request = calloc(1, sizeof(head) + 30000);

    assert_non_null(request);
    memcpy(request, head, sizeof(head) - 1);
    memset(request + sizeof(head) - 1, 'b', 30000);
    assert_non_null(strstr(ask(fix, request, sizeof(head) - 1 + 30000), " 405 "));
    free(request);
}

static void an_address_in_use_is_an_error(void **state)
{
    struct fixture *fix = *state;
    struct http_pages *second = NULL;
    struct obx_err err = {0};

    assert_int_equal(listen_on(fix, &second, &err), OBX_E_SYSTEM);
    assert_null(second);
    assert_non_null(strstr(err.text, "127.0.0.1"));
}

static void the_client_gets_the_answer(void **state)
{
    struct fixture *fix = *state;
    struct http_get_opts opts = {
        .address = "127.0.0.1", .port = fix->port, .path = "/not-ready", .timeout_ms = 10000};
    struct obx_buf body = {0};
    int status = 0;

    assert_int_equal(http_get(&opts, &status, &body, NULL), OBX_OK);
    assert_int_equal(status, 503);
    assert_string_equal(body.data, "{\"ready\":false}\n");
    buf_fini(&body);
}

static void the_client_says_that_nobody_listens(void **state)
{
    struct obx_buf body = {0};
    struct obx_err err = {0};
    struct http_get_opts opts = {
        .address = "127.0.0.1", .port = proc_free_port(), .path = "/hello", .timeout_ms = 10000};
    int status = 7;

    (void)state;
    assert_int_equal(http_get(&opts, &status, &body, &err), OBX_E_SYSTEM);
    assert_int_equal(status, 0);
    buf_fini(&body);
}

/* A listener that never accepts: the connection stands, an answer never comes. */
static void the_client_gives_up_at_its_deadline(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct http_get_opts opts = {.address = "127.0.0.1", .path = "/hello", .timeout_ms = 200};
    socklen_t len = sizeof(addr);
    struct obx_buf body = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int status = 0;

    (void)state;
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    opts.port = ntohs(addr.sin_port);
    assert_int_not_equal(http_get(&opts, &status, &body, NULL), OBX_OK);
    assert_int_equal(status, 0);
    close(fd);
    buf_fini(&body);
}

/* A pair of certificate and key of this test's own. */
static void make_certificate(char *folder, char *cert, char *key, size_t size)
{
    char command[1024];

    assert_non_null(mkdtemp(folder));
    snprintf(cert, size, "%s/cert.pem", folder);
    snprintf(key, size, "%s/key.pem", folder);
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
             "-subj /CN=localhost -keyout %s -out %s 2>/dev/null",
             key, cert);
    assert_int_equal(system(command), 0);
}

static int start_tls(void **state)
{
    static char folder[] = "/tmp/obx-http-XXXXXX";
    char cert[256], key[256];
    struct fixture *fix = calloc(1, sizeof(*fix));
    struct http_pages_opts opts = {.routes = routes,
                                   .route_count = sizeof(routes) / sizeof(routes[0])};

    assert_non_null(fix);
    make_certificate(folder, cert, key, sizeof(cert));
    fix->loop.base = event_base_new();
    fix->port = proc_free_port();
    fix->answer_cap = 65536;
    fix->answer = malloc(fix->answer_cap);
    opts.http = (struct http_opts){.base = fix->loop.base,
                                   .address = "127.0.0.1",
                                   .port = fix->port,
                                   .tls_cert_file = cert,
                                   .tls_key_file = cert};
    assert_int_equal(http_pages_create(&opts, &fix->server, NULL), OBX_E_CONFIG);
    opts.http.tls_key_file = key;
    assert_int_equal(http_pages_create(&opts, &fix->server, NULL), OBX_OK);
    (void)remove(cert);
    (void)remove(key);
    (void)rmdir(folder);
    loop_thread_start(&fix->loop);
    *state = fix;
    return 0;
}

static bool is_without_connections(const struct fixture *fix)
{
    const uint64_t end_ms = clock_now_ms() + 20000;
    struct http_stats stats;

    do {
        http_pages_get_stats(fix->server, &stats);
    } while (stats.connections > 0 && clock_now_ms() < end_ms);
    return stats.connections == 0;
}

/* Over TLS the same pages; without it nothing but the end of the connection. */
static void pages_over_tls(void **state)
{
    static const char plain[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct fixture *fix = *state;
    struct http_get_opts opts = {.address = "127.0.0.1",
                                 .port = fix->port,
                                 .path = "/hello",
                                 .is_tls = true,
                                 .timeout_ms = 20000};
    struct obx_buf body = {0};
    int status = 0;

    for (int i = 0; i < 20; i++) {
        buf_reset(&body);
        assert_int_equal(http_get(&opts, &status, &body, NULL), OBX_OK);
        assert_int_equal(status, 200);
        assert_string_equal(body.data, "hello\n");
    }
    assert_null(strstr(ask(fix, plain, sizeof(plain) - 1), "hello"));
    opts.is_tls = false;
    assert_int_not_equal(http_get(&opts, &status, &body, NULL), OBX_OK);
    assert_true(is_without_connections(fix));
    buf_fini(&body);
}

/* One connection, several requests, until the peer says that it is the last. */
static void a_connection_is_kept(void **state)
{
    static const char two[] =
        "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
        "GET /not-ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct fixture *fix = *state;
    int fd = dial(fix);
    const char *answer;

    assert_int_equal(send(fd, two, sizeof(two) - 1, MSG_NOSIGNAL), sizeof(two) - 1);
    answer = read_all(fix, fd);
    assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
    answer = strstr(answer, "hello\nHTTP/1.1 503 ");
    assert_non_null(answer);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    close(fd);
}

/* All but the open pages want it, and by GET and HEAD the same. */
static void pages_may_need_a_token(void **state)
{
    static const char *const wrong[] = {"", "Authorization: Bearer 0123456789abcde\r\n",
                                        "Authorization: Bearer 0123456789abcdef0\r\n",
                                        "Authorization: Bearer \r\n",
                                        "Authorization: Basic 0123456789abcdef\r\n"};
    struct fixture *fix = *state;
    char request[256];

    expect_status(fix, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        snprintf(request, sizeof(request), "GET /not-ready HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
                 wrong[i]);
        expect_status(fix, request, "HTTP/1.1 401");
        snprintf(request, sizeof(request), "HEAD /not-ready HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
                 wrong[i]);
        expect_status(fix, request, "HTTP/1.1 401");
    }
    expect_status(fix,
                  "GET /not-ready HTTP/1.1\r\nHost: localhost\r\n"
                  "Authorization: Bearer 0123456789abcdef\r\n\r\n",
                  "HTTP/1.1 503");
    expect_status(fix, "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_what_the_route_says, start, stop),
        cmocka_unit_test_setup_teardown(head_has_no_body, start, stop),
        cmocka_unit_test_setup_teardown(unknown_paths_are_404, start, stop),
        cmocka_unit_test_setup_teardown(pages_may_need_a_token, start_with_token, stop),
        cmocka_unit_test_setup_teardown(other_methods_are_405, start, stop),
        cmocka_unit_test_setup_teardown(survives_rubbish, start, stop),
        cmocka_unit_test_setup_teardown(silent_and_slow_peers_are_closed, start, stop),
        cmocka_unit_test_setup_teardown(a_crowd_keeps_nobody_out, start, stop),
        cmocka_unit_test_setup_teardown(a_head_in_pieces, start, stop),
        cmocka_unit_test_setup_teardown(pages_over_tls, start_tls, stop),
        cmocka_unit_test_setup_teardown(a_connection_is_kept, start, stop),
        cmocka_unit_test_setup_teardown(a_body_is_not_read, start, stop),
        cmocka_unit_test_setup_teardown(an_address_in_use_is_an_error, start, stop),
        cmocka_unit_test_setup_teardown(the_client_gets_the_answer, start, stop),
        cmocka_unit_test(the_client_says_that_nobody_listens),
        cmocka_unit_test(the_client_gives_up_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
