/*
 * The inventory service of the demo: takes each order out of the stock exactly once.
 *
 * The handler writes in the transaction that the library has opened, in which the message's dedup
 * row stands already. They commit together, so whatever is delivered again, and whatever is killed
 * when, the stock goes down once for each order.
 *
 * The database comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME, the broker from
 * AMQP_ADDRESSES, AMQP_USER and AMQP_PASSWORD. Ends on SIGTERM or SIGINT when what it holds is
 * applied and acknowledged.
 */
#include <jansson.h>
#include <obx/consumer.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum obx_verdict take_from_stock(json_t *order, struct obx_tx *tx)
{
    json_int_t id = 0, customer = 0, customer_seq = 0, quantity = 0;
    const char *sku = NULL;
    uint64_t changed = 0;

    if (json_unpack(order, "{s:I, s:I, s:I, s:s, s:I}", "order_id", &id, "customer", &customer,
                    "customer_seq", &customer_seq, "sku", &sku, "quantity", &quantity) != 0) {
        obx_tx_reason(tx, "the body is not an order");
        return OBX_REJECT;
    }
    if (obx_tx_exec(tx, "UPDATE stock SET on_hand = on_hand - ? WHERE sku = ?",
                    OBX_ARGS(obx_i64(quantity), obx_text(sku)), &changed, NULL) != OBX_OK)
        return OBX_RETRY;
    if (changed == 0) {
        obx_tx_reason(tx, "there is no article %s", sku);
        return OBX_REJECT;
    }
    if (obx_tx_exec(tx,
                    "INSERT INTO applied_order (order_id, customer, customer_seq, sku, quantity) "
                    "VALUES (?, ?, ?, ?, ?)",
                    OBX_ARGS(obx_i64(id), obx_i64(customer), obx_i64(customer_seq), obx_text(sku),
                             obx_i64(quantity)),
                    NULL, NULL) != OBX_OK)
        return OBX_RETRY;
    return OBX_APPLIED;
}

static enum obx_verdict on_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    json_t *order = json_loadb(msg->body.p, msg->body.len, 0, NULL);
    enum obx_verdict verdict = take_from_stock(order, tx); /* NULL unpacks to nothing: rejected */

    (void)ctx;
    json_decref(order);
    return verdict;
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

static void report(const struct obx_consumer *consumer)
{
    struct obx_consumer_stats stats;

    obx_consumer_get_stats(consumer, &stats, sizeof(stats));
    printf("delivered=%llu applied=%llu duplicates=%llu commits=%llu\n",
           (unsigned long long)stats.delivered, (unsigned long long)stats.applied,
           (unsigned long long)stats.duplicates, (unsigned long long)stats.commits);
    fflush(stdout);
}

/* Report twice a second until a signal comes; then finish what was begun. */
static enum obx_code serve(struct obx_consumer *consumer, const sigset_t *signals,
                           struct obx_err *err)
{
    const struct timespec half_a_second = {.tv_nsec = 500000000};
    enum obx_code rc = obx_consumer_start(consumer, err);

    while (rc == OBX_OK && sigtimedwait(signals, NULL, &half_a_second) < 0)
        report(consumer);
    if (rc == OBX_OK)
        rc = obx_consumer_drain(consumer, 0, err);
    report(consumer);
    return rc;
}

int main(void)
{
    const struct obx_binding binding = {
        .exchange = "rowpost", .exchange_type = "topic", .routing_key = "order.placed"};
    const struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = "inventory",
        .queue = "inventory",
        .broker_addresses = env("AMQP_ADDRESSES", "127.0.0.1:5672"),
        .broker_user = env("AMQP_USER", "guest"),
        .broker_password = env("AMQP_PASSWORD", "guest"),
        .db_host = env("DB_HOST", "127.0.0.1"),
        .db_port = (uint16_t)strtoul(env("DB_PORT", "3306"), NULL, 10),
        .db_user = env("DB_USER", "stock"),
        .db_password = env("DB_PASSWORD", ""),
        .db_name = env("DB_NAME", "stock"),
        .workers = 2,
        .declare_topology = true,
        .single_active_consumer = true,
        .bindings = &binding,
        .binding_count = 1,
    };
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};
    sigset_t signals;

    /* Blocked here and so in the threads of the library; taken by sigtimedwait. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    obx_log_set(OBX_LOG_INFO, print_log, NULL);
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(consumer, on_message, NULL, &err) != OBX_OK ||
        serve(consumer, &signals, &err) != OBX_OK)
        fprintf(stderr, "inventory-service: %s\n", err.text);
    obx_consumer_close(consumer);
    return err.code == OBX_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
