/*
 * Unit tests of tests/support/cut_proxy: each test holds both ends of the connections itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cut_proxy.h"
#include "wait.h"

enum {
    SOON_MS = 20000,
    QUIET_MS = 60, /* how long nothing must come to count as silence */
    BIG = 8 * 1024 * 1024
};

struct fixture {
    int listener;
    struct cut_proxy *proxy;
    int client; /* the client's end of the connection through the proxy */
    int server; /* and the server's */
};

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* A connection to the proxy; -1 and errno when it is refused. */
static int dial(const struct cut_proxy *proxy)
{
    const struct sockaddr_in address = loopback(cut_proxy_port(proxy));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int cause = 0;

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    cause = errno;
    close(fd);
    errno = cause;
    return -1;
}

static bool has_input(int fd, int timeout_ms)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    return poll(&entry, 1, timeout_ms) == 1;
}

static int take(const struct fixture *f)
{
    assert_true(has_input(f->listener, SOON_MS));
    return accept(f->listener, NULL, NULL);
}

static void hang_up(struct fixture *f)
{
    close(f->client);
    close(f->server);
}

static void dial_again(struct fixture *f)
{
    f->client = dial(f->proxy);
    assert_true(f->client >= 0);
    f->server = take(f);
    assert_true(f->server >= 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    uint16_t port = 0;

    assert_non_null(f);
    f->listener = listen_anywhere(&port);
    f->proxy = cut_proxy_create("127.0.0.1", port);
    assert_non_null(f->proxy);
    dial_again(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    hang_up(f);
    cut_proxy_destroy(f->proxy);
    close(f->listener);
    free(f);
    return 0;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void assert_hears(int fd, const char *text)
{
    char heard[256] = "";
    size_t len = 0;

    while (len < strlen(text)) {
        ssize_t got = -1;

        assert_true(has_input(fd, SOON_MS));
        got = recv(fd, heard + len, strlen(text) - len, 0);
        assert_true(got > 0);
        len += (size_t)got;
    }
    assert_string_equal(heard, text);
}

static void assert_silent(int fd)
{
    assert_false(has_input(fd, QUIET_MS));
}

static void assert_reset(int fd)
{
    char byte = 0;

    assert_true(has_input(fd, SOON_MS));
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

static void assert_ended(int fd)
{
    char byte = 0;

    assert_true(has_input(fd, SOON_MS));
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static struct cut_stats stats_of(const struct fixture *f)
{
    struct cut_stats stats = {0};

    cut_proxy_get_stats(f->proxy, &stats);
    return stats;
}

static void forwards_both_ways_and_counts(void **state)
{
    const struct fixture *f = *state;
    struct cut_stats stats = {0};

    say(f->client, "question");
    assert_hears(f->server, "question");
    say(f->server, "the answer");
    assert_hears(f->client, "the answer");
    stats = stats_of(f);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(stats.open, 1);
    assert_int_equal(stats.passed[CUT_TO_SERVER], strlen("question"));
    assert_int_equal(stats.passed[CUT_TO_CLIENT], strlen("the answer"));
    assert_int_equal(stats.swallowed[CUT_TO_CLIENT], 0);
}

static bool none_is_open(void *ctx)
{
    return stats_of(ctx).open == 0;
}

static void passes_the_end_of_each_direction(void **state)
{
    struct fixture *f = *state;

    say(f->client, "last");
    assert_int_equal(shutdown(f->client, SHUT_WR), 0);
    assert_hears(f->server, "last");
    assert_ended(f->server);
    say(f->server, "still here");
    assert_hears(f->client, "still here");
    assert_int_equal(shutdown(f->server, SHUT_WR), 0);
    assert_ended(f->client);
    assert_true(wait_until(SOON_MS, none_is_open, f));
}

static void cut_all_resets_both_sides(void **state)
{
    struct fixture *f = *state;

    say(f->client, "x");
    assert_hears(f->server, "x");
    cut_proxy_cut_all(f->proxy);
    assert_reset(f->client);
    assert_reset(f->server);
    assert_int_equal(stats_of(f).open, 0);
    hang_up(f);
    dial_again(f);
    say(f->client, "new");
    assert_hears(f->server, "new");
}

/* A client that the kernel has connected is cut too, though the proxy had no time to accept it. */
static void cut_all_takes_connections_not_yet_accepted(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        const int late = dial(f->proxy);

        assert_true(late >= 0);
        cut_proxy_cut_all(f->proxy);
        assert_reset(late);
        close(late);
    }
}

static void cut_after_passes_exactly_so_many_bytes(void **state)
{
    struct fixture *f = *state;

    cut_proxy_cut_after(f->proxy, CUT_TO_SERVER, 5);
    say(f->client, "abc");
    assert_hears(f->server, "abc");
    assert_true(cut_proxy_cut_is_pending(f->proxy, CUT_TO_SERVER));
    say(f->client, "defgh");
    assert_hears(f->server, "de");
    assert_reset(f->server);
    assert_reset(f->client);
    assert_false(cut_proxy_cut_is_pending(f->proxy, CUT_TO_SERVER));
    assert_int_equal(stats_of(f).passed[CUT_TO_SERVER], 5);
    hang_up(f);
    dial_again(f);
    say(f->client, "the fault is over");
    assert_hears(f->server, "the fault is over");
}

/* What a lost confirm is made of: the request arrives, the answer does not. */
static void cut_after_zero_cuts_at_the_next_byte(void **state)
{
    const struct fixture *f = *state;

    cut_proxy_cut_after(f->proxy, CUT_TO_CLIENT, 0);
    say(f->client, "request");
    assert_hears(f->server, "request");
    say(f->server, "confirm");
    assert_reset(f->client);
    assert_reset(f->server);
    assert_int_equal(stats_of(f).passed[CUT_TO_CLIENT], 0);
}

static void swallows_without_a_sign(void **state)
{
    struct fixture *f = *state;

    cut_proxy_set_flow(f->proxy, CUT_TO_CLIENT, CUT_SWALLOW);
    say(f->client, "request");
    assert_hears(f->server, "request");
    say(f->server, "lost");
    assert_silent(f->client);
    assert_int_equal(stats_of(f).swallowed[CUT_TO_CLIENT], 4);
    cut_proxy_set_flow(f->proxy, CUT_TO_CLIENT, CUT_PASS);
    say(f->server, "after a gap");
    assert_silent(f->client); /* a stream with a hole in it must not go on */
    close(f->server);
    assert_silent(f->client); /* nor may its end be seen */
    f->server = -1;
    close(f->client);
    assert_true(wait_until(SOON_MS, none_is_open, f));
    dial_again(f);
    say(f->server, "whole");
    assert_hears(f->client, "whole");
}

static void swallows_towards_the_server(void **state)
{
    const struct fixture *f = *state;

    cut_proxy_set_flow(f->proxy, CUT_TO_SERVER, CUT_SWALLOW);
    say(f->client, "lost");
    assert_silent(f->server);
    say(f->server, "unasked");
    assert_hears(f->client, "unasked");
}

static void holds_and_then_passes_all(void **state)
{
    const struct fixture *f = *state;

    cut_proxy_set_flow(f->proxy, CUT_TO_SERVER, CUT_HOLD);
    say(f->client, "waits");
    assert_silent(f->server);
    cut_proxy_set_flow(f->proxy, CUT_TO_SERVER, CUT_PASS);
    assert_hears(f->server, "waits");
}

static void delays_each_piece(void **state)
{
    const struct fixture *f = *state;
    const int64_t start = wait_now_ms();

    cut_proxy_set_delay(f->proxy, CUT_TO_CLIENT, 80);
    say(f->client, "quick");
    assert_hears(f->server, "quick");
    say(f->server, "slow");
    assert_hears(f->client, "slow");
    assert_true(wait_now_ms() - start >= 80);
}

static void refuses_and_takes_again_on_the_same_port(void **state)
{
    struct fixture *f = *state;

    cut_proxy_set_refuse(f->proxy, true);
    assert_int_equal(dial(f->proxy), -1);
    assert_int_equal(errno, ECONNREFUSED);
    say(f->client, "stays");
    assert_hears(f->server, "stays");
    cut_proxy_set_refuse(f->proxy, false);
    hang_up(f);
    dial_again(f);
    say(f->client, "back");
    assert_hears(f->server, "back");
}

static void resets_the_client_when_the_server_is_gone_and_finds_it_elsewhere(void **state)
{
    struct fixture *f = *state;
    uint16_t port = 0;
    int fd = -1;

    close(f->listener);
    fd = dial(f->proxy);
    assert_true(fd >= 0);
    assert_reset(fd);
    close(fd);
    f->listener = listen_anywhere(&port);
    cut_proxy_set_server_port(f->proxy, port);
    hang_up(f);
    dial_again(f);
    say(f->server, "moved");
    assert_hears(f->client, "moved");
}

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 2654435761U >> 13);
}

/* Pushes as much as the socket takes; returns how far it got. */
static size_t push(int fd, const unsigned char *data, size_t from)
{
    const ssize_t sent = send(fd, data + from, BIG - from, MSG_DONTWAIT | MSG_NOSIGNAL);

    return sent < 0 ? from : from + (size_t)sent;
}

static size_t pull_and_check(int fd, size_t from)
{
    static unsigned char chunk[65536];
    const ssize_t got = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);

    for (ssize_t i = 0; i < got; i++)
        assert_int_equal(chunk[i], pattern(from + (size_t)i));
    return got < 0 ? from : from + (size_t)got;
}

/* More than all buffers hold, with a reader that begins late: nothing is lost or out of order. */
static void carries_a_lot_to_a_late_reader(void **state)
{
    const struct fixture *f = *state;
    unsigned char *data = malloc(BIG);
    const int64_t end = wait_now_ms() + SOON_MS;
    size_t out = 0;
    size_t in = 0;

    assert_non_null(data);
    for (size_t i = 0; i < BIG; i++)
        data[i] = pattern(i);
    while (in < BIG && wait_now_ms() < end) {
        struct pollfd polls[2] = {{.fd = f->client, .events = POLLOUT},
                                  {.fd = f->server, .events = POLLIN}};
        const size_t before = out;

        polls[0].fd = out == BIG ? -1 : f->client;
        poll(polls, 2, 100);
        out = push(f->client, data, out);
        if (out == before)
            in = pull_and_check(f->server, in);
    }
    assert_int_equal(in, BIG);
    free(data);
}

static void destroys_with_connections_open(void **state)
{
    struct fixture *f = *state;
    uint16_t port = 0;
    const int listener = listen_anywhere(&port);
    struct cut_proxy *other = cut_proxy_create("127.0.0.1", port);
    int fd = -1;

    (void)f;
    assert_non_null(other);
    fd = dial(other);
    assert_true(fd >= 0);
    cut_proxy_destroy(other);
    assert_reset(fd);
    close(fd);
    close(listener);
    cut_proxy_destroy(NULL);
    assert_null(cut_proxy_create("not an address", port));
}

#define PROXY_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROXY_TEST(forwards_both_ways_and_counts),
        PROXY_TEST(passes_the_end_of_each_direction),
        PROXY_TEST(cut_all_resets_both_sides),
        PROXY_TEST(cut_all_takes_connections_not_yet_accepted),
        PROXY_TEST(cut_after_passes_exactly_so_many_bytes),
        PROXY_TEST(cut_after_zero_cuts_at_the_next_byte),
        PROXY_TEST(swallows_without_a_sign),
        PROXY_TEST(swallows_towards_the_server),
        PROXY_TEST(holds_and_then_passes_all),
        PROXY_TEST(delays_each_piece),
        PROXY_TEST(refuses_and_takes_again_on_the_same_port),
        PROXY_TEST(resets_the_client_when_the_server_is_gone_and_finds_it_elsewhere),
        PROXY_TEST(carries_a_lot_to_a_late_reader),
        PROXY_TEST(destroys_with_connections_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
