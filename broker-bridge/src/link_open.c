/*
 * Opens one connection: TCP, TLS and login, together within connect_timeout. The only code of the
 * bridge that waits. The name look-up before it is the resolver's, which has a limit of its own
 * (see resolv.conf). Called by link.c, and through it by everything else.
 */
#include <stdio.h>
#include <sys/time.h>

#include "amqp_errors.h"
#include "base/clock.h"
#include "link.h"

enum {
    FRAME_MAX = 131072,
    CHANNEL_MAX = 1,
    MS_PER_S = 1000,
    US_PER_MS = 1000,
    WHAT_MAX = 300, /* a host name of 255 and a port */
};

static struct timeval left_until(uint64_t due_ms)
{
    const int left = clock_left_ms(due_ms);

    return (struct timeval){.tv_sec = left / MS_PER_S,
                            .tv_usec = (suseconds_t)(left % MS_PER_S) * US_PER_MS};
}

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

static amqp_rpc_reply_t login(struct link *link)
{
    const struct options *o = &link->options;
    /* The broker keeps quiet about these unless they are announced; the library announces only the
     * first by itself. */
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
        text_entry("product", "oncebox"),
        text_entry("connection_name", o->connection_name != NULL ? o->connection_name : ""),
    };
    amqp_table_t properties = {.num_entries = o->connection_name != NULL ? 3 : 2,
                               .entries = entries};

    return amqp_login_with_properties(link->conn, o->vhost, CHANNEL_MAX, FRAME_MAX,
                                      (int)o->heartbeat_s, &properties, AMQP_SASL_METHOD_PLAIN,
                                      o->user, o->password);
}

static enum obx_code fail_open(const struct link *link, int status, const char *what,
                               struct obx_err *err)
{
    const char *reason = link->options.tls ? tls_reason(&link->tls, status) : NULL;

    if (reason == NULL)
        return amqp_fail_status(err, status, AMQP_CONNECTING, what);
    return obx_fail_sys(err, OBX_E_MQ_TLS, status, "%s: %s", what, reason);
}

static enum obx_code open_socket(struct link *link, const struct address *address, uint64_t due_ms,
                                 const char *what, struct obx_err *err)
{
    const struct timeval timeout = left_until(due_ms);
    amqp_socket_t *socket =
        link->options.tls ? amqp_ssl_socket_new(link->conn) : amqp_tcp_socket_new(link->conn);
    int status;

    if (socket == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    if (link->options.tls &&
        tls_prepare(&link->tls, socket, address->host, &link->options, err) != OBX_OK)
        return OBX_E_MQ_TLS;
    status = amqp_socket_open_noblock(socket, address->host, address->port, &timeout);
    return status == AMQP_STATUS_OK ? OBX_OK : fail_open(link, status, what, err);
}

/*
 * From here on the bridge keeps the heartbeats: the library sends them with a write that may wait
 * for ever, and in version 0.11 waits for ever when one is overdue at a publish.
 */
static enum obx_code take_over_heartbeats(struct link *link, const char *what, struct obx_err *err)
{
    const int heartbeat_s = amqp_get_heartbeat(link->conn);

    link->heartbeat_ms = (uint64_t)heartbeat_s * MS_PER_S;
    link->frame_max = (uint32_t)amqp_get_frame_max(link->conn);
    if (!amqp_release_buffers_ok(link->conn)) /* half a frame behind the login: tune would abort */
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "%s: unexpected data behind the login", what);
    if (amqp_tune_connection(link->conn, amqp_get_channel_max(link->conn), (int)link->frame_max,
                             0) != AMQP_STATUS_OK)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    return OBX_OK;
}

enum obx_code link_open(struct link *link, const struct address *address, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + link->options.connect_timeout_ms;
    char what[WHAT_MAX];
    struct timeval timeout;
    enum obx_code rc;

    (void)snprintf(what, sizeof(what), "%s:%u", address->host, (unsigned)address->port);
    link->conn = amqp_new_connection();
    if (link->conn == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    rc = open_socket(link, address, due_ms, what, err);
    if (rc != OBX_OK)
        return rc;
    timeout = left_until(due_ms);
    if (amqp_set_handshake_timeout(link->conn, &timeout) != AMQP_STATUS_OK)
        return obx_fail(err, OBX_E_INVALID, "%s: connect timeout", what);
    rc = amqp_fail_reply(err, login(link), AMQP_CONNECTING, what);
    return rc == OBX_OK ? take_over_heartbeats(link, what, err) : rc;
}
