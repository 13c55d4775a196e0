/*
 * The adapter of consumer-lib; see README.md. Its messages come from RabbitMQ and not from an inbox:
 * `work` has queue, group, exchange and max_attempts, and says `working` when it consumes. It knows
 * `work` and `stop`; the handler is that of the other languages.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "obx/consumer.h"
#include "wait.h"

enum { UP_MS = 60000, SHA_TEXT = 65 };

static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;

static void say(const char *event, json_t *more)
{
    json_t *said = more == NULL ? json_object() : more;
    char *line;

    json_object_set_new(said, "event", json_string(event));
    line = json_dumps(said, JSON_COMPACT);
    pthread_mutex_lock(&saying);
    puts(line == NULL ? "?" : line);
    fflush(stdout);
    pthread_mutex_unlock(&saying);
    free(line);
    json_decref(said);
}

/* ---- the handler ---- */

static json_t *value_of(const struct obx_header *header)
{
    switch (header->type) {
    case OBX_H_TEXT:
        return json_stringn(header->v.text.p, header->v.text.len);
    case OBX_H_I64:
        return json_integer(header->v.i64);
    case OBX_H_F64:
        return json_real(header->v.f64);
    case OBX_H_BOOL:
        return json_boolean(header->v.yes);
    case OBX_H_NULL:
        return json_null();
    }
    return json_null();
}

static json_t *headers_of(const struct obx_message *msg)
{
    json_t *headers = json_object();

    for (size_t i = 0; i < msg->header_count; i++) {
        char name[256];

        snprintf(name, sizeof(name), "%.*s", (int)msg->headers[i].name.len,
                 (const char *)msg->headers[i].name.p);
        json_object_set_new(headers, name, value_of(&msg->headers[i]));
    }
    return headers;
}

static void add_sha(const struct obx_message *msg, char text[SHA_TEXT])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_Digest(msg->body.p == NULL ? "" : msg->body.p, msg->body.len, digest, &len,
                   EVP_sha256(), NULL) != 1)
        abort();
    for (unsigned i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static enum obx_code write_effect(const struct obx_message *msg, json_t *headers, struct obx_tx *tx)
{
    static const char sql[] =
        "INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source,"
        " traceparent, attempt, size, sha) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    const char *queue = json_string_value(json_object_get(headers, "queue"));
    char *text = json_dumps(headers, JSON_COMPACT);
    char sha[SHA_TEXT];
    enum obx_code rc;

    add_sha(msg, sha);
    rc = obx_tx_exec(tx, sql,
                     OBX_ARGS(obx_text(queue), obx_data(msg->message_id), obx_data(msg->topic),
                              obx_data(msg->ordering_key), obx_data(msg->content_type),
                              obx_text(text), obx_data(msg->source), obx_data(msg->traceparent),
                              obx_u64(msg->attempt), obx_u64(msg->body.len), obx_text(sha)),
                     NULL, NULL);
    free(text);
    return rc;
}

static enum obx_verdict answer(const char *word, struct obx_tx *tx)
{
    char odd[1024] = "odd \xff";

    if (strcmp(word, "die") == 0)
        (void)kill(getpid(), SIGKILL);
    if (strcmp(word, "rollback") == 0) {
        if (obx_tx_exec(tx, "ROLLBACK", OBX_NO_ARGS, NULL, NULL) == OBX_OK)
            abort();        /* it was not refused */
        return OBX_APPLIED; /* it believes that all went well */
    }
    if (strcmp(word, "raise") == 0)
        obx_tx_reason(tx, "boom");
    else if (strcmp(word, "reject") == 0 || strcmp(word, "return-reject") == 0)
        obx_tx_reason(tx, "never");
    else if (strcmp(word, "retry") == 0 || strcmp(word, "return-retry") == 0)
        obx_tx_reason(tx, "later");
    else if (strcmp(word, "reject-odd") == 0 || strcmp(word, "retry-odd") == 0)
        obx_tx_reason(tx, "\xf0\x9f");
    else if (strcmp(word, "raise-odd") == 0) {
        for (size_t at = strlen(odd); at + 4 < sizeof(odd); at += 4)
            memcpy(odd + at, "\xF0\x9F\x94\x91", 5);
        obx_tx_reason(tx, "%s", odd);
    } else {
        return OBX_APPLIED;
    }
    return strstr(word, "reject") != NULL ? OBX_REJECT : OBX_RETRY;
}

static enum obx_verdict on_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    json_t *headers = headers_of(msg);
    const json_t *times = json_object_get(headers, "times");
    const char *word = json_string_value(json_object_get(headers, "do"));
    enum obx_verdict verdict = OBX_RETRY;

    (void)ctx;
    say("handling", json_pack("{s:s%, s:i}", "message_id", msg->message_id.p, msg->message_id.len,
                              "attempt", (int)msg->attempt));
    if (word == NULL || (times != NULL && msg->attempt > (uint64_t)json_integer_value(times)))
        word = "";
    if ((strcmp(word, "lock") != 0 || obx_tx_exec(tx, "UPDATE contended SET n = n + 1 WHERE id = 1",
                                                  OBX_NO_ARGS, NULL, NULL) == OBX_OK) &&
        write_effect(msg, headers, tx) == OBX_OK)
        verdict = answer(word, tx);
    json_decref(headers);
    return verdict;
}

