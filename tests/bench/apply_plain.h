/* The yardstick of bench_apply: one commit per message, by the plain loop that one would write. */
#ifndef BENCH_APPLY_PLAIN_H
#define BENCH_APPLY_PLAIN_H

#include "bridge/bridge.h"
#include "sql/db.h"

#define APPLY_UPDATE "UPDATE bench_stock SET n = n + 1 WHERE id = ?"

struct apply_bench {
    struct bridge_opts broker;
    struct db_opts db;
    char address[128];
    const char *queue;
    const char *database;
    uint64_t messages;
    uint64_t stock_rows;
};

/** The number at the end of a message id. */
uint64_t apply_number(struct obx_bytes id);
/** Apply all; messages per second. */
double apply_plain(const struct apply_bench *bench);

#endif
