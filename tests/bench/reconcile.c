/*
 * reconcile_rate: how many messages a second are compared, a source's journal against a consumer's
 * dedup rows, both in obx_bench. Prints
 *
 *     messages seconds messages_per_second
 *
 * usage: bench_reconcile [--messages N]
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "bench/numbers.h"
#include "outboxctl/reconcile/reconcile.h"

enum { US_PER_S = 1000000, SQL_MAX = 600, PORTION = 100000 };
#define START_US 1700000000000000ULL

static void run(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec(db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

/* Ids as the outbox gives them, a millisecond apart, published long ago; and all applied. */
static void fill(struct db *db, uint64_t messages)
{
    char sql[SQL_MAX];

    run(db, "TRUNCATE TABLE outbox_journal");
    run(db, "TRUNCATE TABLE inbox_applied");
    for (uint64_t done = 0; done < messages; done += PORTION) {
        uint64_t last = done + PORTION < messages ? done + PORTION : messages;

        snprintf(sql, sizeof(sql),
                 "INSERT INTO outbox_journal SELECT 0, CONCAT(INSERT(LPAD(LOWER(HEX("
                 "1700000000000 + seq)), 12, '0'), 9, 0, '-'), '-7000-a000-', LPAD(seq, 12, '0')),"
                 " 'outbox', 'order.placed', TIMESTAMPADD(MICROSECOND, seq * 1000,"
                 " '2023-11-14 22:13:20.000000'), '2023-12-01' FROM seq_%" PRIu64 "_to_%" PRIu64,
                 done + 1, last);
        run(db, sql);
    }
    run(db, "INSERT INTO inbox_applied (consumer_group, message_id)"
            " SELECT 'bench', message_id FROM outbox_journal");
}

int main(int argc, char **argv)
{
    const uint64_t messages = number_option(argc, argv, "--messages", 1000000);
    struct reconcile_opts opts = {.source = bench_open_db("obx_bench"),
                                  .consumer = bench_open_db("obx_bench"),
                                  .source_scan = bench_open_db("obx_bench"),
                                  .consumer_scan = bench_open_db("obx_bench"),
                                  .group = "bench",
                                  .from_us = START_US,
                                  .to_us = START_US + (messages + 1) * 1000,
                                  .outboxes = {"outbox"},
                                  .outbox_count = 1};
    struct reconcile_result result;
    struct obx_err err = {0};
    uint64_t start_us;
    double seconds;

    fill(opts.source, messages);
    start_us = clock_now_us();
    if (reconcile_run(&opts, &result, &err) != OBX_OK)
        bench_die("reconcile", &err);
    seconds = (double)(clock_now_us() - start_us) / US_PER_S;
    if (result.compared != messages || result.applied != messages)
        bench_die("the comparison is wrong", NULL);
    printf("%" PRIu64 " %.3f %.1f\n", messages, seconds, (double)messages / seconds);
    run(opts.source, "TRUNCATE TABLE outbox_journal");
    run(opts.source, "TRUNCATE TABLE inbox_applied");
    db_close(opts.source);
    db_close(opts.consumer);
    db_close(opts.source_scan);
    db_close(opts.consumer_scan);
    return 0;
}
