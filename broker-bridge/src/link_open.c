/*
 * Opens one connection: TCP and TLS by the library, the login over link_io.c, together within
 * connect_timeout. The login is our own because the library's keeps and decodes whatever a stranger
 * sends before it knows who that is; see docs/adr/0011-frames-from-outside.md. The name look-up
 * before it is the resolver's, which has a limit of its own (see resolv.conf). Called by link.c,
 * and through it by everything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "amqp_errors.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "link.h"

enum {
    FRAME_MAX = 131072,
    FRAME_MIN = 4096, /* what AMQP lets nobody go below */
    CHANNEL_MAX = 1,
    MS_PER_S = 1000,
    US_PER_MS = 1000,
    WHAT_MAX = 300, /* a host name of 255 and a port */
};

static amqp_table_entry_t text_entry(const char *key, const char *text)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(text)}};
}

static amqp_table_entry_t true_entry(const char *key)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

static enum obx_code send_method(struct link *link, amqp_method_number_t id, void *method,
                                 struct obx_err *err)
{
    const enum obx_code rc = outbuf_method(&link->out, link->frame_max, 0, id, method);

    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "login");
}

/* The next method on channel 0, which has to be this one. */
static enum obx_code expect(struct link *link, uint64_t due_ms, amqp_method_number_t id,
                            void **method, struct obx_err *err)
{
    amqp_frame_t frame;
    const amqp_connection_close_t *close;
    enum obx_code rc = link_exchange(link, due_ms, &frame, err);

    if (rc != OBX_OK)
        return rc;
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.channel != 0)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "content during the login");
    close = frame.payload.method.decoded;
    if (frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD)
        return amqp_fail_close(err, close->reply_code, close->reply_text, AMQP_CONNECTING,
                               "refused");
    if (frame.payload.method.id != id || frame.payload.method.decoded == NULL)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x during the login",
                        (unsigned)frame.payload.method.id);
    *method = frame.payload.method.decoded;
    return OBX_OK;
}

/* Names in the list are separated by spaces. */
static bool offers_plain(amqp_bytes_t mechanisms)
{
    static const char plain[] = "PLAIN";
    const size_t len = sizeof(plain) - 1;
    const char *p = mechanisms.bytes;

    for (size_t at = 0; at + len <= mechanisms.len; at++) {
        if (memcmp(p + at, plain, len) == 0 && (at == 0 || p[at - 1] == ' ') &&
            (at + len == mechanisms.len || p[at + len] == ' '))
            return true;
    }
    return false;
}

static enum obx_code send_start_ok_with(struct link *link, amqp_connection_start_ok_t *start_ok,
                                        struct obx_err *err)
{
    const char *name = link->options.connection_name;
    /* The broker keeps quiet about these unless they are announced. */
    amqp_table_entry_t capabilities[] = {
        true_entry("authentication_failure_close"),
        true_entry("connection.blocked"),
        true_entry("consumer_cancel_notify"),
        true_entry("publisher_confirms"),
        true_entry("basic.nack"),
    };
    amqp_table_t capability_table = {.num_entries = sizeof(capabilities) / sizeof(capabilities[0]),
                                     .entries = capabilities};
    amqp_table_entry_t entries[] = {
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = capability_table}},
        text_entry("product", "rowpost"),
        text_entry("connection_name", name != NULL ? name : ""),
    };
    amqp_table_t table = {.num_entries = name != NULL ? 3 : 2, .entries = entries};

    start_ok->client_properties = table;
    return send_method(link, AMQP_CONNECTION_START_OK_METHOD, start_ok, err);
}

/* "\0user\0password", as PLAIN wants it. */
static enum obx_code send_start_ok(struct link *link, struct obx_err *err)
{
    const struct options *o = &link->options;
    const size_t user_len = strlen(o->user);
    const size_t password_len = strlen(o->password);
    char *response = obx_calloc(1, user_len + password_len + 3);
    amqp_connection_start_ok_t start_ok = {.mechanism = amqp_cstring_bytes("PLAIN"),
                                           .locale = amqp_cstring_bytes("en_US")};
    enum obx_code rc;

    if (response == NULL)
        return obx_fail(err, OBX_E_NOMEM, "login");
    memcpy(response + 1, o->user, user_len);
    memcpy(response + user_len + 2, o->password, password_len);
    start_ok.response = (amqp_bytes_t){.bytes = response, .len = user_len + password_len + 2};
    rc = send_start_ok_with(link, &start_ok, err);
    options_wipe(response, user_len + password_len + 2);
    obx_free(response);
    return rc;
}

static uint32_t lower(uint32_t ours, uint32_t theirs)
{
    return theirs != 0 && theirs < ours ? theirs : ours;
}

static enum obx_code tune(struct link *link, const amqp_connection_tune_t *offer,
                          struct obx_err *err)
{
    amqp_connection_tune_ok_t ok = {
        .channel_max = CHANNEL_MAX,
        .frame_max = lower(FRAME_MAX, offer->frame_max),
        .heartbeat = (uint16_t)lower(link->options.heartbeat_s, offer->heartbeat)};
    amqp_connection_open_t open = {.virtual_host = amqp_cstring_bytes(link->options.vhost)};
    enum obx_code rc;

