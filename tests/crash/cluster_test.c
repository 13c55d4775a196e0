/*
 * What the relay relies on of a RabbitMQ cluster, asked of three real nodes with librabbitmq alone:
 *
 * - a message that no queue takes comes back (basic.return) before it is acked, also when the
 *   leader of
 *   the quorum queue beside it changes, when acks are coalesced, when a follower or the connected
 *   node
 *   goes (the relay takes an ack without a return for "routed");
 * - what was acked and not returned is in the queue, whichever node led it then (P1).
 *
 * Every other message is unroutable. OBX_TEST_SEED is not needed: what happens when is the
 * machine's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#if OBX_RABBITMQ_C_HEADERS
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

#include "process.h"
#include "wait.h"

#define QUEUE "rowpost-cluster"

enum {
    NODES = 3,
    CHANNEL = 1,
    IDS_MAX = 400 * 1000,
    WINDOW = 50,    /* enough for multiple acks, few enough that the queue stays small */
    PROGRESS = 400, /* acks after each deed */
    PROGRESS_MS = 60 * 1000,
    PAUSE_MS = 1500,
    COMMAND_MAX = 512,
    FRAME_MAX = 131072,
    HEARTBEAT_S = 5,
    PERSISTENT = 2,
    MS_PER_S = 1000,
    US_PER_MS = 1000
};

enum fate { FATE_NONE, FATE_SENT, FATE_RETURNED, FATE_ACKED, FATE_UNKNOWN };

struct stage {
    unsigned ports[NODES + 1]; /* by node, from 1 */
    amqp_connection_state_t conn;
    unsigned node;      /* that we are connected to */
    uint64_t first_id;  /* of the connection: delivery tag 1 */
    uint64_t next_id;   /* odd ids are unroutable */
    uint64_t oldest_id; /* all before it have their fate */
    uint64_t acks, returns, coalesced, connections;
    uint8_t fate[IDS_MAX];
};

/* ---------------------------------------------------------------- the cluster */

static void cluster(const char *arguments, char *out, size_t size)
{
    char command[COMMAND_MAX];
    FILE *pipe = NULL;
    size_t len;

    snprintf(command, sizeof(command), "'%s/tests/support/cluster' %s", CLUSTER_SOURCE_DIR,
             arguments);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    len = out == NULL ? 0 : fread(out, 1, size - 1, pipe);
    if (out != NULL)
        out[len] = '\0';
    else
        while (fgetc(pipe) != EOF)
            continue;
    if (pclose(pipe) != 0)
        fail_msg("cluster %s failed", arguments);
}

static void node_command(const char *verb, unsigned node)
{
    char arguments[64];

    print_message("%s node %u\n", verb, node);
    snprintf(arguments, sizeof(arguments), "%s %u", verb, node);
    cluster(arguments, NULL, 0);
}

static unsigned leader(void)
{
    char text[16];

    cluster("leader " QUEUE, text, sizeof(text));
    return (unsigned)atoi(text);
}

static void read_ports(struct stage *stage)
{
    char text[COMMAND_MAX];

    cluster("env", text, sizeof(text));
    for (unsigned node = 1; node <= NODES; node++) {
        char name[64];
        const char *at = NULL;

        snprintf(name, sizeof(name), "OBX_TEST_CLUSTER_PORT_%u=", node);
        at = strstr(text, name);
        assert_non_null(at);
        stage->ports[node] = (unsigned)atoi(at + strlen(name));
    }
}

static const char *password(void)
{
    static char text[COMMAND_MAX];
    char *at = NULL;

    cluster("env", text, sizeof(text));
    at = strstr(text, "OBX_TEST_CLUSTER_PASSWORD=");
    assert_non_null(at);
    at += strlen("OBX_TEST_CLUSTER_PASSWORD=");
    at[strcspn(at, "\n")] = '\0';
    return at;
}

/* ---------------------------------------------------------------- the connection */

static bool is_good(amqp_connection_state_t conn)
{
    return amqp_get_rpc_reply(conn).reply_type == AMQP_RESPONSE_NORMAL;
}

