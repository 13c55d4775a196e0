/*
 * A plain librabbitmq connection for tests; see broker.h. Called by the system tests of the bridge
 * and of what stands on it.
 */
#include "broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if OBX_RABBITMQ_C_HEADERS
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

enum {
    CHANNEL = 1,
    FRAME_MAX = 131072,
    ARGS_MAX = 8,
    COMMAND_MAX = 1024,
    DECIMAL = 10,
    RPC_TIMEOUT_S = 30,
};

struct broker_admin {
    amqp_connection_state_t conn;
};

bool broker_from_env(struct broker *broker)
{
    const char *port = getenv("OBX_TEST_AMQP_PORT");

    broker->host = getenv("OBX_TEST_AMQP_HOST");
    broker->user = getenv("OBX_TEST_AMQP_USER");
    broker->password = getenv("OBX_TEST_AMQP_PASSWORD");
    broker->vhost = getenv("OBX_TEST_AMQP_VHOST");
    if (port == NULL || broker->host == NULL || broker->user == NULL || broker->password == NULL ||
        broker->vhost == NULL)
        return false;
    broker->port = (int)strtol(port, NULL, DECIMAL);
    (void)snprintf(broker->address, sizeof(broker->address), "%s:%d", broker->host, broker->port);
    return true;
}

static void expect_ok(amqp_rpc_reply_t reply, const char *what)
{
    const amqp_channel_close_t *close = reply.reply.decoded;

    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        fail_msg("%s: %u %.*s", what, close->reply_code, (int)close->reply_text.len,
                 (const char *)close->reply_text.bytes);
    fail_msg("%s: %s", what, amqp_error_string2(reply.library_error));
}

static void expect_last_ok(struct broker_admin *admin, const char *what)
{
    expect_ok(amqp_get_rpc_reply(admin->conn), what);
}

struct broker_admin *broker_admin_open(const struct broker *broker)
{
    const struct timeval timeout = {.tv_sec = RPC_TIMEOUT_S};
    struct broker_admin *admin = calloc(1, sizeof(*admin));
    amqp_socket_t *socket;

    assert_non_null(admin);
    admin->conn = amqp_new_connection();
    assert_non_null(admin->conn);
    socket = amqp_tcp_socket_new(admin->conn);
    assert_non_null(socket);
    assert_int_equal(amqp_socket_open_noblock(socket, broker->host, broker->port, &timeout),
                     AMQP_STATUS_OK);
    assert_int_equal(amqp_set_rpc_timeout(admin->conn, &timeout), AMQP_STATUS_OK);
    expect_ok(amqp_login(admin->conn, broker->vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                         broker->user, broker->password),
              "login");
    (void)amqp_channel_open(admin->conn, CHANNEL);
    expect_last_ok(admin, "channel.open");
    return admin;
}