    if (ok.frame_max < FRAME_MIN)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frames of at most %u bytes", ok.frame_max);
    rc = send_method(link, AMQP_CONNECTION_TUNE_OK_METHOD, &ok, err);
    if (rc == OBX_OK)
        rc = send_method(link, AMQP_CONNECTION_OPEN_METHOD, &open, err);
    link->frame_max = ok.frame_max;
    link->heartbeat_ms = (uint64_t)ok.heartbeat * MS_PER_S;
    return rc;
}

static enum obx_code login(struct link *link, uint64_t due_ms, struct obx_err *err)
{
    static const uint8_t header[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    const amqp_connection_start_t *start;
    void *method = NULL;
    enum obx_code rc;

    if (outbuf_reserve(&link->out, sizeof(header)) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "login");
    memcpy(link->out.data + link->out.end, header, sizeof(header));
    link->out.end += sizeof(header);
    rc = expect(link, due_ms, AMQP_CONNECTION_START_METHOD, &method, err);
    start = method;
    if (rc == OBX_OK && (start == NULL || !offers_plain(start->mechanisms)))
        rc = obx_fail(err, OBX_E_MQ_AUTH, "the broker does not offer PLAIN");
    if (rc == OBX_OK)
        rc = send_start_ok(link, err);
    if (rc == OBX_OK)
        rc = expect(link, due_ms, AMQP_CONNECTION_TUNE_METHOD, &method, err);
    if (rc == OBX_OK && method != NULL)
        rc = tune(link, method, err);
    if (rc == OBX_OK)
        rc = expect(link, due_ms, AMQP_CONNECTION_OPEN_OK_METHOD, &method, err);
    options_wipe((char *)link->out.data, link->out.cap); /* the password went through it */
    return rc;
}

static enum obx_code open_socket(struct link *link, const struct address *address, uint64_t due_ms,
                                 const char *what, struct obx_err *err)
{
    const int left_ms = clock_left_ms(due_ms);
    const struct timeval timeout = {.tv_sec = left_ms / MS_PER_S,
                                    .tv_usec = (suseconds_t)(left_ms % MS_PER_S) * US_PER_MS};
    amqp_socket_t *socket =
        link->options.tls ? amqp_ssl_socket_new(link->conn) : amqp_tcp_socket_new(link->conn);
    const char *reason;
    int status;
    int flags;

    if (socket == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    if (link->options.tls &&
        tls_prepare(&link->tls, socket, address->host, &link->options, err) != OBX_OK)
        return OBX_E_MQ_TLS;
    status = amqp_socket_open_noblock(socket, address->host, address->port, &timeout);
    if (status != AMQP_STATUS_OK) {
        reason = link->options.tls ? tls_reason(&link->tls, status) : NULL;
        return reason == NULL ? amqp_fail_status(err, status, AMQP_CONNECTING, what)
                              : obx_fail_sys(err, OBX_E_MQ_TLS, status, "%s: %s", what, reason);
    }
    flags = fcntl(amqp_get_sockfd(link->conn), F_GETFL);
    if (flags < 0 || fcntl(amqp_get_sockfd(link->conn), F_SETFL, flags | O_NONBLOCK) != 0)
        return obx_fail_sys(err, OBX_E_SYSTEM, errno, "%s: %s", what, strerror(errno));
    return OBX_OK;
}

/* What went wrong after the socket was open is a failure to connect, whatever it is called later.
 */
static enum obx_code fail_login(struct obx_err *err, const struct obx_err *why, const char *what)
{
    const char *own_words = obx_code_text(why->code); /* which may be those of another code now */
    const char *detail = why->text;
    enum obx_code code = why->code;

    if (why->sys == AMQP_STATUS_SSL_ERROR)
        code = OBX_E_MQ_TLS; /* with TLS 1.3 the server refuses our certificate only now */
    else if (code == OBX_E_MQ_GONE || code == OBX_E_TIMEOUT)
        code = OBX_E_MQ_CONNECT;

    if (strncmp(detail, own_words, strlen(own_words)) == 0 && detail[strlen(own_words)] == ':')
        detail += strlen(own_words) + 2;
    return obx_fail_sys(err, code, why->sys, "%s: %s", what, detail);
}

enum obx_code link_open(struct link *link, const struct address *address, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + link->options.connect_timeout_ms;
    char what[WHAT_MAX];
    struct obx_err why = {0};
    enum obx_code rc;

    (void)snprintf(what, sizeof(what), "%s:%u", address->host, (unsigned)address->port);
    link->frame_max = FRAME_MIN;
    link->conn = amqp_new_connection();
    if (link->conn == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    rc = open_socket(link, address, due_ms, what, err);
    if (rc != OBX_OK)
        return rc;
    rc = login(link, due_ms, &why);
    return rc == OBX_OK ? OBX_OK : fail_login(err, &why, what);
}