/* ---- the commands ---- */

static void print_log(enum obx_log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)len;
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

static bool is_consuming(void *ctx)
{
    struct obx_consumer_stats stats = {0};

    obx_consumer_get_stats(ctx, &stats, sizeof(stats));
    return stats.broker_up;
}

static void die(const char *what, const struct obx_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(EXIT_FAILURE);
}

/* What the options borrow lives as long as the command, which the caller keeps. */
static struct obx_consumer *work(const json_t *command, const json_t *at)
{
    char address[64];
    const char *exchange = json_string_value(json_object_get(command, "exchange"));
    const struct obx_binding binding = {
        .exchange = exchange, .exchange_type = "topic", .routing_key = "#"};
    struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = json_string_value(json_object_get(command, "group")),
        .queue = json_string_value(json_object_get(command, "queue")),
        .broker_addresses = address,
        .broker_vhost = getenv("OBX_TEST_AMQP_VHOST"),
        .broker_user = getenv("OBX_TEST_AMQP_USER"),
        .broker_password = getenv("OBX_TEST_AMQP_PASSWORD"),
        .db_host = json_string_value(json_object_get(at, "host")),
        .db_port = (uint16_t)json_integer_value(json_object_get(at, "port")),
        .db_user = json_string_value(json_object_get(at, "user")),
        .db_password = json_string_value(json_object_get(at, "password")),
        .db_name = json_string_value(json_object_get(at, "database")),
        .db_lock_wait_s = 1,
        .retry_min_ms = 50, /* as the rows of the other languages */
        .retry_cap_ms = 200,
        .max_attempts = (uint32_t)json_integer_value(json_object_get(command, "max_attempts")),
        .batch_max = 5, /* so that many commits are met by a kill */
        .declare_topology = true,
        .single_active_consumer = true,
        .bindings = &binding,
        .binding_count = 1,
    };
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    snprintf(address, sizeof(address), "127.0.0.1:%s", getenv("OBX_TEST_AMQP_PORT"));
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(consumer, on_message, NULL, &err) != OBX_OK ||
        obx_consumer_start(consumer, &err) != OBX_OK)
        die("work", &err);
    if (!wait_until(UP_MS, is_consuming, consumer))
        fprintf(stderr, "it does not consume yet\n");
    say("working", NULL);
    return consumer;
}

static void stop(struct obx_consumer *consumer)
{
    struct obx_err err = {0};

    if (consumer != NULL && obx_consumer_drain(consumer, 0, &err) != OBX_OK)
        fprintf(stderr, "drain: %s\n", err.text);
    obx_consumer_close(consumer);
}

int main(void)
{
    const char *where = getenv("ROWPOST_DB");
    json_t *at = where == NULL ? NULL : json_loads(where, 0, NULL);
    json_t *working = NULL;
    struct obx_consumer *consumer = NULL;
    char line[65536];

    if (at == NULL)
        return EXIT_FAILURE;
    obx_log_set(OBX_LOG_INFO, print_log, NULL);
    say("ready", json_pack("{s:[]}", "can"));
    while (fgets(line, sizeof(line), stdin) != NULL) {
        json_t *command = json_loads(line, 0, NULL);
        const char *what = json_string_value(json_object_get(command, "do"));

        if (what != NULL && strcmp(what, "work") == 0 && consumer == NULL) {
            working = json_incref(command);
            consumer = work(command, at);
        } else if (what != NULL && strcmp(what, "stop") == 0) {
            stop(consumer);
            consumer = NULL;
            json_decref(working);
            working = NULL;
            say("stopped", NULL);
        }
        json_decref(command);
    }
    stop(consumer);
    json_decref(working);
    json_decref(at);
    return EXIT_SUCCESS;
}
