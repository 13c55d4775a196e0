/* The hostile peer. */
#include "http_hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http_raw.h"

enum { REQUEST_MAX = 16384, DRIP_MS = 50, TURNS = 4 };

static int dial(const struct http_hostile *target)
{
    int fd = http_raw_connect(target->port);

    assert_true(fd >= 0);
    return fd;
}

static void send_all(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t sent = send(fd, p, len, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* it has heard enough */
        p += sent;
        len -= (size_t)sent;
    }
}

static unsigned count_of(const char *text, const char *word)
{
    unsigned count = 0;

    assert_non_null(text);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        count++;
    return count;
}

bool http_hostile_is_served(const struct http_hostile *target)
{
    char request[REQUEST_MAX];
    struct obx_buf answer = {0};
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n",
                       target->get, target->fields);
    int status = http_raw_request(target->port, request, (size_t)len, &answer);

    buf_fini(&answer);
    return status == 200;
}

/* ---------------------------------------------------------------- requests of two meanings */

struct trick {
    const char *name;
    const char *fields; /* with the lines of the target before, an empty line behind */
    const char *body;
    size_t body_len; /* 0: strlen(body) */
    int status;      /* 0: any refusal */
};

#define HIDDEN "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"

static const struct trick tricks[] = {
    {"two lengths", "Content-Length: 2\r\nContent-Length: 44\r\n", "{}" HIDDEN, 0, 400},
    {"the same length twice", "Content-Length: 2\r\nContent-Length: 2\r\n", "{}" HIDDEN, 0, 400},
    {"a list of lengths", "Content-Length: 2, 2\r\n", "{}" HIDDEN, 0, 400},
    {"a signed length", "Content-Length: +2\r\n", "{}" HIDDEN, 0, 400},
    {"a negative length", "Content-Length: -2\r\n", "{}" HIDDEN, 0, 400},
    {"a hexadecimal length", "Content-Length: 0x2\r\n", "{}" HIDDEN, 0, 400},
    {"an empty length", "Content-Length: \r\n", "{}" HIDDEN, 0, 400},
    {"a length past 64 bits", "Content-Length: 18446744073709551618\r\n", "{}" HIDDEN, 0, 413},
    {"a length of all bits", "Content-Length: 18446744073709551615\r\n", "{}" HIDDEN, 0, 413},
    {"a length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
     "0\r\n\r\n" HIDDEN, 0, 400},
    {"chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
     "0\r\n\r\n" HIDDEN, 0, 400},
    {"an unknown encoding", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n" HIDDEN, 0, 501},
    {"two encodings", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n" HIDDEN, 0, 501},
    {"two fields of encoding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
     "0\r\n\r\n" HIDDEN, 0, 400},
    {"an encoding in quotes", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n" HIDDEN, 0, 501},
    {"a blank before the colon", "Content-Length : 2\r\n", "{}" HIDDEN, 0, 400},
    {"a folded line", "X: a\r\n b\r\nContent-Length: 2\r\n", "{}" HIDDEN, 0, 400},
    {"a folded length", "Content-Length:\r\n 2\r\n", "{}" HIDDEN, 0, 400},
    {"a line without a colon", "Content-Length\r\n", "{}" HIDDEN, 0, 400},
    {"a field without a name", ": 2\r\n", "{}" HIDDEN, 0, 400},
    {"a line feed alone", "X: a\nContent-Length: 2\r\n", "{}" HIDDEN, 0, 400},
    {"a carriage return alone", "X: a\rContent-Length: 2\r\n", "{}" HIDDEN, 0, 400},
    {"a control character", "X: \x01\r\n", "{}" HIDDEN, 0, 400},
    {"two hosts", "Host: elsewhere\r\n", HIDDEN, 0, 400},
    {"a wrong expectation", "Expect: 200-ok\r\nContent-Length: 2\r\n", "{}" HIDDEN, 0, 417},
    {"chunks that end in a line feed", "Transfer-Encoding: chunked\r\n",
     "2\n{}\r\n0\r\n\r\n" HIDDEN, 0, 400},
    {"a chunk size of 0x2", "Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n" HIDDEN, 0,
     400},
    {"a chunk size with a sign", "Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n" HIDDEN,
     0, 400},
    {"a chunk size past 64 bits", "Transfer-Encoding: chunked\r\n",
     "10000000000000002\r\n{}\r\n0\r\n\r\n" HIDDEN, 0, 400},
    {"a chunk size of 60 bits", "Transfer-Encoding: chunked\r\n",
     "fffffffffffffff\r\n{}\r\n0\r\n\r\n" HIDDEN, 0, 413},
    {"a chunk without a size", "Transfer-Encoding: chunked\r\n", "\r\n{}\r\n0\r\n\r\n" HIDDEN, 0,
     400},
    {"a chunk longer than it says", "Transfer-Encoding: chunked\r\n",
     "2\r\n{}{}\r\n0\r\n\r\n" HIDDEN, 0, 400},
    {"a trailer that is no field", "Transfer-Encoding: chunked\r\n",
     "2\r\n{}\r\n0\r\nGET / HTTP/1.1\r\n\r\n" HIDDEN, 0, 400},
    {"a NUL in a chunk's line", "Transfer-Encoding: chunked\r\n", "2;\0\r\n{}\r\n0\r\n\r\n", 14,
     400},
};

static const char *const rubbish[] = {
    "\r\n\r\n",
    "GET\r\n\r\n",
    "GET /\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET\t/\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n",
    "GET / HTTP/1.10\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/11\r\nHost: localhost\r\n\r\n",
    "GET / http/1.1\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /% HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET http://elsewhere/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET //elsewhere/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost:80a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost@elsewhere\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost.elsewhere\r\n\r\n",
    "GET / HTTP/1.1\nHost: localhost\n\n",
    "\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n",
};

/* Refused, whatever follows, with one answer at most, and then the end. */
static void expect_refusal(const struct http_hostile *target, const char *name, const char *request,
                           size_t len, int status)
{
    struct obx_buf answer = {0};
    int got = http_raw_request(target->port, request, len, &answer);

    if (count_of(answer.data, "HTTP/1.1 ") > 1 || (got != 0 && got < 400) ||
        (status != 0 && got != status))
        fail_msg("%s: expected a refusal (%d), got %d: %.400s", name, status, got, answer.data);
    buf_fini(&answer);
}

static void try_trick(const struct http_hostile *target, const struct trick *trick)
{
    const size_t body_len = trick->body_len == 0 ? strlen(trick->body) : trick->body_len;
    char request[REQUEST_MAX];
    int len = snprintf(request, sizeof(request), "POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n",
                       target->post, target->fields, trick->fields);

    assert_true(len > 0 && (size_t)len + body_len < sizeof(request));
    memcpy(request + len, trick->body, body_len);
    expect_refusal(target, trick->name, request, (size_t)len + body_len, trick->status);
}

/* What grows without end: fields, a field, the target, an extension, trailers. */
static void try_endless(const struct http_hostile *target)
{
    static const struct {
        const char *begin, *more;
        int status;
    } endless[] = {
        {"GET / HTTP/1.1\r\nHost: localhost\r\n", "A: b\r\n", 431},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", "yyyyyyyy", 431},
        {"GET /", "yyyyyyyy", 431},
        {"GGGG", "GGGGGGGG", 431},
    };
    struct obx_buf text = {0};
    char begin[REQUEST_MAX];

    for (size_t i = 0; i < sizeof(endless) / sizeof(endless[0]); i++) {
        buf_reset(&text);
        assert_int_equal(buf_add_text(&text, endless[i].begin), OBX_OK);
        while (text.len < 100000)
            assert_int_equal(buf_add_text(&text, endless[i].more), OBX_OK);
        expect_refusal(target, endless[i].begin, text.data, text.len, endless[i].status);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(begin, sizeof(begin),
                 "POST %s HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n%s",
                 target->post, target->fields, i == 0 ? "2;" : "0\r\n");
        buf_reset(&text);
        assert_int_equal(buf_add_text(&text, begin), OBX_OK);
        while (text.len < 100000)
            assert_int_equal(buf_add_text(&text, i == 0 ? "eeee" : "A: b\r\n"), OBX_OK);
        expect_refusal(target, i == 0 ? "endless extension" : "endless trailers", text.data,
                       text.len, 400);
    }
    buf_fini(&text);
}

void http_hostile_smuggle(const struct http_hostile *target)
{
    static const char nul[] = "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n";

    for (size_t i = 0; i < sizeof(tricks) / sizeof(tricks[0]); i++)
        try_trick(target, &tricks[i]);
    for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++)
        expect_refusal(target, rubbish[i], rubbish[i], strlen(rubbish[i]), 0);
    expect_refusal(target, "a NUL in a field", nul, sizeof(nul) - 1, 400);
    try_endless(target);
}

/* ---------------------------------------------------------------- a seeded hand */

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static size_t honest(const struct http_hostile *target, uint32_t kind, char *out)
{
    static const char *const bodies[] = {
        "Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n"};
    int len;

    if (kind % 5 == 4)
        len = snprintf(out, REQUEST_MAX, "GET %s?a=%%20 HTTP/1.1\r\nHost: [::1]:80\r\n%s\r\n",
                       target->get, target->fields);
    else
        len = snprintf(out, REQUEST_MAX, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s",
                       target->post, target->fields, bodies[kind % 5]);
    return (size_t)len;
}

static size_t change(char *text, size_t len, uint32_t *seed)
{
    static const char spice[] = "\r\n :;,\t\0\x7f\x80%/?0123456789abcdefghHTPX";
    const size_t at = next_random(seed) % len;

    switch (next_random(seed) % 4) {
    case 0: /* another byte */
        text[at] = spice[next_random(seed) % (sizeof(spice) - 1)];
        return len;
    case 1: /* one byte less */
        memmove(text + at, text + at + 1, len - at - 1);
        return len - 1;
    case 2: /* one byte more */
        memmove(text + at + 1, text + at, len - at);
        text[at] = spice[next_random(seed) % (sizeof(spice) - 1)];
        return len + 1;
    default: /* some of it again */
        memmove(text + len, text + at, len - at);
        return len + (len - at);
    }
}

void http_hostile_mutate(const struct http_hostile *target, uint32_t seed, unsigned count)
{
    char text[REQUEST_MAX * 2];
    struct obx_buf answer = {0};

    seed = seed == 0 ? 1 : seed;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t begun = seed;
        size_t len = honest(target, next_random(&seed), text);

        for (uint32_t changes = 1 + next_random(&seed) % 3; changes > 0 && len < REQUEST_MAX / 2;
             changes--)
            len = change(text, len, &seed);
        (void)http_raw_request(target->port, text, len, &answer);
        if (answer.len > 0 && strncmp(answer.data, "HTTP/1.1 ", 9) != 0)
            fail_msg("seed %u: %.200s", (unsigned)begun, answer.data);
    }
    buf_fini(&answer);
}

/* ---------------------------------------------------------------- floods */

static void add_gets(const struct http_hostile *target, unsigned count, struct obx_buf *out)
{
    for (unsigned i = 1; i <= count; i++)
        assert_int_equal(buf_addf(out, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n",
                                  target->get, target->fields,
                                  i == count ? "Connection: close\r\n" : ""),
                         OBX_OK);
}

/* Sends without waiting and reads what comes meanwhile, so that neither side fills up. */
static void converse(int fd, const struct obx_buf *requests, struct obx_buf *answers)
{
    size_t sent = 0;

    for (;;) {
        struct pollfd peer = {.fd = fd, .events = POLLIN};
        char chunk[65536];
        ssize_t len;

        if (sent < requests->len)
            peer.events |= POLLOUT;
        if (poll(&peer, 1, 30000) <= 0)
            break;
        if ((peer.revents & POLLOUT) != 0) {
            len =
                send(fd, requests->data + sent, requests->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent += len > 0 ? (size_t)len : 0;
        }
        if ((peer.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            len = recv(fd, chunk, sizeof(chunk), 0);
            if (len <= 0)
                break;
            assert_int_equal(buf_add(answers, chunk, (size_t)len), OBX_OK);
        }
    }
    (void)close(fd);
}

void http_hostile_pipeline(const struct http_hostile *target, unsigned count)
{
    struct obx_buf requests = {0}, answers = {0};
    int deaf = dial(target);

    add_gets(target, count, &requests);
    (void)send(deaf, requests.data, requests.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    converse(dial(target), &requests, &answers);
    assert_int_equal(count_of(answers.data, "HTTP/1.1 200 "), count);
    http_raw_reset(deaf);
    buf_fini(&requests);
    buf_fini(&answers);
}

void http_hostile_abort(const struct http_hostile *target, uint32_t seed, unsigned count)
{
    char text[REQUEST_MAX];

    seed = seed == 0 ? 1 : seed;
    for (unsigned i = 0; i < count; i++) {
        const size_t len = honest(target, next_random(&seed), text);
        int fd = dial(target);

        send_all(fd, text, i % 3 == 0 ? len : next_random(&seed) % len);
        if (i % 3 == 0)
            (void)recv(fd, text, 1 + next_random(&seed) % 64, 0);
        http_raw_reset(fd);
    }
}

void http_hostile_crowd(const struct http_hostile *target, unsigned waves, unsigned wave_len)
{
    static const char *const begins[TURNS] = {"", "GET / HTTP/1.1\r\nHos", "P",
                                              "GET / HTTP/1.1\r\nHost: localhost\r\n"};
    int *fds = calloc((size_t)waves * wave_len, sizeof(*fds));

    assert_non_null(fds);
    for (unsigned wave = 0; wave < waves; wave++) {
        for (unsigned i = 0; i < wave_len; i++) {
            int fd = dial(target);

            send_all(fd, begins[i % TURNS], strlen(begins[i % TURNS]));
            fds[wave * wave_len + i] = fd;
        }
        assert_true(http_hostile_is_served(target));
    }
    for (unsigned i = 0; i < waves * wave_len; i++)
        http_raw_reset(fds[i]);
    free(fds);
}

bool http_hostile_drip(const struct http_hostile *target, const char *begin, char drip, unsigned ms)
{
    const uint64_t end_ms = clock_now_ms() + ms;
    struct pollfd peer = {.fd = dial(target), .events = POLLIN};
    bool is_closed = false;

    send_all(peer.fd, begin, strlen(begin));
    while (!is_closed && clock_now_ms() < end_ms)
        is_closed = send(peer.fd, &drip, 1, MSG_NOSIGNAL) < 0 || poll(&peer, 1, DRIP_MS) > 0;
    (void)close(peer.fd);
    return is_closed;
}
