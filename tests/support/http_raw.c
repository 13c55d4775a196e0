/* HTTP over a socket; see http_raw.h. */
#include "http_raw.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { WAIT_S = 30, REQUEST_MAX = 512 };

int http_raw_connect(uint16_t port)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval wait = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void start_text(struct obx_buf *buf)
{
    buf_reset(buf);
    if (buf_reserve(buf, 1) != OBX_OK)
        abort();
    buf->data[0] = '\0';
}

void http_raw_read_all(int fd, struct obx_buf *out)
{
    char chunk[4096];
    ssize_t len;

    start_text(out);
    while ((len = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
        if (buf_add(out, chunk, (size_t)len) != OBX_OK)
            abort();
    }
    (void)close(fd);
}

void http_raw_reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    (void)close(fd);
}

int http_raw_request(uint16_t port, const char *request, size_t len, struct obx_buf *answer)
{
    int fd = http_raw_connect(port);

    start_text(answer);
    if (fd < 0)
        return 0;
    /* A server may answer and close before it has read all of it: then its answer counts. */
    (void)!send(fd, request, len, MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    http_raw_read_all(fd, answer);
    return strncmp(answer->data, "HTTP/1.", 7) == 0 ? atoi(answer->data + 9) : 0;
}

int http_raw_get(uint16_t port, const char *path, struct obx_buf *body)
{
    char request[REQUEST_MAX];
    int len =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    int status = http_raw_request(port, request, (size_t)len, body);
    const char *start = strstr(body->data, "\r\n\r\n");
    struct obx_buf only = {0};

    start_text(&only);
    if (start != NULL && buf_add_text(&only, start + 4) != OBX_OK)
        abort();
    buf_fini(body);
    *body = only;
    return status;
}
