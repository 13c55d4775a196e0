/* See notify_rig.h. */
#include "notify_rig.h"
#include "process.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/bytes.h"
#include "base/random.h"
#include "http_call.h"
#include "sql/schema.h"
#include "wait.h"

enum { TURN_MS = 20, DECIMAL = 10, HTTP_OK = 200 };

/* ---- receivers ---- */

static void copy_header(const struct endpoint_request *request, const char *name, char *dst,
                        size_t size)
{
    const char *value = endpoint_header(request, name);

    snprintf(dst, size, "%s", value == NULL ? "" : value);
}

/* What a receiver does by docs/notifications.md, in its own words. */
static bool verify(const struct endpoint_request *request, const char *secret,
                   const char *signatures)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char expected[64] = "v1,";
    char signed_text[8192];
    unsigned len = 0;

    if (strchr(endpoint_header(request, "webhook-id"), '.') != NULL)
        return false;
    snprintf(signed_text, sizeof(signed_text), "%s.%s.%s", endpoint_header(request, "webhook-id"),
             endpoint_header(request, "webhook-timestamp"), request->body);
    HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)signed_text,
         strlen(signed_text), digest, &len);
    EVP_EncodeBlock((unsigned char *)expected + 3, digest, (int)len);
    return strstr(signatures, expected) != NULL;
}

static void note_call(struct receiver *receiver, const struct endpoint_request *request,
                      struct rig_call *call)
{
    const char *signatures = endpoint_header(request, "webhook-signature");
    const char *attempt = endpoint_header(request, "x-obx-attempt");
    const char *timestamp = endpoint_header(request, "webhook-timestamp");

    memset(call, 0, sizeof(*call));
    call->at_ms = wait_now_ms();
    copy_header(request, "webhook-id", call->id, sizeof(call->id));
    copy_header(request, "x-obx-topic", call->topic, sizeof(call->topic));
    copy_header(request, "x-obx-ordering-key", call->key, sizeof(call->key));
    copy_header(request, "content-type", call->content_type, sizeof(call->content_type));
    snprintf(call->body, sizeof(call->body), "%s", request->body);
    call->attempt = attempt == NULL ? 0 : (unsigned)strtoul(attempt, NULL, DECIMAL);
    call->timestamp_s = timestamp == NULL ? 0 : strtoull(timestamp, NULL, DECIMAL);
    for (const char *at = signatures; at != NULL; at = strchr(at + 1, ' '))
        call->signatures++;
    for (size_t i = 0; i < RIG_SECRET_MAX && signatures != NULL; i++) {
        if (receiver->secrets[i] != NULL)
            call->verified[i] = verify(request, receiver->secrets[i], signatures);
    }
}

static void on_request(const struct endpoint_request *request, struct endpoint_answer *answer,
                       void *ctx)
{
    struct receiver *receiver = ctx;
    struct rig_call call;
    size_t n;

    note_call(receiver, request, &call);
    pthread_mutex_lock(&receiver->lock);
    n = receiver->count;
    if (n < RIG_CALLS_MAX) {
        receiver->calls[n] = call;
        receiver->count++;
    }
    pthread_mutex_unlock(&receiver->lock);
    if (receiver->decide != NULL)
        receiver->decide(&call, n, answer);
}

struct receiver *receiver_create(receiver_fn *decide)
{
    struct receiver *receiver = calloc(1, sizeof(*receiver));

    assert_non_null(receiver);
    receiver->calls = calloc(RIG_CALLS_MAX, sizeof(*receiver->calls));
    assert_non_null(receiver->calls);
    receiver->decide = decide;
    pthread_mutex_init(&receiver->lock, NULL);
    receiver->endpoint = endpoint_create_full(on_request, receiver);
    return receiver;
}

void receiver_destroy(struct receiver *receiver)
{
    if (receiver == NULL)
        return;
    endpoint_destroy(receiver->endpoint);
    pthread_mutex_destroy(&receiver->lock);
    free(receiver->calls);
    free(receiver);
}

