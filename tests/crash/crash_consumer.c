/*
 * The consumer of the crash tests: writes one line into `applied` for each message, in the
 * transaction it is given.
 *
 * Every fiftieth message or so is refused once, so that retries mix with everything else. One start in
 * two takes a batch handler.
 * Coordinates come from the OBX_TEST_... variables; the queue and the number of workers from the
 * arguments. Ends on SIGTERM with status 0 when all was drained.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crash/scene.h"
#include "obx/consumer.h"

enum { RETRY_ONE_IN = 50, DECIMAL = 10 };

static bool is_picked(struct obx_bytes id)
{
    const unsigned char *p = id.p;
    unsigned sum = 0;

    for (size_t i = 0; i < id.len; i++)
        sum = sum * 31 + p[i];
    return sum % RETRY_ONE_IN == 0;
}

/* The body begins with the message's number within its key and a blank. */
static uint64_t number_of(struct obx_bytes body)
{
    const char *p = body.p;
    uint64_t number = 0;

    for (size_t i = 0; i < body.len && p[i] >= '0' && p[i] <= '9'; i++)
        number = number * DECIMAL + (uint64_t)(p[i] - '0');
    return number;
}

static bool is_text(struct obx_bytes bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.p, text, bytes.len) == 0;
}

static enum obx_verdict apply(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (is_text(msg->topic, SCENE_POISON_TOPIC)) {
        obx_tx_reason(tx, "poison");
        return OBX_REJECT;
    }
    if (obx_tx_exec(tx, "INSERT INTO applied (message_id, okey, key_seq) VALUES (?, ?, ?)",
                    OBX_ARGS(obx_data(msg->message_id), obx_data(msg->ordering_key),
                             obx_u64(number_of(msg->body))),
                    NULL, NULL) != OBX_OK)
        return OBX_RETRY;
    if (msg->attempt == 1 && !msg->redelivered && is_picked(msg->message_id)) {
        obx_tx_reason(tx, "picked for a retry");
        return OBX_RETRY;
    }
    return OBX_APPLIED;
}

/* The same for a batch: each message has its answer, and what failed to be written ends the call. */
static enum obx_verdict apply_many(const struct obx_message *const *messages, size_t count,
                                   struct obx_tx *tx, void *ctx)
{
    for (size_t i = 0; i < count; i++) {
        const enum obx_verdict verdict = apply(messages[i], tx, ctx);

        if (verdict != OBX_APPLIED)
            obx_tx_answer(tx, i, verdict, verdict == OBX_REJECT ? "poison" : "picked for a retry");
    }
    return OBX_APPLIED;
}

/* Both handlers are killed in the same runs: each start takes one of the two. */
static enum obx_code subscribe(struct obx_consumer *consumer, struct obx_err *err)
{
    return getpid() % 2 == 0 ? obx_consumer_subscribe(consumer, apply, NULL, err)
                             : obx_consumer_subscribe_batch(consumer, apply_many, NULL, err);
}

static const char *env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL) {
        fprintf(stderr, "crash_consumer: %s is not set\n", name);
        exit(2);
    }
    return value;
}

static void log_line(enum obx_log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)len;
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

static void on_signal(int number)
{
    (void)number; /* sigwait takes it */
}

/* Runs the consumer until SIGTERM. */
static enum obx_code serve(struct obx_consumer *consumer, const sigset_t *signals,
                           struct obx_err *err)
{
    int number = 0;
    enum obx_code rc = obx_consumer_start(consumer, err);

    if (rc != OBX_OK)
        return rc;
    sigwait(signals, &number);
    return obx_consumer_drain(consumer, 0, err);
}

int main(int argc, char **argv)
{
    const struct obx_binding binding = {
        .exchange = "rowpost", .exchange_type = "topic", .routing_key = "crash.#"};
    struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = SCENE_GROUP,
        .queue = argc == 3 ? argv[1] : "",
        .broker_vhost = env("OBX_TEST_AMQP_VHOST"),
        .broker_user = env("OBX_TEST_AMQP_USER"),
        .broker_password = env("OBX_TEST_AMQP_PASSWORD"),
        .db_host = env("OBX_TEST_DB_HOST"),
        .db_port = (uint16_t)strtoul(env("OBX_TEST_DB_PORT"), NULL, DECIMAL),
        .db_user = env("OBX_TEST_DB_USER"),
        .db_password = env("OBX_TEST_DB_PASSWORD"),
        .db_name = LEDGER_CONSUMER_DB,
        .workers = argc == 3 ? (uint32_t)strtoul(argv[2], NULL, DECIMAL) : 0,
        .batch_max = 50,
        .prefetch = 300,
        .retry_min_ms = 20,
        .retry_cap_ms = 1000,
        .outage_pause_max_ms = 1000,
        .declare_topology = true,
        .single_active_consumer = true,
        .bindings = &binding,
        .binding_count = 1,
    };
    struct sigaction action = {.sa_handler = on_signal};
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};
    char address[300];
    char dead[300];
    sigset_t signals;

    snprintf(address, sizeof(address), "%s:%s", env("OBX_TEST_AMQP_HOST"),
             env("OBX_TEST_AMQP_PORT"));
    opts.broker_addresses = address;
    snprintf(dead, sizeof(dead), "%s.dead", opts.queue);
    opts.dead_letter_queue = dead;
    /* A database that is silent is given up sooner than by default. */
    if (getenv("OBX_TEST_DB_TIMEOUT_MS") != NULL)
        opts.db_timeout_ms = (uint32_t)strtoul(getenv("OBX_TEST_DB_TIMEOUT_MS"), NULL, DECIMAL);
    /* By hand, see random_kill_test.c. What is set makes the same happen sooner and more often. */
    if (getenv("OBX_TEST_DEFAULTS") != NULL) {
        opts.batch_max = 0;
        opts.prefetch = 0;
        opts.retry_min_ms = 0;
        opts.retry_cap_ms = 0;
        opts.outage_pause_max_ms = 0;
    }
    sigaction(SIGTERM, &action, NULL);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    obx_log_set(OBX_LOG_INFO, log_line, NULL);
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        subscribe(consumer, &err) != OBX_OK || serve(consumer, &signals, &err) != OBX_OK)
        fprintf(stderr, "crash_consumer: %s\n", err.text);
    obx_consumer_close(consumer);
    return err.code == OBX_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
