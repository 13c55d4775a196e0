/*
 * Fuzz target of the half-message API as a peer meets it: the input is what a connection sends. The
 * front runs as in a relay, over a store whose database cannot be reached. Whatever comes, the
 * answer is HTTP or a closed connection, in time, nothing is said to have been done, and the next
 * connection is served.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "half/api/half_http.h"

enum { ANSWER_MS = 10000, ANSWER_MAX = 65536, SILENT_MS = 2000, MAX_BODY = 4096, STATUS_AT = 9 };

#define TOKEN "a-token-for-fuzzing"

static uint16_t start_front(void)
{
    static const char *const tokens[] = {TOKEN};
    static struct half_store *store; /* both live as long as the process */
    static struct half_http *front;
    const struct half_store_opts store_opts = {
        .db = {.host = "127.0.0.1", .port = 1, .user = "nobody", .connect_timeout_ms = 1000}};
    struct half_http_opts front_opts = {.tokens = tokens,
                                        .token_count = 1,
                                        .limits = {.body_bytes = MAX_BODY,
                                                   .head_ms = SILENT_MS,
                                                   .body_ms = SILENT_MS,
                                                   .idle_ms = SILENT_MS}};

    FUZZ_CHECK(half_store_create(&store_opts, &store, NULL) == OBX_OK);
    front_opts.store = store;
    FUZZ_CHECK(half_http_create(&front_opts, &front, NULL) == OBX_OK);
    return half_http_port(front);
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FUZZ_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* What comes back until the front closes. */
static size_t converse(int fd, const uint8_t *data, size_t size, char *answer)
{
    size_t sent = 0, got = 0;

    while (sent < size) {
        ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL);

        if (n <= 0)
            break; /* it has heard enough */
        sent += (size_t)n;
    }
    (void)shutdown(fd, SHUT_WR);
    while (got < ANSWER_MAX) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t n;

        FUZZ_CHECK(poll(&poll_fd, 1, ANSWER_MS) == 1);
        n = recv(fd, answer + got, ANSWER_MAX - got, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    answer[got] = '\0';
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint16_t port;
    static char answer[ANSWER_MAX + 1];
    size_t len;
    int fd;

    if (port == 0)
        port = start_front();
    fd = dial(port);
    len = converse(fd, data, size, answer);
    (void)close(fd);
    FUZZ_CHECK(len == 0 || strncmp(answer, "HTTP/", strlen("HTTP/")) == 0);
    FUZZ_CHECK(len <= STATUS_AT || answer[STATUS_AT] != '2');
    return 0;
}