uint16_t receiver_port(const struct receiver *receiver)
{
    return endpoint_port(receiver->endpoint);
}

size_t receiver_count(struct receiver *receiver)
{
    size_t count;

    pthread_mutex_lock(&receiver->lock);
    count = receiver->count;
    pthread_mutex_unlock(&receiver->lock);
    return count;
}

struct rig_call receiver_call(struct receiver *receiver, size_t n)
{
    struct rig_call call;

    pthread_mutex_lock(&receiver->lock);
    assert_true(n < receiver->count);
    call = receiver->calls[n];
    pthread_mutex_unlock(&receiver->lock);
    return call;
}

size_t receiver_times(struct receiver *receiver, const char *id)
{
    size_t times = 0;

    pthread_mutex_lock(&receiver->lock);
    for (size_t i = 0; i < receiver->count; i++)
        times += strcmp(receiver->calls[i].id, id) == 0;
    pthread_mutex_unlock(&receiver->lock);
    return times;
}

struct count_wait {
    struct receiver *receiver;
    size_t count;
};

static bool has_count(void *ctx)
{
    const struct count_wait *wait = ctx;

    return receiver_count(wait->receiver) >= wait->count;
}

void receiver_wait(struct receiver *receiver, size_t count)
{
    struct count_wait wait = {receiver, count};

    if (!wait_until(RIG_WAIT_MS, has_count, &wait))
        fail_msg("%zu calls, not %zu", receiver_count(receiver), count);
}

/* ---- the scene ---- */

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct notify_rig *rig = ctx;

    (void)token;
    if (outcome != PUB_CONFIRMED)
        fail_msg("publish: %s %s", pub_outcome_name(outcome), why != NULL ? why : "");
    rig->confirmed++;
}

static void make_publisher(struct notify_rig *rig)
{
    const struct bridge_publisher_opts opts = {
        .bridge = {.addresses = rig->broker.address,
                   .vhost = rig->broker.vhost,
                   .user = rig->broker.user,
                   .password = rig->broker.password,
                   .connection_name = "notify_rig"},
        .on_result = on_result,
        .ctx = rig,
    };
    struct obx_err err = {0};

    if (bridge_publisher_create(&opts, &rig->publisher, &err) != OBX_OK)
        fail_msg("publisher: %s", err.text);
}