static bool connect_to(struct stage *stage, unsigned node)
{
    struct timeval patience = {.tv_sec = 5};
    amqp_socket_t *sock = NULL;
    bool is_open = false;

    stage->conn = amqp_new_connection();
    assert_non_null(stage->conn);
    sock = amqp_tcp_socket_new(stage->conn);
    assert_non_null(sock);
    (void)amqp_set_handshake_timeout(stage->conn, &patience);
    (void)amqp_set_rpc_timeout(stage->conn, &patience);
    if (amqp_socket_open_noblock(sock, "127.0.0.1", (int)stage->ports[node], &patience) ==
            AMQP_STATUS_OK &&
        amqp_login(stage->conn, "/", 0, FRAME_MAX, HEARTBEAT_S, AMQP_SASL_METHOD_PLAIN, "obx",
                   password())
                .reply_type == AMQP_RESPONSE_NORMAL) {
        (void)amqp_channel_open(stage->conn, CHANNEL);
        is_open = is_good(stage->conn);
    }
    if (is_open) {
        stage->node = node;
        return true;
    }
    (void)amqp_destroy_connection(stage->conn);
    stage->conn = NULL;
    return false;
}

/* What was in flight on the connection that is gone may have been taken or not. */
static void hang_up(struct stage *stage)
{
    for (; stage->oldest_id < stage->next_id; stage->oldest_id++)
        if (stage->fate[stage->oldest_id] == FATE_SENT ||
            stage->fate[stage->oldest_id] == FATE_RETURNED)
            stage->fate[stage->oldest_id] = FATE_UNKNOWN;
    if (stage->conn != NULL)
        (void)amqp_destroy_connection(stage->conn);
    stage->conn = NULL;
}

static void connect_to_any(struct stage *stage)
{
    const int64_t end_ms = wait_now_ms() + PROGRESS_MS;

    for (unsigned node = stage->node;; node = node % NODES + 1) {
        if (connect_to(stage, node)) {
            (void)amqp_confirm_select(stage->conn, CHANNEL);
            if (is_good(stage->conn))
                break;
            hang_up(stage);
        }
        if (wait_now_ms() > end_ms)
            fail_msg("no node takes a connection");
    }
    stage->first_id = stage->next_id;
    stage->connections++;
}

/* ---------------------------------------------------------------- publishing, returns, acks */

static bool publish_one(struct stage *stage)
{
    const uint64_t id = stage->next_id;
    char text[24];
    amqp_basic_properties_t props = {._flags =
                                         AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
                                     .delivery_mode = PERSISTENT};

    assert_true(id < IDS_MAX);
    snprintf(text, sizeof(text), "%" PRIu64, id);
    props.message_id = amqp_cstring_bytes(text);
    stage->fate[id] = FATE_SENT;
    stage->next_id++;
    return amqp_basic_publish(stage->conn, CHANNEL, amqp_empty_bytes,
                              amqp_cstring_bytes(id % 2 == 0 ? QUEUE : "nobody"), 1, 0, &props,
                              amqp_cstring_bytes(text)) == AMQP_STATUS_OK;
}

static void settle(struct stage *stage, uint64_t id)
{
    if (stage->fate[id] == FATE_ACKED || (stage->fate[id] == FATE_RETURNED && id % 2 == 0))
        fail_msg("message %" PRIu64 " was settled twice, or was returned though a queue takes it",
                 id);
    if (id % 2 == 1 && stage->fate[id] != FATE_RETURNED)
        fail_msg("unroutable message %" PRIu64 " was acked before it was returned", id);
    if (id % 2 == 0)
        stage->fate[id] = FATE_ACKED;
    stage->acks++;
}

