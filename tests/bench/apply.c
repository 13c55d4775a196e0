/*
 * How fast one consumer process applies messages, each with its dedup row and one small UPDATE.
 *
 * usage: bench_apply [--messages N] [--body BYTES] [--queue NAME] [--database NAME] [--keys N]
 * [--workers N]
 *                    [--batch N] [--fail-every N] [--poison-every N] [--one-per-commit]
 *                    [--partitions N] [--consumers N] [--ordered]
 *
 * Fills a fresh quorum queue, then applies all of it, and prints "rate <messages per second>", from
 * the first delivery to the last acknowledgement; then it waits for what failed meanwhile. With
 * --one-per-commit by the plain loop that is the yardstick, which rests on the bridge and the
 * database client only: BEGIN, dedup INSERT, UPDATE, COMMIT, acknowledgement, for each message.
 * --partitions shares the keys among so many queues, and --consumers applies them by so many
 * consumers; --ordered has the handler note the last number of each key and refuse an earlier one.
 * --fail-every makes the first attempt of every Nth message fail, --poison-every makes the handler
 * reject it. Servers come from the OBX_TEST_... variables; the database is made if need be.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply_plain.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/partition.h"
#include "bridge/publisher.h"
#include "bridge/topology.h"
#include "numbers.h"
#include "obx/consumer.h"
#include "sql/schema.h"
#include "support/broker.h"
#include "support/wait.h"

enum {
    DEFAULT_MESSAGES = 100000,
    DEFAULT_BODY = 256,
    DEFAULT_BATCH = 200,
    STOCK_ROWS = 100,
    TURN_MS = 20,
    NAME_MAX_LEN = 128,
    TIMEOUT_MS = 600000,
    CONSUMERS_MAX = 16,
};
#define US_PER_S 1e6

struct bench {
    struct apply_bench common;
    uint64_t body_len;
    uint64_t keys;
    uint64_t workers;
    uint64_t batch;
    uint64_t poison_every;
    uint64_t fail_every;
    uint64_t partitions; /* 0: one queue */
    uint64_t consumer_count;
    bool is_ordered;
    _Atomic uint64_t disorder; /* messages that came after a later one of their key */
    struct db_opts admin;      /* makes the tables; the consumer has an account of its own */
    bool is_single;
    bool is_many;
    char dead[NAME_MAX_LEN];
    uint64_t confirmed;
    _Atomic uint64_t first_us;
    struct obx_consumer *consumers[CONSUMERS_MAX];
};

static bool has_flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return false;
}

static const char *need(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL) {
        (void)fprintf(stderr, "bench: %s is not set; run: eval \"$(tests/support/servers env)\"\n",
                      name);
        exit(2);
    }
    return value;
}

static void read_options(struct bench *bench, int argc, char **argv)
{
    struct apply_bench *common = &bench->common;

    common->messages = number_option(argc, argv, "--messages", DEFAULT_MESSAGES);
    common->queue = text_option(argc, argv, "--queue", "obx-bench-apply");
    common->database = text_option(argc, argv, "--database", "obx_bench_apply");
    common->stock_rows = STOCK_ROWS;
    bench->body_len = number_option(argc, argv, "--body", DEFAULT_BODY);
    bench->keys = number_option(argc, argv, "--keys", 0);
    bench->workers = number_option(argc, argv, "--workers", 1);
    bench->batch = number_option(argc, argv, "--batch", DEFAULT_BATCH);
    bench->poison_every = number_option(argc, argv, "--poison-every", 0);
    bench->fail_every = number_option(argc, argv, "--fail-every", 0);
    bench->partitions = number_option(argc, argv, "--partitions", 0);
    bench->consumer_count = number_option(argc, argv, "--consumers", 1);
    bench->is_ordered = has_flag(argc, argv, "--ordered");
    if (bench->partitions > PARTITIONS_MAX || bench->consumer_count > CONSUMERS_MAX ||
        bench->consumer_count == 0 || (bench->is_ordered && bench->keys > STOCK_ROWS))
        bench_die("usage: see the head of apply.c", NULL);
    bench->is_single = has_flag(argc, argv, "--one-per-commit");
    bench->is_many = has_flag(argc, argv, "--many");
    (void)snprintf(bench->dead, sizeof(bench->dead), "%s.dead", common->queue);
    (void)snprintf(common->address, sizeof(common->address), "%s:%s", need("OBX_TEST_AMQP_HOST"),
                   need("OBX_TEST_AMQP_PORT"));
    common->broker = (struct bridge_opts){.addresses = common->address,
                                          .vhost = need("OBX_TEST_AMQP_VHOST"),
                                          .user = need("OBX_TEST_AMQP_USER"),
                                          .password = need("OBX_TEST_AMQP_PASSWORD"),
                                          .connection_name = "bench_apply"};
    bench->admin = (struct db_opts){.host = need("OBX_TEST_DB_HOST"),
                                    .port = (uint16_t)strtoul(need("OBX_TEST_DB_PORT"), NULL, 10),
                                    .user = "root",
                                    .password = need("OBX_TEST_DB_ROOT_PASSWORD"),
                                    .tls = DB_TLS_DISABLED,
                                    .program_name = "bench_apply"};
    common->db = bench->admin;
    common->db.database = common->database;
    if (getenv("OBX_TEST_CONSUMER_PASSWORD") != NULL) {
        common->db.user = "obx_bench_consumer";
        common->db.password = getenv("OBX_TEST_CONSUMER_PASSWORD");
    }
}

