/*
 * A hostile database server; see hostile_db.h.
 */
#include "hostile_db.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEARD_MAX = 1 << 16,
    PACKET_MAX = 1 << 16,
    HEAD = 4,
    TLS_REQUEST_LEN = 32, /* the login packet's first part, alone: "begin TLS" */
    CAP_TLS = 0x0800,
    CAP_METHODS = 0x0008, /* of the upper half */
    ENDLESS_PACKET = 1 << 14,
    SALT_LEN = 20,
};

struct hostile_db {
    const struct hostile_plan *plan;
    int listener;
    int stop[2]; /* closing the one end ends the thread */
    uint16_t port;
    pthread_t thread;
    SSL_CTX *tls_ctx;
    char *heard;
    size_t heard_len;
    size_t asked_at; /* heard_len when a method was asked for last; 0: none was */
    /* The connection that is served. */
    int fd;
    SSL *tls;
    unsigned char seq;
};

/* False when the peer is gone or the test is over. */
static bool wait_readable(struct hostile_db *s, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};

    return poll(fds, 2, -1) > 0 && fds[1].revents == 0;
}

static bool read_some(struct hostile_db *s, unsigned char *buf, size_t len, size_t *got)
{
    ssize_t n = 0;

    if (s->tls == NULL || SSL_pending(s->tls) == 0) {
        if (!wait_readable(s, s->fd))
            return false;
    }
    n = s->tls == NULL ? recv(s->fd, buf, len, 0) : SSL_read(s->tls, buf, (int)len);
    if (n <= 0)
        return false;
    *got = (size_t)n;
    return true;
}

static bool read_whole(struct hostile_db *s, unsigned char *buf, size_t len)
{
    for (size_t at = 0, got = 0; at < len; at += got) {
        if (!read_some(s, buf + at, len - at, &got))
            return false;
    }
    return true;
}

/* One packet; its body stays in `heard`. */
static bool read_packet(struct hostile_db *s, size_t *len)
{
    unsigned char head[HEAD];
    unsigned char body[PACKET_MAX];

    if (!read_whole(s, head, HEAD))
        return false;
    *len = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16;
    s->seq = (unsigned char)(head[3] + 1);
    if (*len > sizeof(body) || !read_whole(s, body, *len))
        return false;
    for (size_t i = 0; i < *len && s->heard_len < HEARD_MAX; i++)
        s->heard[s->heard_len++] = (char)body[i];
    return true;
}

