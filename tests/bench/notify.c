/*
 * notify_rate: calls a second of inbox-relay to a fast endpoint in this process, of notifications
 * that are recorded already: from the first call to the moment when the last result is written.
 * Prints
 *
 *     calls seconds calls_per_second
 *
 * usage: bench_notify [--calls N] [--concurrency N] [--log FILE] --config FILE -- inbox-relay
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/numbers.h"
#include "endpoint.h"
#include "process.h"
#include "wait.h"

enum { SQL_MAX = 512, US_PER_S = 1000000, MS_PER_S = 1000, END_MS = 30000, BODY_LEN = 256 };

struct bench {
    struct db *db;
    struct endpoint *endpoint;
    uint64_t calls;
};

static void answer(const char *path, struct endpoint_answer *out, void *ctx)
{
    (void)path;
    (void)ctx;
    out->status = 204;
}

static void run(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec(db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static void fill(const struct bench *bench)
{
    char sql[SQL_MAX];

    run(bench->db, "TRUNCATE TABLE inbox_call");
    run(bench->db, "DELETE FROM inbox_lease");
    snprintf(sql, sizeof(sql),
             "INSERT INTO inbox_call (consumer_group, endpoint, due_at, message_id, topic,"
             " content_type, body) SELECT 'notify', 'bench', UTC_TIMESTAMP(6), CONCAT('m-', seq),"
             " 'order.placed', 'application/json', REPEAT('x', %d) FROM seq_1_to_%" PRIu64,
             BODY_LEN, bench->calls);
    run(bench->db, sql);
}

static void write_config(const char *path, uint16_t port, uint64_t concurrency)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        bench_die(path, NULL);
    fprintf(file, "[notify]\nhttp_port = 0\n[broker]\naddresses = %s:%s\nvhost = %s\nuser = %s\n",
            getenv("OBX_TEST_AMQP_HOST"), getenv("OBX_TEST_AMQP_PORT"),
            getenv("OBX_TEST_AMQP_VHOST"), getenv("OBX_TEST_AMQP_USER"));
    fprintf(file, "password = %s\nqueue = obx-bench-notify\nexchange = obx-bench-notify\n",
            getenv("OBX_TEST_AMQP_PASSWORD"));
    fprintf(file, "[database]\nhost = %s\nport = %s\nuser = %s\npassword = %s\n",
            getenv("OBX_TEST_DB_HOST"), getenv("OBX_TEST_DB_PORT"), getenv("OBX_TEST_DB_USER"),
            getenv("OBX_TEST_DB_PASSWORD"));
    fprintf(file,
            "database = obx_bench\n[endpoint bench]\nurl = http://127.0.0.1:%u/hook\n"
            "topics = #\nsecrets = a-secret-of-the-bench\nconcurrency = %" PRIu64 "\n",
            port, concurrency);
    if (fclose(file) != 0)
        bench_die(path, NULL);
}

static bool has_begun(void *ctx)
{
    const struct bench *bench = ctx;

    return endpoint_requests(bench->endpoint) > 0;
}

/* The table is asked only when the endpoint has seen them all. */
static bool is_over(void *ctx)
{
    const struct bench *bench = ctx;
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    bool is_empty;

    if (endpoint_requests(bench->endpoint) < bench->calls)
        return false;
    if (db_query(bench->db,
                 "SELECT 1 FROM inbox_call WHERE consumer_group = 'notify' AND"
                 " endpoint = 'bench' AND state = 'waiting' LIMIT 1",
                 DB_NO_ARGS, &rows, &err) != OBX_OK)
        bench_die("rows that wait", &err);
    is_empty = !db_rows_next(rows);
    db_rows_free(rows);
    return is_empty;
}

int main(int argc, char **argv)
{
    const char *const *program = command_after_dashes(argc, argv);
    const char *config = text_option(argc, argv, "--config", NULL);
    const char *log = text_option(argc, argv, "--log", NULL);
    const char *const notify[] = {program == NULL ? "" : program[0], "--config", config, NULL};
    const struct proc_opts opts = {.argv = notify, .log_path = log};
    struct bench bench = {.calls = number_option(argc, argv, "--calls", 20000)};
    struct proc *proc;
    uint64_t start_us;
    double seconds;

    if (program == NULL || config == NULL)
        bench_die("usage: see the head of notify.c", NULL);
    bench.db = bench_open_db("obx_bench");
    bench.endpoint = endpoint_create(answer, &bench);
    fill(&bench);
    write_config(config, endpoint_port(bench.endpoint),
                 number_option(argc, argv, "--concurrency", 64));
    proc = proc_start(&opts);
    if (proc == NULL || !wait_until(60 * (int64_t)MS_PER_S, has_begun, &bench))
        bench_die("no call is made", NULL);
    start_us = clock_now_us();
    if (!wait_until(600 * (int64_t)MS_PER_S, is_over, &bench))
        bench_die("not all calls were made in time", NULL);
    seconds = (double)(clock_now_us() - start_us) / US_PER_S;
    printf("%" PRIu64 " %.3f %.1f\n", bench.calls, seconds, (double)bench.calls / seconds);
    proc_signal(proc, SIGTERM);
    if (!proc_wait(proc, END_MS, NULL))
        fprintf(stderr, "bench: inbox-relay did not end in time\n");
    proc_destroy(proc);
    run(bench.db, "TRUNCATE TABLE inbox_call");
    endpoint_destroy(bench.endpoint);
    db_close(bench.db);
    return 0;
}