/* Tags of the connection, in order; a multiple ack settles all up to its own. */
static void take_ack(struct stage *stage, uint64_t tag, bool is_multiple)
{
    const uint64_t id = stage->first_id + tag - 1;

    stage->coalesced += is_multiple;
    for (uint64_t i = is_multiple ? stage->oldest_id : id; i <= id; i++)
        if (stage->fate[i] == FATE_SENT || (i % 2 == 1 && stage->fate[i] == FATE_RETURNED)) {
            settle(stage, i);
            if (i % 2 == 1)
                stage->fate[i] = FATE_ACKED;
        }
    while (stage->oldest_id < stage->next_id && (stage->fate[stage->oldest_id] == FATE_ACKED ||
                                                 stage->fate[stage->oldest_id] == FATE_UNKNOWN))
        stage->oldest_id++;
}

static void take_nack(struct stage *stage, uint64_t tag, bool is_multiple)
{
    const uint64_t id = stage->first_id + tag - 1;

    for (uint64_t i = is_multiple ? stage->oldest_id : id; i <= id; i++)
        if (stage->fate[i] == FATE_SENT || stage->fate[i] == FATE_RETURNED)
            stage->fate[i] = FATE_UNKNOWN;
}

/* Its body, which no NUL ends. */
static uint64_t id_in(amqp_bytes_t body)
{
    char text[24];

    assert_true(body.len < sizeof(text));
    memcpy(text, body.bytes, body.len);
    text[body.len] = '\0';
    return strtoull(text, NULL, 10);
}

static bool take_return(struct stage *stage)
{
    amqp_message_t message;
    uint64_t id;

    if (amqp_read_message(stage->conn, CHANNEL, &message, 0).reply_type != AMQP_RESPONSE_NORMAL)
        return false;
    id = id_in(message.body);
    amqp_destroy_message(&message);
    if (id % 2 == 0)
        fail_msg("message %" PRIu64 " came back though a queue takes it", id);
    assert_int_equal(stage->fate[id], FATE_SENT);
    stage->fate[id] = FATE_RETURNED;
    stage->returns++;
    return true;
}

/* One frame, if one comes soon. False: the connection is gone. */
static bool take_frame(struct stage *stage)
{
    struct timeval soon = {.tv_usec = 2 * US_PER_MS};
    amqp_frame_t frame;
    int rc = amqp_simple_wait_frame_noblock(stage->conn, &frame, &soon);

    if (rc == AMQP_STATUS_TIMEOUT)
        return true;
    if (rc != AMQP_STATUS_OK || frame.frame_type != AMQP_FRAME_METHOD)
        return false;
    amqp_maybe_release_buffers(stage->conn);
    switch (frame.payload.method.id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;

        take_ack(stage, ack->delivery_tag, ack->multiple);
        return true;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = frame.payload.method.decoded;

        take_nack(stage, nack->delivery_tag, nack->multiple);
        return true;
    }
    case AMQP_BASIC_RETURN_METHOD:
        return take_return(stage);
    default:
        return false;
    }
}

static void turn(struct stage *stage)
{
    bool is_alive = true;

    if (stage->conn == NULL)
        connect_to_any(stage);
    while (is_alive && stage->next_id - stage->oldest_id < WINDOW)
        is_alive = publish_one(stage);
    if (!is_alive || !take_frame(stage))
        hang_up(stage);
}

static void publish_until_progress(struct stage *stage)
{
    const uint64_t goal = stage->acks + PROGRESS;
    const int64_t end_ms = wait_now_ms() + PROGRESS_MS;

    while (stage->acks < goal) {
        turn(stage);
        if (wait_now_ms() > end_ms)
            fail_msg("no progress: %" PRIu64 " acks", stage->acks);
    }
}

/* Publishes while a command runs on the side. */
static void publish_during(struct stage *stage, const char *verb, unsigned node)
{
    char path[COMMAND_MAX], number[8];
    const char *const argv[] = {path, verb, number, NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = "/dev/null"};
    struct proc *proc = NULL;

    print_message("%s node %u, connected to %u\n", verb, node, stage->node);
    snprintf(path, sizeof(path), "%s/tests/support/cluster", CLUSTER_SOURCE_DIR);
    snprintf(number, sizeof(number), "%u", node);
    proc = proc_start(&opts);
    assert_non_null(proc);
    while (proc_is_alive(proc))
        turn(stage);
    proc_destroy(proc);
}

