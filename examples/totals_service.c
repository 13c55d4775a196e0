/*
 * A batch handler: adds up what was ordered of each article, with one statement for all messages of a
 * batch.
 *
 * The library gives the handler up to batch_max messages of one transaction, in which their dedup rows
 * commit too. So the totals count each order once, whatever is delivered again, and whatever is killed
 * when, at the price of one round trip for a hundred orders. An order that cannot be read is answered
 * for by itself: it is dead, and the others are added up without it.
 *
 * The database comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME, the broker from
 * AMQP_ADDRESSES, AMQP_VHOST, AMQP_USER and AMQP_PASSWORD, the queue from QUEUE. Ends on SIGTERM or
 * SIGINT when what it holds is applied and acknowledged. Its table:
 *
 *     CREATE TABLE article_total (sku VARCHAR(40) PRIMARY KEY, ordered BIGINT NOT NULL);
 */
#include <jansson.h>
#include <obx/consumer.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 200, SKU_MAX = 40 };

struct order {
    char sku[SKU_MAX + 1];
    json_int_t quantity;
};

static bool read_order(const struct obx_message *msg, struct order *order)
{
    json_t *json = json_loadb(msg->body.p, msg->body.len, 0, NULL);
    const char *sku = NULL;
    bool is_good =
        json_unpack(json, "{s:s, s:I}", "sku", &sku, "quantity", &order->quantity) == 0 &&
        strlen(sku) <= SKU_MAX && order->quantity > 0;

    if (is_good)
        memcpy(order->sku, sku, strlen(sku) + 1);
    json_decref(json);
    return is_good;
}

static enum obx_verdict on_messages(const struct obx_message *const *messages, size_t count,
                                    struct obx_tx *tx, void *ctx)
{
    static const char head[] = "INSERT INTO article_total (sku, ordered) VALUES ";
    static const char tail[] = " ON DUPLICATE KEY UPDATE ordered = ordered + VALUES(ordered)";
    struct order orders[BATCH_MAX];
    struct obx_value values[2 * BATCH_MAX];
    char sql[sizeof(head) + BATCH_MAX * sizeof("(?,?),") + sizeof(tail)] = "";
    size_t rows = 0;

    (void)ctx;
    strcat(sql, head);
    for (size_t i = 0; i < count; i++) {
        if (!read_order(messages[i], &orders[rows])) {
            obx_tx_answer(tx, i, OBX_REJECT, "the body is not an order");
            continue;
        }
        values[2 * rows] = obx_text(orders[rows].sku);
        values[2 * rows + 1] = obx_i64(orders[rows].quantity);
        strcat(sql, rows++ == 0 ? "(?,?)" : ",(?,?)");
    }
    strcat(sql, tail);
    /* Where one was rejected all is undone, and the handler called again without it. */
    if (rows < count)
        return OBX_APPLIED;
    return obx_tx_exec(tx, sql, values, 2 * rows, NULL, NULL) == OBX_OK ? OBX_APPLIED : OBX_RETRY;
}

static const char *env(const char *name, const char *fallback)
{
    const char *value = getenv(name);

    return value != NULL ? value : fallback;
}

static void print_log(enum obx_log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)len;
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

/* Until a signal comes; then finish what was begun. */
static enum obx_code serve(struct obx_consumer *consumer, const sigset_t *signals,
                           struct obx_err *err)
{
    enum obx_code rc = obx_consumer_start(consumer, err);
    int number = 0;

    if (rc != OBX_OK)
        return rc;
    sigwait(signals, &number);
    return obx_consumer_drain(consumer, 0, err);
}

int main(void)
{
    const struct obx_binding binding = {
        .exchange = "rowpost", .exchange_type = "topic", .routing_key = "order.placed"};
    const struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = "totals",
        .queue = env("QUEUE", "totals"),
        .broker_addresses = env("AMQP_ADDRESSES", "127.0.0.1:5672"),
        .broker_vhost = env("AMQP_VHOST", "/"),
        .broker_user = env("AMQP_USER", "guest"),
        .broker_password = env("AMQP_PASSWORD", "guest"),
        .db_host = env("DB_HOST", "127.0.0.1"),
        .db_port = (uint16_t)strtoul(env("DB_PORT", "3306"), NULL, 10),
        .db_user = env("DB_USER", "stock"),
        .db_password = env("DB_PASSWORD", ""),
        .db_name = env("DB_NAME", "stock"),
        .batch_max = BATCH_MAX,
        .declare_topology = true,
        .single_active_consumer = true,
        .bindings = &binding,
        .binding_count = 1,
    };
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};
    sigset_t signals;

    /* Blocked here and so in the threads of the library; taken by sigwait. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    obx_log_set(OBX_LOG_INFO, print_log, NULL);
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe_batch(consumer, on_messages, NULL, &err) != OBX_OK ||
        serve(consumer, &signals, &err) != OBX_OK)
        fprintf(stderr, "totals-service: %s\n", err.text);
    obx_consumer_close(consumer);
    return err.code == OBX_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