static bool write_raw(struct hostile_db *s, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        const ssize_t n =
            s->tls == NULL ? send(s->fd, p, len, MSG_NOSIGNAL) : SSL_write(s->tls, p, (int)len);

        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_packet(struct hostile_db *s, const void *body, size_t len)
{
    unsigned char packet[HEAD + ENDLESS_PACKET];

    if (len > ENDLESS_PACKET)
        return false;
    packet[0] = (unsigned char)len;
    packet[1] = (unsigned char)(len >> 8);
    packet[2] = (unsigned char)(len >> 16);
    packet[3] = s->seq++;
    memcpy(packet + HEAD, body, len);
    return write_raw(s, packet, HEAD + len);
}

static const char *method_of(const struct hostile_plan *plan)
{
    return plan->method == NULL || plan->login != HOSTILE_LOGIN_OK ? "mysql_native_password"
                                                                   : plan->method;
}

/* Protocol 10 with the capabilities of a MariaDB, but for what the plan leaves out. */
static bool greet(struct hostile_db *s)
{
    static const char head[] = "\x0a"
                               "5.5.5-10.11.9-MariaDB\0"
                               "\5\0\0\0"
                               "abcdefgh";
    const unsigned lower = s->plan->no_tls ? 0xf7fe : 0xf7fe | CAP_TLS;
    const unsigned upper = s->plan->no_methods ? 0x0001 : 0x0001 | CAP_METHODS;
    const char *method = method_of(s->plan);
    unsigned char body[256];
    size_t len = sizeof(head); /* with the NUL after the first part of the salt */

    memcpy(body, head, sizeof(head));
    body[len++] = (unsigned char)lower;
    body[len++] = (unsigned char)(lower >> 8);
    body[len++] = 45; /* utf8mb4_general_ci */
    body[len++] = 2;  /* autocommit */
    body[len++] = 0;
    body[len++] = (unsigned char)upper;
    body[len++] = (unsigned char)(upper >> 8);
    body[len++] = SALT_LEN + 1;
    memset(body + len, 0, 10);
    len += 10;
    memcpy(body + len, "ijklmnopqrst", 13);
    len += 13;
    if (!s->plan->no_methods) {
        memcpy(body + len, method, strlen(method) + 1);
        len += strlen(method) + 1;
    }
    s->seq = 0;
    return write_packet(s, body, len);
}

static bool write_ok(struct hostile_db *s)
{
    return write_packet(s, "\0\0\0\2\0\0\0", 7);
}

static bool begin_tls(struct hostile_db *s)
{
    s->tls = SSL_new(s->tls_ctx);
    return s->tls != NULL && SSL_set_fd(s->tls, s->fd) == 1 && SSL_accept(s->tls) == 1;
}

static bool read_login(struct hostile_db *s)
{
    size_t len = 0;

    if (!read_packet(s, &len))
        return false;
    if (len != TLS_REQUEST_LEN)
        return true;
    return begin_tls(s) && read_packet(s, &len);
}

static bool ask_for(struct hostile_db *s, const char *method)
{
    unsigned char body[128];
    const size_t len = strlen(method) + 1;

    s->asked_at = s->heard_len;
    body[0] = 254;
    memcpy(body + 1, method, len);
    memcpy(body + 1 + len, "uvwxyzabcdefghijklmn", SALT_LEN + 1);
    return write_packet(s, body, 1 + len + SALT_LEN + 1);
}

/* A public key of ours for those that would wrap the password in one. */
static bool send_key(struct hostile_db *s)
{
    static const char key[] = "\1-----BEGIN PUBLIC KEY-----\n"
                              "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK9JEDjPrfvaMmQPNOrr/xgPHPsmVfBP\n"
                              "VOX5SwlUMc0NIaRUQjvRgmBdrNiyhoVUEYWJCEFYzUDRSzhPDPzyuZMCAwEAAQ==\n"
                              "-----END PUBLIC KEY-----\n";

    return write_packet(s, key, sizeof(key) - 1);
}

/* Whatever the method says next, go on asking: "full authentication", the key, the end. */
static bool press(struct hostile_db *s)
{
    size_t len = 0;

    return read_packet(s, &len) && write_packet(s, "\1\4", 2) && read_packet(s, &len) &&
           send_key(s) && read_packet(s, &len) && write_ok(s);
}

static bool run_login(struct hostile_db *s)
{
    size_t len = 0;

    switch (s->plan->login) {
    case HOSTILE_LOGIN_OK:
        return write_ok(s);
    case HOSTILE_SWITCH:
        return ask_for(s, s->plan->method) && press(s);
    case HOSTILE_SWITCH_TWICE:
        return ask_for(s, "mysql_native_password") && read_packet(s, &len) &&
               ask_for(s, s->plan->method) && press(s);
    case HOSTILE_SWITCH_OLD:
        s->asked_at = s->heard_len;
        return write_packet(s, "\xfe", 1) && press(s);
    case HOSTILE_LOGIN_BYTES:
        (void)write_raw(s, s->plan->bytes, s->plan->len);
        return false;
    case HOSTILE_GREETING:
    case HOSTILE_SILENT_AT_ONCE:
    case HOSTILE_SILENT_LOGIN:
        break;
    }
    (void)wait_readable(s, s->stop[0]);
    return false;
}

static void send_endless(struct hostile_db *s)
{
    static const char body[ENDLESS_PACKET] = {'\xfa'};

    while (write_packet(s, body, sizeof(body))) {
    }
}

/* What a client gives away for the asking comes as packets until an empty one. */
static bool ask_file(struct hostile_db *s)
{
    unsigned char body[128] = {251};
    size_t len = 0;

    memcpy(body + 1, s->plan->bytes, s->plan->len);
    if (!write_packet(s, body, 1 + s->plan->len))
        return false;
    do {
        if (!read_packet(s, &len))
            return false;
    } while (len > 0);
    return write_ok(s);
}

static bool answer(struct hostile_db *s, unsigned count)
{
    if (count <= s->plan->after)
        return write_ok(s);
    switch (s->plan->query) {
    case HOSTILE_QUERY_OK:
        return write_ok(s);
    case HOSTILE_QUERY_BYTES:
        (void)write_raw(s, s->plan->bytes, s->plan->len);
        return false;
    case HOSTILE_QUERY_FILE:
        return ask_file(s);
    case HOSTILE_QUERY_ENDLESS:
        send_endless(s);
        return false;
    case HOSTILE_QUERY_SILENT:
        (void)wait_readable(s, s->stop[0]);
        return false;
    case HOSTILE_QUERY_CLOSE:
        break;
    }
    return false;
}

static void serve(struct hostile_db *s)
{
    size_t len = 0;

    if (s->plan->login == HOSTILE_SILENT_AT_ONCE) {
        (void)wait_readable(s, s->stop[0]);
        return;
    }
    if (s->plan->login == HOSTILE_GREETING) {
        (void)write_raw(s, s->plan->bytes, s->plan->len);
        return;
    }
    if (!greet(s) || !read_login(s) || !run_login(s))
        return;
    for (unsigned count = 1; read_packet(s, &len) && answer(s, count); count++) {
    }
}

static void *run(void *arg)
{
    struct hostile_db *s = arg;

    while (wait_readable(s, s->listener)) {
        s->fd = accept(s->listener, NULL, NULL);
        if (s->fd < 0)
            continue;
        serve(s);
        SSL_free(s->tls);
        s->tls = NULL;
        (void)shutdown(s->fd, SHUT_RDWR);
        close(s->fd);
    }
    return NULL;
}

static bool listen_on(struct hostile_db *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t len = sizeof(address);

    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, len) != 0 ||
        listen(s->listener, 8) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&address, &len) != 0)
        return false;
    s->port = ntohs(address.sin_port);
    return true;
}

