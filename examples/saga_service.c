/*
 * A saga of three services: an order is placed, paid, and taken from the stock; what cannot be paid
 * or is not there is undone, step by step, back to the order. See docs/saga.md.
 *
 *     shop     order.placed ------> payment   payment.taken ------> stock
 *     shop  <-- order.ready ----------------------------------------- stock, when it is there
 *     shop  <-- order.refused ----- payment, when there is no money
 *               payment <---------- payment.refused ---------------- stock, when it is not there
 *     shop  <-- order.refunded ---- payment, when the money is back
 *
 * order.refused and payment.refused are compensations: the topics that their messages name in
 * on_rejected. No service sends them; a handler that rejects sets them off, once, whichever process
 * dies.
 *
 * usage: saga-service shop|payment|stock, with DB_... and AMQP_... as for inventory-service.
 */
#include <jansson.h>
#include <obx/consumer.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct order {
    json_int_t id;
    json_int_t customer;
    const char *sku;
    json_int_t amount;
};

typedef enum obx_verdict step_fn(const struct obx_message *msg, const struct order *order,
                                 struct obx_tx *tx);

struct step {
    const char *topic;
    step_fn *run;
};

enum { STEPS_MAX = 3 };

struct role {
    const char *name;
    struct step steps[STEPS_MAX];
};

/* The next message of the saga, in the transaction of what it tells of. */
static enum obx_verdict send(struct obx_tx *tx, const struct obx_message *msg, const char *topic,
                             const char *receipt_from, const char *on_rejected)
{
    return obx_tx_exec(tx,
                       "INSERT INTO outbox (topic, ordering_key, payload, receipt_from,"
                       " on_rejected) VALUES (?, ?, ?, ?, ?)",
                       OBX_ARGS(obx_text(topic), obx_data(msg->ordering_key), obx_data(msg->body),
                                obx_text(receipt_from), obx_text(on_rejected)),
                       NULL, NULL) == OBX_OK
               ? OBX_APPLIED
               : OBX_RETRY;
}

/* One statement that has to change one row; else the message is rejected for that reason. */
static enum obx_verdict change(struct obx_tx *tx, const char *sql, const struct obx_value *args,
                               size_t arg_count, const char *otherwise)
{
    uint64_t changed = 0;

    if (obx_tx_exec(tx, sql, args, arg_count, &changed, NULL) != OBX_OK)
        return OBX_RETRY;
    if (changed == 1)
        return OBX_APPLIED;
    obx_tx_reason(tx, "%s", otherwise);
    return OBX_REJECT;
}

/* ---- shop ---- */

static enum obx_verdict end_order(struct obx_tx *tx, const struct order *order, const char *state,
                                  struct obx_bytes why)
{
    return change(tx, "UPDATE orders SET state = ?, why = ? WHERE id = ? AND state = 'placed'",
                  OBX_ARGS(obx_text(state), obx_data(why), obx_i64(order->id)),
                  "the order has ended otherwise");
}

/* Who rejected the message, and why, is in the compensation's headers. */
static struct obx_bytes reason_of(const struct obx_message *msg)
{
    const struct obx_header *header = obx_message_header(msg, "rowpost-rejected-reason");

    if (header == NULL || header->type != OBX_H_TEXT)
        return (struct obx_bytes){.p = "", .len = 0};
    return header->v.text;
}

static enum obx_verdict order_is_ready(const struct obx_message *msg, const struct order *order,
                                       struct obx_tx *tx)
{
    (void)msg;
    return end_order(tx, order, "ready", (struct obx_bytes){.p = "", .len = 0});
}

static enum obx_verdict cancel_order(const struct obx_message *msg, const struct order *order,
                                     struct obx_tx *tx)
{
    return end_order(tx, order, "cancelled", reason_of(msg));
}

/* ---- payment ---- */

static enum obx_verdict take_money(const struct obx_message *msg, const struct order *order,
                                   struct obx_tx *tx)
{
    enum obx_verdict verdict =
        change(tx, "UPDATE account SET balance = balance - ? WHERE customer = ? AND balance >= ?",
               OBX_ARGS(obx_i64(order->amount), obx_i64(order->customer), obx_i64(order->amount)),
               "not enough money");

    return verdict == OBX_APPLIED ? send(tx, msg, "payment.taken", "stock", "payment.refused")
                                  : verdict;
}

static enum obx_verdict give_money_back(const struct obx_message *msg, const struct order *order,
                                        struct obx_tx *tx)
{
    enum obx_verdict verdict =
        change(tx, "UPDATE account SET balance = balance + ? WHERE customer = ?",
               OBX_ARGS(obx_i64(order->amount), obx_i64(order->customer)), "no such account");

