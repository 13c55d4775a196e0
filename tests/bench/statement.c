/*
 * What the server's own work for one INSERT is: its time over one connection, many in a transaction,
 * less that of a statement that does nothing. Prints
 *
 *     server_us insert_us nothing_us
 *
 * each the median over the rounds, in microseconds a statement.
 *
 * usage: bench_statement outbox|barrier [--rounds N]
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "bench/numbers.h"

enum { ROUND = 1000, ROUNDS_MAX = 1000, BODY = 256, ID_SIZE = 64, MEDIAN = 50 };
#define NS_PER_US 1000.0

static void must(enum obx_code rc, const char *what, const struct obx_err *err)
{
    if (rc != OBX_OK)
        bench_die(what, err);
}

static void run_one(struct db *db, const char *kind, uint64_t number)
{
    static const char body[BODY] = {0};
    struct obx_err err = {0};
    char gid[ID_SIZE];

    (void)snprintf(gid, sizeof(gid), "s-%u-%" PRIu64, (unsigned)getpid(), number);
    if (strcmp(kind, "outbox") == 0)
        must(db_exec(db, "INSERT INTO outbox (topic, payload) VALUES ('bench', ?)",
                     DB_ARGS(DB_BYTES(((struct obx_bytes){body, sizeof(body)}))), NULL, &err),
             "outbox", &err);
    else if (strcmp(kind, "barrier") == 0)
        must(db_exec(db, "INSERT INTO half_barrier (gid) VALUES (?)", DB_ARGS(DB_TEXT(gid)), NULL,
                     &err),
             "barrier", &err);
    else
        must(db_exec(db, "DO ?", DB_ARGS(DB_TEXT(gid)), NULL, &err), "nothing", &err);
}

/* Nanoseconds a statement; the commit is not measured. */
static uint64_t run_round(struct db *db, const char *kind, uint64_t *number)
{
    struct obx_err err = {0};
    uint64_t began_us = 0, took_us = 0;

    must(db_begin(db, &err), "begin", &err);
    began_us = clock_now_us();
    for (int i = 0; i < ROUND; i++)
        run_one(db, kind, (*number)++);
    took_us = clock_now_us() - began_us;
    must(db_commit(db, &err), "commit", &err);
    return took_us * 1000 / ROUND;
}

int main(int argc, char **argv)
{
    static uint64_t insert_ns[ROUNDS_MAX], nothing_ns[ROUNDS_MAX], server_ns[ROUNDS_MAX];
    const char *kind = argc > 1 ? argv[1] : "";
    const uint64_t rounds = number_option(argc, argv, "--rounds", 20);
    struct db *db = NULL;
    uint64_t number = 0;

    if ((strcmp(kind, "outbox") != 0 && strcmp(kind, "barrier") != 0) || rounds > ROUNDS_MAX)
        bench_die("usage: see the head of statement.c", NULL);
    db = bench_open_db("obx_bench");
    (void)run_round(db, kind, &number); /* prepares the statements, warms the table */
    (void)run_round(db, "nothing", &number);
    for (uint64_t i = 0; i < rounds; i++) {
        nothing_ns[i] = run_round(db, "nothing", &number);
        insert_ns[i] = run_round(db, kind, &number);
        server_ns[i] = insert_ns[i] > nothing_ns[i] ? insert_ns[i] - nothing_ns[i] : 0;
    }
    printf("%.2f %.2f %.2f\n", (double)percentile(server_ns, rounds, MEDIAN) / NS_PER_US,
           (double)percentile(insert_ns, rounds, MEDIAN) / NS_PER_US,
           (double)percentile(nothing_ns, rounds, MEDIAN) / NS_PER_US);
    db_close(db);
    return 0;
}