static bool prepare_tls(struct hostile_db *s)
{
    s->tls_ctx = SSL_CTX_new(TLS_server_method());
    if (s->tls_ctx == NULL)
        return false;
    return s->plan->cert_file == NULL ||
           (SSL_CTX_use_certificate_file(s->tls_ctx, s->plan->cert_file, SSL_FILETYPE_PEM) == 1 &&
            SSL_CTX_use_PrivateKey_file(s->tls_ctx, s->plan->key_file, SSL_FILETYPE_PEM) == 1);
}

struct hostile_db *hostile_db_create(const struct hostile_plan *plan)
{
    struct hostile_db *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return NULL;
    s->plan = plan;
    s->listener = -1;
    s->stop[0] = -1;
    s->stop[1] = -1;
    s->heard = calloc(1, HEARD_MAX);
    if (s->heard != NULL && pipe(s->stop) == 0 && prepare_tls(s) && listen_on(s) &&
        pthread_create(&s->thread, NULL, run, s) == 0)
        return s;
    free(s->heard);
    SSL_CTX_free(s->tls_ctx);
    if (s->listener >= 0)
        close(s->listener);
    free(s);
    return NULL;
}

uint16_t hostile_db_port(const struct hostile_db *server)
{
    return server->port;
}

void hostile_db_stop(struct hostile_db *server)
{
    if (server == NULL || server->stop[1] < 0)
        return;
    close(server->stop[1]);
    server->stop[1] = -1;
    pthread_join(server->thread, NULL);
}

void hostile_db_destroy(struct hostile_db *server)
{
    if (server == NULL)
        return;
    hostile_db_stop(server);
    close(server->stop[0]);
    close(server->listener);
    SSL_CTX_free(server->tls_ctx);
    free(server->heard);
    free(server);
}

bool hostile_db_heard(const struct hostile_db *server, const void *bytes, size_t len)
{
    for (size_t i = 0; i + len <= server->heard_len; i++) {
        if (memcmp(server->heard + i, bytes, len) == 0)
            return true;
    }
    return false;
}

size_t hostile_db_answered(const struct hostile_db *server)
{
    size_t count = 0;

    for (size_t i = server->asked_at; server->asked_at > 0 && i < server->heard_len; i++)
        count += server->heard[i] != 0;
    return count;
}

size_t hostile_db_heard_len(const struct hostile_db *server)
{
    return server->heard_len;
}
