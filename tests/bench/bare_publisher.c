/*
 * The yardstick for publishing: librabbitmq and nothing else, with confirms and a window, as lean
 * as its interface allows. Prints "rate <messages per second>":
 *
 *     bare_publisher --queue Q --count 100000 --window 2000 --size 256
 *
 * or, with a rate, "p50_us <n>" and "p99_us <n>" of single confirms:
 *
 *     bare_publisher --queue Q --count 2000 --rate 200
 *
 * It fills the window, waits for a confirm, takes all others that have come with it, and fills up
 * again. Persistent messages with a message id; no returns, no recovery: any trouble ends it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish_opts.h"

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
    HEARTBEAT_S = 20,
    PERSISTENT = 2,
    HEADERS = 6,           /* of a relay's message without an ordering key */
    TIMESTAMP = 1767225600 /* some second */
};

struct bare {
    struct publish_opts opts;
    amqp_connection_state_t conn;
    amqp_bytes_t body;
    uint64_t published;
    uint64_t confirmed; /* how many; single acks may come in any order */
    uint64_t up_to;     /* greatest tag of a multiple ack */
    bool *is_single; /* per tag: confirmed by an ack of its own, for the count of a later multiple
                        one */
};

static void must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "bare_publisher: %s failed\n", what);
    exit(1);
}

static void must_reply(const struct bare *bare, const char *what)
{
    must(amqp_get_rpc_reply(bare->conn).reply_type == AMQP_RESPONSE_NORMAL, what);
}

static void open_connection(struct bare *bare)
{
    amqp_socket_t *socket;

    bare->conn = amqp_new_connection();
    must(bare->conn != NULL, "amqp_new_connection");
    socket = amqp_tcp_socket_new(bare->conn);
    must(socket != NULL, "amqp_tcp_socket_new");
    must(amqp_socket_open(socket, bare->opts.host, bare->opts.port) == AMQP_STATUS_OK, "connect");
    must(amqp_login(bare->conn, bare->opts.vhost, 0, FRAME_MAX, HEARTBEAT_S, AMQP_SASL_METHOD_PLAIN,
                    bare->opts.user, bare->opts.password)
                 .reply_type == AMQP_RESPONSE_NORMAL,
         "login");
    (void)amqp_channel_open(bare->conn, CHANNEL);
    must_reply(bare, "channel.open");
    (void)amqp_confirm_select(bare->conn, CHANNEL);
    must_reply(bare, "confirm.select");
}

/* What a relay gives a message besides its id: the other properties, and the CloudEvents headers.
 */
static void add_envelope(amqp_basic_properties_t *properties, amqp_table_entry_t headers[HEADERS],
                         uint64_t n)
{
    static const char *const texts[][2] = {{"cloudEvents_specversion", "1.0"},
                                           {"cloudEvents_id", NULL},
                                           {"cloudEvents_source", "/bench/outbox"},
                                           {"cloudEvents_type", "bench"},
                                           {"cloudEvents_time", "2026-01-01T00:00:00.000000Z"}};

    for (size_t i = 0; i + 1 < HEADERS; i++) {
        headers[i].key = amqp_cstring_bytes(texts[i][0]);
        headers[i].value.kind = AMQP_FIELD_KIND_UTF8;
        headers[i].value.value.bytes =
            texts[i][1] != NULL ? amqp_cstring_bytes(texts[i][1]) : properties->message_id;
    }
    headers[HEADERS - 1].key = amqp_cstring_bytes("x-obx-outbox-id");
    headers[HEADERS - 1].value.kind = AMQP_FIELD_KIND_I64;
    headers[HEADERS - 1].value.value.i64 = (int64_t)n;
    properties->_flags |= AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG |
                          AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG |
                          AMQP_BASIC_HEADERS_FLAG;
    properties->type = amqp_cstring_bytes("bench");
    properties->content_type = amqp_cstring_bytes("application/json");
    properties->app_id = amqp_cstring_bytes("rowpost");
    properties->timestamp = TIMESTAMP;
    properties->headers = (amqp_table_t){.num_entries = HEADERS, .entries = headers};
}

