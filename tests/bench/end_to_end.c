/*
 * receipt_cost: how long an outbox takes to get through relay, broker and consumer, from the start
 * of the relay until the consumer has acknowledged everything and nothing is left in the outbox or
 * awaiting a receipt. The handler does one small UPDATE. Prints
 *
 *     rate MESSAGES_PER_SECOND
 *
 * usage: bench_end_to_end --rows N [--queue NAME] [--log FILE] -- RELAY ARGUMENT...
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/numbers.h"
#include "obx/consumer.h"
#include "process.h"
#include "wait.h"

enum {
    TIMEOUT_MS = 900 * 1000,
    RELAY_END_MS = 30000,
    US_PER_S = 1000000,
    STOCK_ROWS = 64,
    DECIMAL = 10
};

struct bench {
    struct obx_consumer *consumer;
    struct db *db;
    uint64_t rows;
};

static const char *env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        bench_die(name, NULL);
    return value;
}

static void run(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec(db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static uint64_t number(struct db *db, const char *sql)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t value = 0;

    if (db_query(db, sql, DB_NO_ARGS, &rows, &err) != OBX_OK)
        bench_die(sql, &err);
    if (db_rows_next(rows))
        value = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return value;
}

static void make_tables(struct db *db)
{
    run(db, "CREATE TABLE IF NOT EXISTS bench_e2e (id INT UNSIGNED PRIMARY KEY, n INT UNSIGNED)");
    run(db, "DELETE FROM bench_e2e");
    run(db, "INSERT INTO bench_e2e SELECT i, 0 FROM bench_numbers WHERE i < 64");
    run(db, "TRUNCATE TABLE inbox_applied");
    run(db, "TRUNCATE TABLE outbox_awaiting");
    run(db, "TRUNCATE TABLE outbox_receipt");
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    return obx_tx_exec(tx, "UPDATE bench_e2e SET n = n + 1 WHERE id = ?",
                       OBX_ARGS(obx_u64(msg->outbox_id % STOCK_ROWS)), NULL, NULL) == OBX_OK
               ? OBX_APPLIED
               : OBX_RETRY;
}

static void start_consumer(struct bench *bench, const char *queue)
{
    static char address[300];
    struct obx_err err = {0};
    const struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = "bench",
        .queue = queue,
        .broker_addresses = address,
        .broker_vhost = env("OBX_TEST_AMQP_VHOST"),
        .broker_user = env("OBX_TEST_AMQP_USER"),
        .broker_password = env("OBX_TEST_AMQP_PASSWORD"),
        .db_host = env("OBX_TEST_DB_HOST"),
        .db_port = (uint16_t)strtoul(env("OBX_TEST_DB_PORT"), NULL, DECIMAL),
        .db_user = env("OBX_TEST_DB_USER"),
        .db_password = env("OBX_TEST_DB_PASSWORD"),
        .db_name = "obx_bench",
        .db_tls = OBX_DB_TLS_DISABLED,
        .workers = 1,
    };

    (void)snprintf(address, sizeof(address), "%s:%s", env("OBX_TEST_AMQP_HOST"),
                   env("OBX_TEST_AMQP_PORT"));
    if (obx_consumer_open(&opts, &bench->consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(bench->consumer, handle, bench, &err) != OBX_OK ||
        obx_consumer_start(bench->consumer, &err) != OBX_OK)
        bench_die("consumer", &err);
}

/* The tables are asked only when the consumer has done its part. */
static bool is_done(void *ctx)
{
    const struct bench *bench = ctx;
    struct obx_consumer_stats stats = {0};

    obx_consumer_get_stats(bench->consumer, &stats, sizeof(stats));
    return stats.acked >= bench->rows &&
           number(bench->db, "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM"
                             " outbox_awaiting)") == 0;
}

int main(int argc, char **argv)
{
    const struct proc_opts relay_opts = {.argv = command_after_dashes(argc, argv),
                                         .log_path = text_option(argc, argv, "--log", NULL)};
    struct bench bench = {.rows = number_option(argc, argv, "--rows", 0)};
    struct proc *relay = NULL;
    uint64_t start_us = 0;
    double seconds = 0;

    if (relay_opts.argv == NULL || bench.rows == 0)
        bench_die("usage: see the head of end_to_end.c", NULL);
    bench.db = bench_open_db("obx_bench");
    make_tables(bench.db);
    if (number(bench.db, "SELECT COUNT(*) FROM outbox") != bench.rows)
        bench_die("the outbox has another number of rows", NULL);
    start_consumer(&bench, text_option(argc, argv, "--queue", "obx-bench"));
    start_us = clock_now_us();
    relay = proc_start(&relay_opts);
    if (relay == NULL || !wait_until(TIMEOUT_MS, is_done, &bench))
        bench_die("not through in time", NULL);
    seconds = (double)(clock_now_us() - start_us) / US_PER_S;
    if (number(bench.db, "SELECT SUM(n) FROM bench_e2e") != bench.rows)
        bench_die("the sum is wrong: messages were lost or doubled", NULL);
    printf("rate %.0f\n", (double)bench.rows / seconds);
    obx_consumer_close(bench.consumer);
    proc_signal(relay, SIGTERM);
    if (!proc_wait(relay, RELAY_END_MS, NULL))
        fprintf(stderr, "bench: the relay did not end in time\n");
    proc_destroy(relay);
    db_close(bench.db);
    return 0;
}
