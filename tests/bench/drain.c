/*
 * relay_drain, relay_memory, backlog_growth: how long a relay takes for the first rows of an
 * outbox, from the start of the process until the last of them is deleted, connecting and taking
 * the lease included. Prints
 *
 *     rows seconds rows_per_second peak_rss_kib round_trip_us
 *
 * With --far the database is so many milliseconds away from the relay, whose configuration calls
 * its source bench: a proxy holds back what the relay sends. The last value is what an empty
 * statement takes over that way.
 *
 * usage: bench_drain [--rows N] [--table NAME] [--timeout SECONDS] [--far MS] [--log FILE] -- RELAY
 * ARGUMENT...
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "bench/numbers.h"
#include "cut_proxy.h"
#include "process.h"
#include "wait.h"

enum { RELAY_END_MS = 30000, MS_PER_S = 1000, US_PER_S = 1000000, PINGS = 100 };

struct slice {
    struct db *db;
    struct proc *relay;
    const char *table;
    uint64_t last_id;
};

/* The statement has one number in it. Prepared once, so that asking costs the server little. */
static uint64_t query_number(struct db *db, const char *sql, uint64_t number)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t value = 0;

    if (db_query(db, sql, DB_ARGS(DB_U64(number)), &rows, &err) != OBX_OK)
        bench_die(sql, &err);
    if (db_rows_next(rows))
        value = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return value;
}

/* The id of the last of the first `rows` rows. */
static uint64_t last_of_slice(struct db *db, const char *table, uint64_t rows)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT id FROM `%s` ORDER BY id LIMIT ?, 1", table);
    return query_number(db, sql, rows - 1);
}

/* The last row of the slice is looked at first, which costs next to nothing; the range only when
 * that one is gone. */
static bool is_drained(void *ctx)
{
    const struct slice *slice = ctx;
    char sql[256];

    if (!proc_is_alive(slice->relay))
        bench_die("the relay ended by itself, see its log", NULL);
    snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM `%s` WHERE id = ?", slice->table);
    if (query_number(slice->db, sql, slice->last_id) != 0)
        return false;
    snprintf(sql, sizeof(sql),
             "SELECT COUNT(*) FROM (SELECT id FROM `%s` WHERE id <= ? LIMIT 1) left_over",
             slice->table);
    return query_number(slice->db, sql, slice->last_id) == 0;
}

static uint64_t peak_rss_kib(pid_t pid)
{
    char line[256];
    uint64_t kib = 0;
    FILE *status = NULL;

    snprintf(line, sizeof(line), "/proc/%d/status", (int)pid);
    status = fopen(line, "r");
    if (status == NULL)
        bench_die("the relay is gone", NULL);
    while (fgets(line, sizeof(line), status) != NULL)
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1)
            break;
    fclose(status);
    return kib;
}

/* The proxy that stands between relay and database, or NULL. */
static struct cut_proxy *far_proxy(int64_t far_ms)
{
    const char *port = getenv("OBX_TEST_DB_PORT");
    const char *host = getenv("OBX_TEST_DB_HOST");
    struct cut_proxy *proxy = NULL;

    if (far_ms == 0)
        return NULL;
    if (host == NULL || port == NULL)
        bench_die("the servers are not known", NULL);
    proxy = cut_proxy_create(host, (uint16_t)strtoul(port, NULL, 10));
    if (proxy == NULL)
        bench_die("no proxy", NULL);
    cut_proxy_set_delay(proxy, CUT_TO_SERVER, far_ms);
    return proxy;
}

/* The environment is what the relay and bench_open_db go by. */
static void set_number(const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    if (setenv(name, text, 1) != 0)
        bench_die(name, NULL);
}

static double round_trip_us(void)
{
    struct db *db = bench_open_db("obx_bench");
    uint64_t start_us = clock_now_us();

    for (uint64_t i = 0; i < PINGS; i++)
        (void)query_number(db, "SELECT ?", i);
    start_us = clock_now_us() - start_us;
    db_close(db);
    return (double)start_us / PINGS;
}

int main(int argc, char **argv)
{
    const uint64_t rows = number_option(argc, argv, "--rows", 100000);
    const int64_t far_ms = (int64_t)number_option(argc, argv, "--far", 0);
    const int64_t timeout_s = (int64_t)number_option(argc, argv, "--timeout", 900);
    const struct proc_opts relay_opts = {.argv = command_after_dashes(argc, argv),
                                         .log_path = text_option(argc, argv, "--log", NULL)};
    struct slice slice = {.table = text_option(argc, argv, "--table", "outbox")};
    struct cut_proxy *proxy = far_proxy(far_ms);
    uint64_t start_us = 0;
    double seconds = 0;
    double trip_us = 0;

    if (relay_opts.argv == NULL || rows == 0)
        bench_die("usage: see the head of drain.c", NULL);
    slice.db = bench_open_db("obx_bench");
    slice.last_id = last_of_slice(slice.db, slice.table, rows);
    if (slice.last_id == 0)
        bench_die("the outbox has fewer rows than --rows", NULL);
    if (proxy != NULL) {
        set_number("OBX_SOURCE_BENCH_PORT", cut_proxy_port(proxy));
        set_number("OBX_TEST_DB_PORT", cut_proxy_port(proxy));
    }
    trip_us = round_trip_us();
    start_us = clock_now_us();
    slice.relay = proc_start(&relay_opts);
    if (slice.relay == NULL || !wait_until(timeout_s * MS_PER_S, is_drained, &slice))
        bench_die("the relay did not drain the outbox in time", NULL);
    seconds = (double)(clock_now_us() - start_us) / US_PER_S;
    printf("%" PRIu64 " %.3f %.1f %" PRIu64 " %.0f\n", rows, seconds, (double)rows / seconds,
           peak_rss_kib(proc_pid(slice.relay)), trip_us);
    proc_signal(slice.relay, SIGTERM);
    if (!proc_wait(slice.relay, RELAY_END_MS, NULL))
        fprintf(stderr, "bench: the relay did not end in time\n");
    proc_destroy(slice.relay);
    cut_proxy_destroy(proxy);
    db_close(slice.db);
    return 0;
}
