/*
 * A bank of the TCC example, and what every participant does: it uses or gives back what the Try
 * has reserved.
 *
 * Confirm and Cancel come as messages, because the initiator's half-message was committed or rolled
 * back. The first thing the handler does is to ask the barrier, in the transaction in which it then
 * writes: so a Cancel whose Try never came does nothing and keeps that Try out, and a second
 * Confirm or Cancel does nothing. The Try is in transfer_service.c.
 *
 * The bank's name is the first argument: its queue, and the first word of its topics. The database
 * comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME, the broker from AMQP_ADDRESSES,
 * AMQP_USER and AMQP_PASSWORD. Ends on SIGTERM or SIGINT when what it holds is done.
 */
#include <jansson.h>
#include <obx/barrier.h>
#include <obx/consumer.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One leg of a transfer, as the message has it. */
struct leg {
    const char *gid;
    const char *branch; /* debit or credit */
    json_int_t account, amount;
};

static enum obx_verdict confirm(const struct leg *leg, struct obx_tx *tx)
{
    const char *sql = strcmp(leg->branch, "debit") == 0
                          ? "UPDATE account SET frozen = frozen - ? WHERE id = ?"
                          : "UPDATE account SET expected = expected - ?, balance = balance + ? "
                            "WHERE id = ?";
    struct obx_value amount = obx_i64(leg->amount), account = obx_i64(leg->account);
    enum obx_code rc = strcmp(leg->branch, "debit") == 0
                           ? obx_tx_exec(tx, sql, OBX_ARGS(amount, account), NULL, NULL)
                           : obx_tx_exec(tx, sql, OBX_ARGS(amount, amount, account), NULL, NULL);

    return rc == OBX_OK ? OBX_APPLIED : OBX_RETRY;
}

static enum obx_verdict cancel(const struct leg *leg, struct obx_tx *tx)
{
    const char *sql = strcmp(leg->branch, "debit") == 0
                          ? "UPDATE account SET frozen = frozen - ?, balance = balance + ? "
                            "WHERE id = ?"
                          : "UPDATE account SET expected = expected - ? WHERE id = ?";
    struct obx_value amount = obx_i64(leg->amount), account = obx_i64(leg->account);
    enum obx_code rc = strcmp(leg->branch, "debit") == 0
                           ? obx_tx_exec(tx, sql, OBX_ARGS(amount, amount, account), NULL, NULL)
                           : obx_tx_exec(tx, sql, OBX_ARGS(amount, account), NULL, NULL);

    return rc == OBX_OK ? OBX_APPLIED : OBX_RETRY;
}

static enum obx_verdict settle(const struct leg *leg, bool is_confirm, struct obx_tx *tx)
{
    const struct obx_bytes gid = {.p = leg->gid, .len = strlen(leg->gid)};
    enum obx_barrier answer = OBX_BARRIER_REFUSED;
    struct obx_err err = {0};
    enum obx_code rc = is_confirm ? obx_barrier_confirm(tx, gid, leg->branch, &answer, &err)
                                  : obx_barrier_cancel(tx, gid, leg->branch, &answer, &err);

    if (rc != OBX_OK)
        return OBX_RETRY;
    switch (answer) {
    case OBX_BARRIER_GO:
        return is_confirm ? confirm(leg, tx) : cancel(leg, tx);
    case OBX_BARRIER_REPEAT: /* done before */
    case OBX_BARRIER_NONE:   /* a Cancel whose Try never came: there is nothing to give back */
        return OBX_APPLIED;
    case OBX_BARRIER_REFUSED:
        break;
    }
    obx_tx_reason(tx, "the barrier refuses %s of %s", is_confirm ? "confirm" : "cancel", leg->gid);
    return OBX_REJECT;
}

static bool ends_with(struct obx_bytes text, const char *tail)
{
    const size_t len = strlen(tail);

    return text.len >= len && memcmp((const char *)text.p + text.len - len, tail, len) == 0;
}

static enum obx_verdict on_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    json_t *body = json_loadb(msg->body.p, msg->body.len, 0, NULL);
    struct leg leg = {0};
    enum obx_verdict verdict = OBX_REJECT;

    (void)ctx;
    if (json_unpack(body, "{s:s, s:s, s:I, s:I}", "gid", &leg.gid, "branch", &leg.branch, "account",
                    &leg.account, "amount", &leg.amount) == 0)
        verdict = settle(&leg, ends_with(msg->topic, ".confirm"), tx);
    else
        obx_tx_reason(tx, "the body is not a leg of a transfer");
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

static enum obx_code run(const char *bank, const sigset_t *signals, struct obx_err *err)
{
    char topics[64];
    const struct obx_binding binding = {
        .exchange = "rowpost", .exchange_type = "topic", .routing_key = topics};
    const struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = bank,
        .queue = bank,
        .broker_addresses = env("AMQP_ADDRESSES", "127.0.0.1:5672"),
        .broker_user = env("AMQP_USER", "guest"),
        .broker_password = env("AMQP_PASSWORD", "guest"),
        .db_host = env("DB_HOST", "127.0.0.1"),
        .db_port = (uint16_t)strtoul(env("DB_PORT", "3306"), NULL, 10),
        .db_user = env("DB_USER", "bank"),
        .db_password = env("DB_PASSWORD", ""),
        .db_name = env("DB_NAME", bank),
        .workers = 2,
        .max_attempts = 1000, /* what is frozen must come free: no giving up on a busy row */
        .retry_cap_ms = 1000,
        .declare_topology = true,
        .bindings = &binding,
        .binding_count = 1,
    };
    struct obx_consumer *consumer = NULL;
    enum obx_code rc;

    snprintf(topics, sizeof(topics), "%.50s.*", bank);
    rc = obx_consumer_open(&opts, &consumer, err);
    if (rc == OBX_OK)
        rc = obx_consumer_subscribe(consumer, on_message, NULL, err);
    if (rc == OBX_OK)
        rc = serve(consumer, signals, err);
    obx_consumer_close(consumer);
    return rc;
}

int main(int argc, char **argv)
{
    struct obx_err err = {0};
    sigset_t signals;

    if (argc != 2) {
        fprintf(stderr, "usage: bank-service NAME; see the head of bank_service.c\n");
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    obx_log_set(OBX_LOG_INFO, print_log, NULL);
    if (run(argv[1], &signals, &err) == OBX_OK)
        return EXIT_SUCCESS;
    fprintf(stderr, "bank-service: %s\n", err.text);
    return EXIT_FAILURE;
}