    return verdict == OBX_APPLIED ? send(tx, msg, "order.refunded", "shop", NULL) : verdict;
}

/* ---- stock ---- */

static enum obx_verdict take_article(const struct obx_message *msg, const struct order *order,
                                     struct obx_tx *tx)
{
    enum obx_verdict verdict =
        change(tx, "UPDATE article SET on_hand = on_hand - 1 WHERE sku = ? AND on_hand > 0",
               OBX_ARGS(obx_text(order->sku)), "not in stock");

    return verdict == OBX_APPLIED ? send(tx, msg, "order.ready", "shop", NULL) : verdict;
}

/* ---- all of them ---- */

static const struct role roles[] = {
    {"shop",
     {{"order.ready", order_is_ready},
      {"order.refused", cancel_order},
      {"order.refunded", cancel_order}}},
    {"payment", {{"order.placed", take_money}, {"payment.refused", give_money_back}}},
    {"stock", {{"payment.taken", take_article}}},
};

static enum obx_verdict on_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    const struct role *role = ctx;
    json_t *body = json_loadb(msg->body.p, msg->body.len, 0, NULL);
    enum obx_verdict verdict = OBX_REJECT;
    struct order order;

    if (json_unpack(body, "{s:I, s:I, s:s, s:I}", "order", &order.id, "customer", &order.customer,
                    "sku", &order.sku, "amount", &order.amount) != 0) {
        obx_tx_reason(tx, "the body is not an order");
        json_decref(body);
        return OBX_REJECT;
    }
    for (size_t i = 0; i < STEPS_MAX && role->steps[i].topic != NULL; i++) {
        const char *topic = role->steps[i].topic;

        if (msg->topic.len == strlen(topic) && memcmp(msg->topic.p, topic, msg->topic.len) == 0)
            verdict = role->steps[i].run(msg, &order, tx);
    }
    json_decref(body);
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

static enum obx_code serve(const struct role *role, const struct obx_consumer_opts *opts,
                           const sigset_t *signals, struct obx_err *err)
{
    struct role copy = *role;
    struct obx_consumer *consumer = NULL;
    int signal = 0;
    enum obx_code rc = obx_consumer_open(opts, &consumer, err);

    if (rc == OBX_OK)
        rc = obx_consumer_subscribe(consumer, on_message, &copy, err);
    if (rc == OBX_OK)
        rc = obx_consumer_start(consumer, err);
    if (rc == OBX_OK) {
        (void)sigwait(signals, &signal);
        rc = obx_consumer_drain(consumer, 0, err);
    }
    obx_consumer_close(consumer);
    return rc;
}

static enum obx_code run(const struct role *role, const sigset_t *signals, struct obx_err *err)
{
    struct obx_binding bindings[STEPS_MAX];
    char queue[32];
    struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = role->name,
        .queue = queue,
        .broker_addresses = env("AMQP_ADDRESSES", "127.0.0.1:5672"),
        .broker_vhost = env("AMQP_VHOST", "/"),
        .broker_user = env("AMQP_USER", "guest"),
        .broker_password = env("AMQP_PASSWORD", "guest"),
        .db_host = env("DB_HOST", "127.0.0.1"),
        .db_port = (uint16_t)strtoul(env("DB_PORT", "3306"), NULL, 10),
        .db_user = env("DB_USER", role->name),
        .db_password = env("DB_PASSWORD", ""),
        .db_name = env("DB_NAME", role->name),
        .declare_topology = true,
        .single_active_consumer = true,
        .bindings = bindings,
    };

    snprintf(queue, sizeof(queue), "saga-%s", role->name);
    while (opts.binding_count < STEPS_MAX && role->steps[opts.binding_count].topic != NULL) {
        bindings[opts.binding_count] =
            (struct obx_binding){.exchange = "rowpost",
                                 .exchange_type = "topic",
                                 .routing_key = role->steps[opts.binding_count].topic};
        opts.binding_count++;
    }
    return serve(role, &opts, signals, err);
}

int main(int argc, char **argv)
{
    struct obx_err err = {0};
    sigset_t signals;

    /* Blocked here and so in the threads of the library; taken by sigwait. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    obx_log_set(OBX_LOG_INFO, print_log, NULL);
    for (size_t i = 0; argc == 2 && i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(argv[1], roles[i].name) != 0)
            continue;
        if (run(&roles[i], &signals, &err) == OBX_OK)
            return EXIT_SUCCESS;
        fprintf(stderr, "saga-service: %s\n", err.text);
        return EXIT_FAILURE;
    }
    fprintf(stderr, "usage: saga-service shop|payment|stock\n");
    return 2;
}
