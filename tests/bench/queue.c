/*
 * A quorum queue for the benchmarks, bound to the relay's exchange, and a look at how many messages
 * it holds. Plain librabbitmq: the yardsticks do not rest on the code under test. The broker comes
 * from OBX_TEST_AMQP_... The exchange is a direct one, as the default exchange is that the bare
 * publisher sends to.
 *
 *     bench_queue fresh QUEUE EXCHANGE KEY   deletes it if it is there, and makes it again, empty
 *     bench_queue delete QUEUE
 *     bench_queue depth QUEUE                prints the number of messages ready
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#if OBX_RABBITMQ_C_HEADERS
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

enum { CHANNEL = 1, FRAME_MAX = 131072, TIMEOUT_S = 60, USAGE = 2, DECIMAL = 10 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_queue: %s\n", what);
    exit(1);
}

static const char *need_env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        die("the OBX_TEST_AMQP_... variables are not set");
    return value;
}

static void check(amqp_connection_state_t conn, const char *what)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(conn);
    const amqp_channel_close_t *why = reply.reply.decoded;

    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
        fprintf(stderr, "bench_queue: %.*s\n", (int)why->reply_text.len,
                (const char *)why->reply_text.bytes);
    die(what);
}

static amqp_connection_state_t open_connection(void)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    amqp_connection_state_t conn = amqp_new_connection();
    amqp_socket_t *socket = conn != NULL ? amqp_tcp_socket_new(conn) : NULL;
    int port = (int)strtol(need_env("OBX_TEST_AMQP_PORT"), NULL, DECIMAL);

    if (socket == NULL || amqp_socket_open_noblock(socket, need_env("OBX_TEST_AMQP_HOST"), port,
                                                   &timeout) != AMQP_STATUS_OK)
        die("cannot connect");
    amqp_set_rpc_timeout(conn, &timeout);
    if (amqp_login(conn, need_env("OBX_TEST_AMQP_VHOST"), 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                   need_env("OBX_TEST_AMQP_USER"), need_env("OBX_TEST_AMQP_PASSWORD"))
            .reply_type != AMQP_RESPONSE_NORMAL)
        die("cannot log in");
    amqp_channel_open(conn, CHANNEL);
    check(conn, "channel");
    return conn;
}

static void delete_queue(amqp_connection_state_t conn, const char *queue)
{
    amqp_queue_delete(conn, CHANNEL, amqp_cstring_bytes(queue), 0, 0);
    check(conn, "queue.delete");
}

static void make_queue(amqp_connection_state_t conn, const char *queue, const char *exchange,
                       const char *key)
{
    amqp_table_entry_t type = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("quorum")}};
    amqp_table_t args = {.num_entries = 1, .entries = &type};

    amqp_exchange_delete(conn, CHANNEL, amqp_cstring_bytes(exchange), 0);
    check(conn, "exchange.delete");
    amqp_exchange_declare(conn, CHANNEL, amqp_cstring_bytes(exchange), amqp_cstring_bytes("direct"),
                          0, 1, 0, 0, amqp_empty_table);
    check(conn, "exchange.declare");
    amqp_queue_declare(conn, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0, args);
    check(conn, "queue.declare");
    amqp_queue_bind(conn, CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                    amqp_cstring_bytes(key), amqp_empty_table);
    check(conn, "queue.bind");
}

static void print_depth(amqp_connection_state_t conn, const char *queue)
{
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(conn, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);

    check(conn, "queue.declare");
    printf("%" PRIu32 "\n", ok->message_count);
}

int main(int argc, char **argv)
{
    amqp_connection_state_t conn = NULL;

    if (argc < 3) {
        fprintf(stderr, "usage: bench_queue fresh|delete|depth QUEUE [EXCHANGE ROUTING_KEY]\n");
        return USAGE;
    }
    conn = open_connection();
    if (strcmp(argv[1], "depth") == 0) {
        print_depth(conn, argv[2]);
    } else {
        delete_queue(conn, argv[2]);
        if (strcmp(argv[1], "fresh") == 0 && argc == 5)
            make_queue(conn, argv[2], argv[3], argv[4]);
    }
    amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(conn);
    return 0;
}