static void make_tables(struct notify_rig *rig)
{
    struct obx_err err = {0};

    if (schema_migrate(rig->db, SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK ||
        schema_migrate(rig->db, SCHEMA_NOTIFY, NULL, NULL, &err) != OBX_OK)
        fail_msg("schema: %s", err.text);
}

int notify_rig_setup(void **state)
{
    struct notify_rig *rig = calloc(1, sizeof(*rig));
    uint32_t random = (uint32_t)random_u64();

    assert_non_null(rig);
    if (!broker_from_env(&rig->broker)) {
        free(rig);
        print_message("no broker: eval \"$(tests/support/servers env)\"\n");
        return -1;
    }
    snprintf(rig->exchange, sizeof(rig->exchange), "notify-x-%ld-%08" PRIx32, (long)getpid(),
             random);
    snprintf(rig->queue, sizeof(rig->queue), "notify-q-%ld-%08" PRIx32, (long)getpid(), random);
    snprintf(rig->config_path, sizeof(rig->config_path), "notify-%ld-%08" PRIx32 ".ini",
             (long)getpid(), random);
    snprintf(rig->log_path, sizeof(rig->log_path), "notify-%ld-%08" PRIx32 ".log", (long)getpid(),
             random);
    rig->admin = broker_admin_open(&rig->broker);
    rig->http_port = proc_free_port();
    test_db_create(&rig->test_db, "calls"); /* not the name of the account in grants.md */
    rig->db = test_db_open(&rig->test_db.opts);
    make_tables(rig);
    test_user_create(&rig->account, &rig->test_db, "notifier");
    make_publisher(rig);
    *state = rig;
    return 0;
}

static void print_log(const struct notify_rig *rig)
{
    FILE *file = fopen(rig->log_path, "r");
    char line[4096];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        fputs(line, stderr);
    if (file != NULL)
        fclose(file);
}

int notify_rig_teardown(void **state)
{
    struct notify_rig *rig = *state;
    char dead[80];

    for (int i = 0; i < 2; i++)
        proc_destroy(rig->procs[i]);
    if (getenv("OBX_TEST_LOG") != NULL)
        print_log(rig);
    snprintf(dead, sizeof(dead), "%s.dead", rig->queue);
    broker_delete_queue(rig->admin, rig->queue);
    broker_delete_queue(rig->admin, dead);
    broker_delete_exchange(rig->admin, rig->exchange);
    bridge_publisher_destroy(rig->publisher);
    broker_admin_close(rig->admin);
    db_close(rig->db);
    test_user_drop(&rig->account);
    test_db_drop(&rig->test_db);
    unlink(rig->config_path);
    unlink(rig->log_path);
    free(rig);
    return 0;
}

void notify_rig_config(struct notify_rig *rig, const char *more, const char *fmt, ...)
{
    const struct db_opts *db = &rig->account.opts;
    FILE *file = fopen(rig->config_path, "w");
    va_list args;

    assert_non_null(file);
    fprintf(file, "[notify]\nlog_level = debug\nlease = 1s\nhttp_port = %u\n%s\n", rig->http_port,
            more);
    fprintf(file,
            "[broker]\naddresses = %s\nvhost = %s\nuser = %s\npassword = %s\nexchange = %s\n"
            "queue = %s\n",
            rig->broker.address, rig->broker.vhost, rig->broker.user, rig->broker.password,
            rig->exchange, rig->queue);
    fprintf(file,
            "[database]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n"
            "timeout = 30s\n",
            db->host, db->port, db->user, db->password, db->database);
    va_start(args, fmt);
    vfprintf(file, fmt, args);
    va_end(args);
    assert_int_equal(fclose(file), 0);
}

void notify_rig_start(struct notify_rig *rig, int which, const char *env)
{
    const char *const argv[] = {NOTIFY_PROGRAM, "--config", rig->config_path, NULL};
    /* Two processes cannot have one port. */
    const char *const envs[] = {which == 0 ? "OBX_RIG=0" : "OBX_NOTIFY_HTTP_PORT=0", env, NULL};
    const struct proc_opts opts = {
        .argv = argv, .env = which == 0 ? &envs[1] : envs, .log_path = rig->log_path};

    proc_destroy(rig->procs[which]);
    rig->procs[which] = proc_start(&opts);
    assert_non_null(rig->procs[which]);
}

double notify_rig_metric(struct notify_rig *rig, const char *line)
{
    const struct http_call call = {.port = rig->http_port, .path = "/metrics"};
    struct http_answer answer;
    const char *found;

    http_call(&call, &answer);
    found = strstr(answer.body, line);
    return answer.status != HTTP_OK || found == NULL ? -1 : strtod(found + strlen(line), NULL);
}

static bool is_owner(void *ctx)
{
    struct notify_rig *rig = ctx;

    if (!proc_is_alive(rig->procs[0])) {
        print_log(rig);
        fail_msg("the program has ended");
    }
    return notify_rig_metric(rig, "\nrowpost_notify_owner ") == 1 &&
           notify_rig_metric(rig, "\nrowpost_notify_broker_up ") == 1;
}

void notify_rig_wait_owner(struct notify_rig *rig)
{
    if (!wait_until(RIG_WAIT_MS, is_owner, rig)) {
        print_log(rig);
        fail_msg("the program does not become the owner");
    }
}

void notify_rig_stop(struct notify_rig *rig, int which)
{
    struct proc_exit how = {0};

    assert_true(proc_signal(rig->procs[which], SIGTERM));
    if (!proc_wait(rig->procs[which], RIG_WAIT_MS, &how) || how.code != 0) {
        print_log(rig);
        fail_msg("ended with %d, signal %d", how.code, how.signal);
    }
    proc_destroy(rig->procs[which]);
    rig->procs[which] = NULL;
}

void notify_rig_kill(struct notify_rig *rig, int which)
{
    proc_kill(rig->procs[which]);
    proc_destroy(rig->procs[which]);
    rig->procs[which] = NULL;
}

int notify_rig_command(struct notify_rig *rig, const char *argument)
{
    const char *const argv[] = {NOTIFY_PROGRAM, "--config", rig->config_path, argument, NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = rig->log_path};
    struct proc_exit how = {0};

    assert_true(proc_run(&opts, RIG_WAIT_MS, &how));
    return how.code;
}

struct log_wait {
    const struct notify_rig *rig;
    const char *text;
};

static bool log_has(void *ctx)
{
    const struct log_wait *wait = ctx;
    FILE *file = fopen(wait->rig->log_path, "r");
    char line[4096];
    bool found = false;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        found = strstr(line, wait->text) != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

void notify_rig_wait_log(struct notify_rig *rig, const char *text)
{
    struct log_wait wait = {rig, text};

    if (!wait_until(RIG_WAIT_MS, log_has, &wait)) {
        print_log(rig);
        fail_msg("the log does not say %s", text);
    }
}

static void turn(struct notify_rig *rig)
{
    struct pollfd fd = {0};

    bridge_publisher_service(rig->publisher);
    fd = (struct pollfd){.fd = bridge_publisher_fd(rig->publisher), .events = POLLIN};
    if (bridge_publisher_inflight(rig->publisher) > 0 || bridge_publisher_room(rig->publisher) == 0)
        (void)poll(&fd, 1, TURN_MS);
}

static void send_message(struct notify_rig *rig, const char *id, const char *topic,
                         struct obx_bytes body)
{
    const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;
    const struct bridge_message msg = {.exchange = bytes_of(rig->exchange),
                                       .routing_key = bytes_of(topic),
                                       .message_id = bytes_of(id),
                                       .type = bytes_of(topic),
                                       .content_type = bytes_of("text/plain"),
                                       .body = body};
    struct obx_err err = {0};

    while (bridge_publisher_room(rig->publisher) == 0) {
        assert_true(wait_now_ms() < deadline);
        turn(rig);
    }
    if (bridge_publisher_publish(rig->publisher, &msg, 0, &err) != OBX_OK)
        fail_msg("publish: %s", err.text);
    rig->published++;
}

static void flush(struct notify_rig *rig)
{
    const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;

    while (rig->confirmed < rig->published) {
        assert_true(wait_now_ms() < deadline);
        turn(rig);
    }
}

void notify_rig_publish_bytes(struct notify_rig *rig, const char *id, const char *topic,
                              struct obx_bytes body)
{
    send_message(rig, id, topic, body);
    flush(rig);
}

void notify_rig_publish(struct notify_rig *rig, const char *id, const char *topic, const char *body)
{
    notify_rig_publish_bytes(rig, id, topic, bytes_of(body));
}

void notify_rig_fill(struct notify_rig *rig, const char *prefix, int count, const char *topic)
{
    char id[80];

    for (int i = 0; i < count; i++) {
        snprintf(id, sizeof(id), "%s-%d", prefix, i);
        send_message(rig, id, topic, bytes_of(id));
    }
    flush(rig);
}

uint64_t notify_rig_number(struct notify_rig *rig, const char *sql)
{
    return test_db_number(rig->db, sql);
}

struct number_wait {
    struct notify_rig *rig;
    uint64_t wanted;
    const char *sql;
};

static bool has_number(void *ctx)
{
    const struct number_wait *wait = ctx;

    return notify_rig_number(wait->rig, wait->sql) == wait->wanted;
}

void notify_rig_wait_number(struct notify_rig *rig, uint64_t wanted, const char *sql)
{
    struct number_wait wait = {rig, wanted, sql};

    if (!wait_until(RIG_WAIT_MS, has_number, &wait)) {
        print_log(rig);
        fail_msg("%s: %" PRIu64 ", not %" PRIu64, sql, notify_rig_number(rig, sql), wanted);
    }
}