static void publish(struct bare *bare)
{
    char id[PUBLISH_ID_LEN + 1];
    amqp_table_entry_t headers[HEADERS];
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
        .delivery_mode = PERSISTENT,
        .message_id = {.len = PUBLISH_ID_LEN, .bytes = id},
    };
    const bool is_like_relay = bare->opts.is_like_relay != 0;

    publish_id(bare->published, id);
    if (is_like_relay)
        add_envelope(&properties, headers, bare->published);
    must(amqp_basic_publish(bare->conn, CHANNEL, amqp_cstring_bytes(bare->opts.exchange),
                            amqp_cstring_bytes(bare->opts.key), is_like_relay, 0, &properties,
                            bare->body) == AMQP_STATUS_OK,
         "amqp_basic_publish");
    bare->published++;
}

static void count_ack(struct bare *bare, const amqp_basic_ack_t *ack)
{
    must(ack->delivery_tag <= bare->published, "delivery tag");
    if (!ack->multiple) {
        bare->is_single[ack->delivery_tag] = true;
        bare->confirmed++;
        return;
    }
    for (; bare->up_to < ack->delivery_tag; bare->up_to++) {
        if (!bare->is_single[bare->up_to + 1])
            bare->confirmed++;
    }
}

static void read_frame(struct bare *bare)
{
    amqp_frame_t frame;

    must(amqp_simple_wait_frame(bare->conn, &frame) == AMQP_STATUS_OK, "amqp_simple_wait_frame");
    must(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_ACK_METHOD,
         "a confirm");
    count_ack(bare, frame.payload.method.decoded);
}

/* At least one, and whatever came in the same read. */
static void read_confirms(struct bare *bare)
{
    do
        read_frame(bare);
    while (amqp_frames_enqueued(bare->conn) || amqp_data_in_buffer(bare->conn));
    amqp_maybe_release_buffers(bare->conn);
}

static void run_rate(struct bare *bare)
{
    const uint64_t start_us = publish_now_us();

    while (bare->confirmed < bare->opts.count) {
        while (bare->published < bare->opts.count &&
               bare->published - bare->confirmed < bare->opts.window)
            publish(bare);
        read_confirms(bare);
    }
    publish_print_rate(&bare->opts, start_us);
}

static void run_latency(struct bare *bare)
{
    uint64_t *us = calloc(bare->opts.count, sizeof(*us));
    const uint64_t start_us = publish_now_us();

    must(us != NULL, "calloc");
    for (uint64_t n = 0; n < bare->opts.count; n++) {
        uint64_t sent_us;

        publish_wait_due(&bare->opts, start_us, n);
        sent_us = publish_now_us();
        publish(bare);
        while (bare->confirmed <= n)
            read_confirms(bare);
        us[n] = publish_now_us() - sent_us;
    }
    publish_print_latency(us, bare->opts.count);
    free(us);
}

int main(int argc, char **argv)
{
    struct bare bare = {.published = 0};

    publish_opts_parse(&bare.opts, argc, argv);
    bare.is_single = calloc(bare.opts.count + 1, sizeof(*bare.is_single));
    bare.body = amqp_bytes_malloc(bare.opts.body_len);
    must(bare.is_single != NULL && (bare.body.bytes != NULL || bare.opts.body_len == 0), "malloc");
    if (bare.opts.body_len > 0)
        memset(bare.body.bytes, 'x', bare.opts.body_len);
    open_connection(&bare);
    if (bare.opts.rate > 0)
        run_latency(&bare);
    else
        run_rate(&bare);
    (void)amqp_connection_close(bare.conn, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(bare.conn);
    amqp_bytes_free(bare.body);
    free(bare.is_single);
    return 0;
}