/* ------------------------------------------------------------------ the table and the queue */

static void run_sql(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec_text(db, bytes_of(sql), NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static void make_tables(struct bench *bench)
{
    struct obx_err err = {0};
    struct db *db = NULL;
    char sql[NAME_MAX_LEN * 2];

    if (db_open(&bench->admin, &db, &err) != OBX_OK)
        bench_die("connect", &err);
    (void)snprintf(sql, sizeof(sql), "CREATE DATABASE IF NOT EXISTS %s", bench->common.database);
    run_sql(db, sql);
    (void)snprintf(sql, sizeof(sql), "USE %s", bench->common.database);
    run_sql(db, sql);
    if (schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK)
        bench_die("schema", &err);
    run_sql(db, "TRUNCATE TABLE inbox_applied");
    run_sql(db, "TRUNCATE TABLE inbox_parked");
    run_sql(db, "CREATE TABLE IF NOT EXISTS bench_stock (id INT PRIMARY KEY, n BIGINT NOT NULL)"
                " ENGINE=InnoDB");
    run_sql(db, "DELETE FROM bench_stock");
    for (int i = 0; i < STOCK_ROWS; i++) {
        (void)snprintf(sql, sizeof(sql), "INSERT INTO bench_stock VALUES (%d, 0)", i);
        run_sql(db, sql);
    }
    db_close(db);
}

static const char *partition_queue(const struct bench *bench, unsigned partition)
{
    static char names[PARTITIONS_MAX][NAME_MAX_LEN];

    (void)snprintf(names[partition], NAME_MAX_LEN, "%s.%u", bench->common.queue, partition);
    return names[partition];
}

static void make_queues(struct bench *bench)
{
    static const struct topology_arg limit = {.name = "x-delivery-limit", .number = INT32_MAX};
    struct topology_queue queues[PARTITIONS_MAX + 2] = {
        {.name = bench->common.queue, .args = &limit, .arg_count = 1},
        {.name = bench->dead, .args = &limit, .arg_count = 1},
    };
    struct topology topology = {.queues = queues, .queue_count = 2};
    struct obx_err err = {0};

    for (unsigned i = 0; i < bench->partitions; i++)
        queues[topology.queue_count++] = (struct topology_queue){.name = partition_queue(bench, i),
                                                                 .single_active_consumer = true,
                                                                 .args = &limit,
                                                                 .arg_count = 1};
    if (bridge_topology_apply(&bench->common.broker, &topology, TOPOLOGY_DECLARE, &err) != OBX_OK)
        bench_die("queue", &err);
}

/* What a round that was given up has left would be counted with this one's. */
static void purge_queues(const struct bench *bench)
{
    struct broker broker;
    struct broker_admin *admin = NULL;

    if (!broker_from_env(&broker))
        bench_die("broker", NULL);
    admin = broker_admin_open(&broker);
    broker_purge(admin, bench->common.queue);
    broker_purge(admin, bench->dead);
    for (unsigned i = 0; i < bench->partitions; i++)
        broker_purge(admin, partition_queue(bench, i));
    broker_admin_close(admin);
}

/* ------------------------------------------------------------------ filling */

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct bench *bench = ctx;

    (void)token;
    (void)why;
    if (outcome != PUB_CONFIRMED)
        bench_die(pub_outcome_name(outcome), NULL);
    bench->confirmed++;
}

static void publish(struct bench *bench, struct bridge_publisher *pub, uint64_t run, uint64_t n,
                    struct obx_bytes body)
{
    char id[NAME_MAX_LEN];
    char key[NAME_MAX_LEN];
    struct obx_header header = {.name = bytes_of("cloudEvents:partitionkey"), .type = OBX_H_TEXT};
    struct bridge_message msg = {.exchange = bytes_of(""),
                                 .routing_key = bytes_of(bench->common.queue),
                                 .message_id = {id, 0},
                                 .headers = &header,
                                 .header_count = bench->keys > 0 ? 1 : 0,
                                 .body = body};
    struct obx_err err = {0};

    /* As long as a UUID, growing as the relay's ids do. */
    msg.message_id.len = (size_t)snprintf(id, sizeof(id), "%016llx-%019llu",
                                          (unsigned long long)run, (unsigned long long)n);
    (void)snprintf(key, sizeof(key), "key-%llu",
                   (unsigned long long)(bench->keys > 0 ? n % bench->keys : 0));
    header.v.text = bytes_of(key);
    if (bench->partitions > 0) /* as the relay does it */
        msg.routing_key = bytes_of(
            partition_queue(bench, partition_of(header.v.text, (unsigned)bench->partitions)));
    if (bridge_publisher_publish(pub, &msg, n, &err) != OBX_OK)
        bench_die("publish", &err);
}

static void turn(struct bridge_publisher *pub)
{
    struct pollfd fd = {0};

    bridge_publisher_service(pub);
    fd = (struct pollfd){.fd = bridge_publisher_fd(pub), .events = POLLIN};
    if (bridge_publisher_room(pub) == 0)
        (void)poll(&fd, 1, TURN_MS);
}

static void fill(struct bench *bench)
{
    const struct bridge_publisher_opts opts = {
        .bridge = bench->common.broker, .on_result = on_result, .ctx = bench};
    struct bridge_publisher *pub = NULL;
    struct obx_err err = {0};
    char *body = calloc(1, bench->body_len + 1);
    uint64_t run = clock_wall_us();
    uint64_t n = 0;

    if (body == NULL || bridge_publisher_create(&opts, &pub, &err) != OBX_OK)
        bench_die("publisher", &err);
    memset(body, 'x', bench->body_len);
    while (bench->confirmed < bench->common.messages) {
        turn(pub);
        while (n < bench->common.messages && bridge_publisher_room(pub) > 0)
            publish(bench, pub, run, n++, (struct obx_bytes){body, bench->body_len});
    }
    bridge_publisher_destroy(pub);
    free(body);
}

/* ------------------------------------------------------------------ the library */

/* Numbers grow within a key: a row that is not below is one that a later message has written. */
static enum obx_verdict note_order(struct bench *bench, uint64_t number, struct obx_tx *tx)
{
    uint64_t changed = 0;

    if (obx_tx_exec(
            tx, "UPDATE bench_stock SET n = ? WHERE id = ? AND n < ?",
            OBX_ARGS(obx_u64(number + 1), obx_u64(number % bench->keys), obx_u64(number + 1)),
            &changed, NULL) != OBX_OK)
        return OBX_RETRY;
    if (changed != 1)
        atomic_fetch_add(&bench->disorder, 1);
    return OBX_APPLIED;
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct bench *bench = ctx;
    uint64_t number = apply_number(msg->message_id);
    uint64_t none = 0;

    (void)atomic_compare_exchange_strong(&bench->first_us, &none, clock_now_us());
    if (bench->is_ordered)
        return note_order(bench, number, tx);
    if (obx_tx_exec(tx, APPLY_UPDATE, OBX_ARGS(obx_u64(number % STOCK_ROWS)), NULL, NULL) != OBX_OK)
        return OBX_RETRY;
    if (bench->poison_every != 0 && number % bench->poison_every == 0)
        return OBX_REJECT;
    if (bench->fail_every != 0 && number % bench->fail_every == 0 && msg->attempt == 1)
        return OBX_RETRY;
    return OBX_APPLIED;
}

/* One upsert for the batch: a row for each article, whose messages are added up first. */
static enum obx_verdict handle_many(const struct obx_message *const *messages, size_t count,
                                    struct obx_tx *tx, void *ctx)
{
    struct bench *bench = ctx;
    uint64_t added[STOCK_ROWS] = {0};
    uint64_t none = 0;
    char sql[STOCK_ROWS * 64];
    size_t used = 0;
    const char *comma = "";

    (void)atomic_compare_exchange_strong(&bench->first_us, &none, clock_now_us());
    for (size_t i = 0; i < count; i++)
        added[apply_number(messages[i]->message_id) % STOCK_ROWS]++;
    used = (size_t)snprintf(sql, sizeof(sql), "INSERT INTO bench_stock (id, n) VALUES ");
    for (size_t id = 0; id < STOCK_ROWS; id++) {
        if (added[id] == 0)
            continue;
        used += (size_t)snprintf(sql + used, sizeof(sql) - used, "%s(%zu,%llu)", comma, id,
                                 (unsigned long long)added[id]);
        comma = ",";
    }
    (void)snprintf(sql + used, sizeof(sql) - used, " ON DUPLICATE KEY UPDATE n = n + VALUES(n)");
    return obx_tx_exec(tx, sql, OBX_NO_ARGS, NULL, NULL) == OBX_OK ? OBX_APPLIED : OBX_RETRY;
}

/* Of all consumers together. */
static struct obx_consumer_stats sum_stats(const struct bench *bench)
{
    struct obx_consumer_stats sum = {0};

    for (uint64_t i = 0; i < bench->consumer_count; i++) {
        struct obx_consumer_stats one = {0};

        obx_consumer_get_stats(bench->consumers[i], &one, sizeof(one));
        sum.acked += one.acked;
        sum.applied += one.applied;
        sum.dead += one.dead;
        sum.commits += one.commits;
        sum.batches += one.batches;
        sum.reruns += one.reruns;
        sum.parked += one.parked;
    }
    return sum;
}

static bool is_done(void *ctx)
{
    const struct bench *bench = ctx;

    return sum_stats(bench).acked >= bench->common.messages;
}

static bool is_all_applied(void *ctx)
{
    const struct bench *bench = ctx;
    const struct obx_consumer_stats stats = sum_stats(bench);

    return stats.applied + stats.dead >= bench->common.messages;
}

static void print_stats(const struct bench *bench)
{
    const struct obx_consumer_stats stats = sum_stats(bench);

    (void)fprintf(stderr, "commits %llu batches %llu reruns %llu parked %llu dead %llu\n",
                  (unsigned long long)stats.commits, (unsigned long long)stats.batches,
                  (unsigned long long)stats.reruns, (unsigned long long)stats.parked,
                  (unsigned long long)stats.dead);
}

static enum obx_code subscribe(struct bench *bench, struct obx_consumer *consumer,
                               struct obx_err *err)
{
    return bench->is_many ? obx_consumer_subscribe_batch(consumer, handle_many, bench, err)
                          : obx_consumer_subscribe(consumer, handle, bench, err);
}

static double run_library(struct bench *bench)
{
    const struct apply_bench *common = &bench->common;
    const struct obx_consumer_opts opts = {
        .size = sizeof(opts),
        .group = "bench",
        .queue = common->queue,
        .broker_addresses = common->address,
        .broker_vhost = common->broker.vhost,
        .broker_user = common->broker.user,
        .broker_password = common->broker.password,
        .db_host = common->db.host,
        .db_port = common->db.port,
        .db_user = common->db.user,
        .db_password = common->db.password,
        .db_name = common->database,
        .db_tls = OBX_DB_TLS_DISABLED,
        .workers = (uint32_t)bench->workers,
        .batch_max = (uint32_t)bench->batch,
        .partitions = (uint32_t)bench->partitions,
    };
    struct obx_err err = {0};
    uint64_t took_us = 0;

    for (uint64_t i = 0; i < bench->consumer_count; i++)
        if (obx_consumer_open(&opts, &bench->consumers[i], &err) != OBX_OK ||
            subscribe(bench, bench->consumers[i], &err) != OBX_OK ||
            obx_consumer_start(bench->consumers[i], &err) != OBX_OK)
            bench_die("consumer", &err);
    if (!wait_until(TIMEOUT_MS, is_done, bench))
        bench_die("not applied in time", NULL);
    took_us = clock_now_us() - atomic_load(&bench->first_us);
    if (!wait_until(TIMEOUT_MS, is_all_applied, bench))
        bench_die("what failed was not applied in time", NULL);
    print_stats(bench);
    for (uint64_t i = 0; i < bench->consumer_count; i++)
        obx_consumer_close(bench->consumers[i]);
    if (atomic_load(&bench->disorder) > 0)
        bench_die("a message was applied after a later one of its key", NULL);
    return (double)common->messages * US_PER_S / (double)took_us;
}

/* ------------------------------------------------------------------ the whole */

static void check_sum(struct bench *bench)
{
    struct db *db = NULL;
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t expected = bench->common.messages;

    if (bench->poison_every != 0)
        expected -= (expected + bench->poison_every - 1) / bench->poison_every;
    if (db_open(&bench->common.db, &db, &err) != OBX_OK ||
        db_query(db, "SELECT SUM(n) FROM bench_stock", DB_NO_ARGS, &rows, &err) != OBX_OK)
        bench_die("sum", &err);
    if (!db_rows_next(rows) || db_rows_u64(rows, 0) != expected)
        bench_die("the sum is wrong: messages were lost or doubled", NULL);
    db_rows_free(rows);
    db_close(db);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    double rate = 0;

    read_options(&bench, argc, argv);
    make_tables(&bench);
    make_queues(&bench);
    purge_queues(&bench);
    fill(&bench);
    rate = bench.is_single ? apply_plain(&bench.common) : run_library(&bench);
    if (!bench.is_ordered)
        check_sum(&bench);
    printf("rate %.0f\n", rate);
    return 0;
}