void broker_admin_close(struct broker_admin *admin)
{
    if (admin == NULL)
        return;
    (void)amqp_connection_close(admin->conn, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(admin->conn);
    free(admin);
}

void broker_delete_queue(struct broker_admin *admin, const char *queue)
{
    (void)amqp_queue_delete(admin->conn, CHANNEL, amqp_cstring_bytes(queue), 0, 0);
    expect_last_ok(admin, queue);
}

void broker_queue(struct broker_admin *admin, const char *queue, const struct broker_arg *args,
                  size_t arg_count)
{
    amqp_table_entry_t entries[ARGS_MAX];
    const amqp_table_t table = {.num_entries = (int)arg_count, .entries = entries};

    assert_true(arg_count <= ARGS_MAX);
    for (size_t i = 0; i < arg_count; i++) {
        entries[i].key = amqp_cstring_bytes(args[i].name);
        if (args[i].text != NULL) {
            entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
            entries[i].value.value.bytes = amqp_cstring_bytes(args[i].text);
        } else if (args[i].is_flag) {
            entries[i].value.kind = AMQP_FIELD_KIND_BOOLEAN;
            entries[i].value.value.boolean = args[i].number != 0;
        } else {
            entries[i].value.kind = AMQP_FIELD_KIND_I64;
            entries[i].value.value.i64 = args[i].number;
        }
    }
    broker_delete_queue(admin, queue);
    (void)amqp_queue_declare(admin->conn, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0, table);
    expect_last_ok(admin, queue);
}

void broker_delete_exchange(struct broker_admin *admin, const char *exchange)
{
    (void)amqp_exchange_delete(admin->conn, CHANNEL, amqp_cstring_bytes(exchange), 0);
    expect_last_ok(admin, exchange);
}

static void make_exchange(struct broker_admin *admin, const char *exchange, const char *type)
{
    broker_delete_exchange(admin, exchange);
    (void)amqp_exchange_declare(admin->conn, CHANNEL, amqp_cstring_bytes(exchange),
                                amqp_cstring_bytes(type), 0, 1, 0, 0, amqp_empty_table);
    expect_last_ok(admin, exchange);
}

void broker_exchange(struct broker_admin *admin, const char *exchange)
{
    make_exchange(admin, exchange, "direct");
}

void broker_topic_exchange(struct broker_admin *admin, const char *exchange)
{
    make_exchange(admin, exchange, "topic");
}

void broker_bind(struct broker_admin *admin, const char *queue, const char *exchange,
                 const char *key)
{
    (void)amqp_queue_bind(admin->conn, CHANNEL, amqp_cstring_bytes(queue),
                          amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), amqp_empty_table);
    expect_last_ok(admin, queue);
}

void broker_unbind(struct broker_admin *admin, const char *queue, const char *exchange,
                   const char *key)
{
    (void)amqp_queue_unbind(admin->conn, CHANNEL, amqp_cstring_bytes(queue),
                            amqp_cstring_bytes(exchange), amqp_cstring_bytes(key),
                            amqp_empty_table);
    expect_last_ok(admin, queue);
}

uint32_t broker_count(struct broker_admin *admin, const char *queue)
{
    const amqp_queue_declare_ok_t *ok = amqp_queue_declare(
        admin->conn, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);

    expect_last_ok(admin, queue);
    return ok->message_count;
}

void broker_purge(struct broker_admin *admin, const char *queue)
{
    (void)amqp_queue_purge(admin->conn, CHANNEL, amqp_cstring_bytes(queue));
    expect_last_ok(admin, queue);
}

void broker_put(struct broker_admin *admin, const char *queue, const char *id, const char *body)
{
    amqp_basic_properties_t properties = {._flags = 0};

    if (id != NULL) {
        properties._flags = AMQP_BASIC_MESSAGE_ID_FLAG;
        properties.message_id = amqp_cstring_bytes(id);
    }
    assert_int_equal(amqp_basic_publish(admin->conn, CHANNEL, amqp_empty_bytes,
                                        amqp_cstring_bytes(queue), 0, 0, &properties,
                                        amqp_cstring_bytes(body)),
                     AMQP_STATUS_OK);
}

void broker_put_header(struct broker_admin *admin, const char *queue, const char *name,
                       const char *value, const char *body)
{
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
    const amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_HEADERS_FLAG,
        .headers = {.num_entries = 1, .entries = &entry},
    };

    assert_int_equal(amqp_basic_publish(admin->conn, CHANNEL, amqp_empty_bytes,
                                        amqp_cstring_bytes(queue), 0, 0, &properties,
                                        amqp_cstring_bytes(body)),
                     AMQP_STATUS_OK);
}

static void copy_text(char *dst, size_t dst_size, amqp_bytes_t text)
{
    const size_t len = text.len < dst_size - 1 ? text.len : dst_size - 1;

    if (len > 0)
        memcpy(dst, text.bytes, len);
    dst[len] = '\0';
}