/* ---------------------------------------------------------------- the play */

static void declare(struct stage *stage, unsigned node)
{
    amqp_table_entry_t entries[] = {
        {.key = amqp_cstring_bytes("x-queue-type"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("quorum")}}};
    const amqp_table_t arguments = {1, entries};

    assert_true(connect_to(stage, node));
    (void)amqp_queue_declare(stage->conn, CHANNEL, amqp_cstring_bytes(QUEUE), 0, 1, 0, 0,
                             arguments);
    assert_true(is_good(stage->conn));
    hang_up(stage);
}

static void fetch_all(struct stage *stage, bool *is_there)
{
    struct timeval patience = {.tv_sec = 3}; /* without a message: the queue is empty */
    amqp_envelope_t envelope;

    connect_to_any(stage);
    (void)amqp_basic_consume(stage->conn, CHANNEL, amqp_cstring_bytes(QUEUE), amqp_empty_bytes, 0,
                             1, 0, amqp_empty_table);
    assert_true(is_good(stage->conn));
    for (;;) {
        amqp_rpc_reply_t reply;

        amqp_maybe_release_buffers(stage->conn);
        reply = amqp_consume_message(stage->conn, &envelope, &patience, 0);
        if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
            reply.library_error == AMQP_STATUS_TIMEOUT)
            break;
        assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
        is_there[id_in(envelope.message.body)] = true;
        amqp_destroy_envelope(&envelope);
    }
    hang_up(stage);
}

static void returns_come_before_acks(void **state)
{
    static struct stage stage;
    static bool is_there[IDS_MAX];
    unsigned first_leader = 2;

    (void)state;
    memset(&stage, 0, sizeof(stage));
    read_ports(&stage);
    declare(&stage, first_leader);
    stage.node = 1;
    publish_until_progress(&stage);

    /* The leader dies and comes back as a follower. */
    publish_during(&stage, "kill", leader());
    publish_until_progress(&stage);
    for (unsigned node = 1; node <= NODES; node++)
        publish_during(&stage, "up", node);
    publish_until_progress(&stage);
    /* It stands still for a while: the others may choose another one. */
    first_leader = leader();
    publish_during(&stage, "pause", first_leader);
    for (const int64_t end_ms = wait_now_ms() + PAUSE_MS; wait_now_ms() < end_ms;)
        turn(&stage);
    node_command("resume", first_leader);
    publish_until_progress(&stage);
    /* The node that we are connected to goes. */
    publish_during(&stage, "kill", stage.node);
    publish_until_progress(&stage);
    for (unsigned node = 1; node <= NODES; node++)
        node_command("up", node);
    publish_until_progress(&stage);

    hang_up(&stage);
    fetch_all(&stage, is_there);
    for (uint64_t id = 0; id < stage.next_id; id += 2)
        if (stage.fate[id] == FATE_ACKED && !is_there[id])
            fail_msg("message %" PRIu64 " was acked and is lost", id);
    print_message("%" PRIu64 " messages, %" PRIu64 " acks (%" PRIu64 " multiple), %" PRIu64
                  " returns, %" PRIu64 " connections\n",
                  stage.next_id, stage.acks, stage.coalesced, stage.returns, stage.connections);
    assert_true(stage.returns > PROGRESS && stage.coalesced > 0 && stage.connections > 1);
}

static int start_cluster(void **state)
{
    (void)state;
    cluster("start", NULL, 0);
    return 0;
}

static int stop_cluster(void **state)
{
    (void)state;
    cluster("stop", NULL, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(returns_come_before_acks)};
    char dir[COMMAND_MAX];

    snprintf(dir, sizeof(dir), "%s/cluster", getenv("OBX_SERVERS_DIR"));
    if (setenv("OBX_CLUSTER_DIR", dir, 0) != 0)
        return EXIT_FAILURE;
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