void broker_put_voids(struct broker_admin *admin, const char *queue, int count)
{
    amqp_field_value_t *values = calloc((size_t)count, sizeof(*values));
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("n")};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG};

    assert_non_null(values);
    for (int i = 0; i < count; i++)
        values[i].kind = AMQP_FIELD_KIND_VOID;
    entry.value = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_ARRAY,
                                       .value.array = {.num_entries = count, .entries = values}};
    properties.headers = (amqp_table_t){.num_entries = 1, .entries = &entry};
    assert_int_equal(amqp_basic_publish(admin->conn, CHANNEL, amqp_empty_bytes,
                                        amqp_cstring_bytes(queue), 0, 0, &properties,
                                        amqp_cstring_bytes("voids")),
                     AMQP_STATUS_OK);
    free(values);
}

void broker_put_nested(struct broker_admin *admin, const char *queue, unsigned depth)
{
    amqp_field_value_t *values = calloc(depth, sizeof(*values));
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("n")};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG};

    assert_non_null(values);
    for (unsigned i = 0; i < depth; i++)
        values[i] = (amqp_field_value_t){
            .kind = AMQP_FIELD_KIND_ARRAY,
            .value.array = {.num_entries = i > 0, .entries = i > 0 ? &values[i - 1] : NULL}};
    entry.value = values[depth - 1];
    properties.headers = (amqp_table_t){.num_entries = 1, .entries = &entry};
    assert_int_equal(amqp_basic_publish(admin->conn, CHANNEL, amqp_empty_bytes,
                                        amqp_cstring_bytes(queue), 0, 0, &properties,
                                        amqp_cstring_bytes("nested")),
                     AMQP_STATUS_OK);
    free(values);
}

static void copy_message(struct broker_message *out, const amqp_message_t *message)
{
    const amqp_basic_properties_t *p = &message->properties;

    memset(out, 0, sizeof(*out));
    if ((p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0)
        copy_text(out->id, sizeof(out->id), p->message_id);
    if ((p->_flags & AMQP_BASIC_TYPE_FLAG) != 0)
        copy_text(out->type, sizeof(out->type), p->type);
    if ((p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) != 0)
        copy_text(out->content_type, sizeof(out->content_type), p->content_type);
    if ((p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) != 0)
        out->delivery_mode = p->delivery_mode;
    if ((p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0)
        out->timestamp_s = p->timestamp;
    if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0)
        out->header_count = p->headers.num_entries;
    out->body_len = message->body.len;
    copy_text(out->body, sizeof(out->body), message->body);
}

bool broker_get(struct broker_admin *admin, const char *queue, struct broker_message *out)
{
    amqp_rpc_reply_t reply;
    amqp_message_t message;

    amqp_maybe_release_buffers(admin->conn);
    reply = amqp_basic_get(admin->conn, CHANNEL, amqp_cstring_bytes(queue), 1);
    expect_ok(reply, queue);
    if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD)
        return false;
    expect_ok(amqp_read_message(admin->conn, CHANNEL, &message, 0), queue);
    copy_message(out, &message);
    amqp_destroy_message(&message);
    return true;
}

void broker_settle(void)
{
    broker_servers("rabbitmqctl -q eval 'mnesia:dump_log(), mnesia:sync_log(), "
                   "[dets:sync(T) || T <- dets:all()].'");
}

void broker_servers(const char *arguments)
{
    const char *servers = getenv("OBX_TEST_SERVERS");
    char command[COMMAND_MAX];

    assert_non_null(servers);
    (void)snprintf(command, sizeof(command), "'%s' %s >/dev/null", servers, arguments);
    assert_int_equal(system(command), 0);
}

/* RabbitMQ 3 looks the limit up in its settings, RabbitMQ 4 in a term that it made of them at
 * start. */
void broker_max_message_size(unsigned bytes)
{
    char command[256];

    snprintf(command, sizeof(command),
             "rabbitmqctl -q eval 'application:set_env(rabbit, max_message_size, %u), "
             "persistent_term:put(max_message_size, %u).'",
             bytes, bytes);
    broker_servers(command);
}
