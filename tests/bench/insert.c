/*
 * insert_cost: transactions per second of an application with eight connections, each transaction
 * two small writes, without and with an INSERT into the outbox. Both kinds take turns of a few
 * seconds on the same connections. Prints one line a pair:
 *
 *     without_per_second with_per_second
 *
 * usage: bench_insert [--pairs N] [--turn-ms N] [--connections N] [--body N]
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench/numbers.h"

enum {
    CONNECTIONS_MAX = 64,
    BODY_MAX = 4096,
    ACCOUNTS = 1000, /* of each connection: no two wait for one row */
    US_PER_S = 1000000,
    US_PER_MS = 1000,
    MARGIN_PERCENT =
        10 /* at either end of a turn, not measured: the threads change over one by one */
};

struct turn {
    bool with_outbox;
    uint64_t begin_us; /* transactions that end in between are counted */
    uint64_t end_us;
    uint64_t over_us;
};

struct app {
    size_t body_len;
    struct turn turn;
    _Atomic uint64_t done;
};

struct client {
    struct app *app;
    struct db *db;
    uint32_t number;
    uint32_t next_account;
    pthread_t thread;
};

static void run_transaction(struct client *client)
{
    static const char body[BODY_MAX] = {0};
    const uint64_t account = client->number * ACCOUNTS + client->next_account++ % ACCOUNTS;
    const struct obx_bytes payload = {.p = body, .len = client->app->body_len};
    struct obx_err err = {0};
    enum obx_code rc = db_begin(client->db, &err);

    if (rc == OBX_OK)
        rc = db_exec(client->db, "UPDATE account SET orders = orders + 1 WHERE id = ?",
                     DB_ARGS(DB_U64(account)), NULL, &err);
    if (rc == OBX_OK)
        rc = db_exec(client->db, "INSERT INTO purchase (account, amount) VALUES (?, 3)",
                     DB_ARGS(DB_U64(account)), NULL, &err);
    if (rc == OBX_OK && client->app->turn.with_outbox)
        rc = db_exec(client->db, "INSERT INTO outbox (topic, payload) VALUES ('bench', ?)",
                     DB_ARGS(DB_BYTES(payload)), NULL, &err);
    if (rc == OBX_OK)
        rc = db_commit(client->db, &err);
    if (rc != OBX_OK)
        bench_die("transaction", &err);
}

static void *run_turn(void *arg)
{
    struct client *client = arg;
    struct app *app = client->app;

    for (uint64_t now_us = clock_now_us(); now_us < app->turn.over_us;) {
        run_transaction(client);
        now_us = clock_now_us();
        if (now_us >= app->turn.begin_us && now_us < app->turn.end_us)
            atomic_fetch_add(&app->done, 1);
    }
    db_thread_end();
    return NULL;
}

/* Transactions per second of one turn. */
static double measure(struct client *clients, uint64_t count, bool with_outbox, uint64_t turn_us)
{
    struct app *app = clients[0].app;
    uint64_t margin_us = turn_us * MARGIN_PERCENT / 100;
    uint64_t now_us = clock_now_us();

    app->turn = (struct turn){.with_outbox = with_outbox,
                              .begin_us = now_us + margin_us,
                              .end_us = now_us + turn_us - margin_us,
                              .over_us = now_us + turn_us};
    atomic_store(&app->done, 0);
    for (uint64_t i = 0; i < count; i++)
        if (pthread_create(&clients[i].thread, NULL, run_turn, &clients[i]) != 0)
            bench_die("thread", NULL);
    for (uint64_t i = 0; i < count; i++)
        pthread_join(clients[i].thread, NULL);
    return (double)atomic_load(&app->done) * US_PER_S / (double)(turn_us - 2 * margin_us);
}

static void exec(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec(db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static void make_tables(uint64_t connections)
{
    struct db *db = bench_open_db("obx_bench");
    struct obx_err err = {0};

    exec(db, "DROP TABLE IF EXISTS account, purchase");
    exec(db, "CREATE TABLE account (id BIGINT UNSIGNED PRIMARY KEY, orders INT NOT NULL)");
    exec(db, "CREATE TABLE purchase (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, "
             "account BIGINT UNSIGNED NOT NULL, amount INT NOT NULL)");
    for (uint64_t id = 0; id < connections * ACCOUNTS; id += ACCOUNTS)
        if (db_exec(db,
                    "INSERT INTO account WITH RECURSIVE n (i) AS "
                    "(SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) SELECT ? + i, 0 FROM n",
                    DB_ARGS(DB_U64(id)), NULL, &err) != OBX_OK)
            bench_die("accounts", &err);
    db_close(db);
}

int main(int argc, char **argv)
{
    static struct client clients[CONNECTIONS_MAX];
    static struct app app;
    const uint64_t pairs = number_option(argc, argv, "--pairs", 5);
    const uint64_t turn_us = number_option(argc, argv, "--turn-ms", 5000) * US_PER_MS;
    const uint64_t count = number_option(argc, argv, "--connections", 8);

    app.body_len = number_option(argc, argv, "--body", 256);
    if (count == 0 || count > CONNECTIONS_MAX || app.body_len > BODY_MAX || turn_us == 0)
        bench_die("usage: see the head of insert.c", NULL);
    make_tables(count);
    for (uint64_t i = 0; i < count; i++)
        clients[i] =
            (struct client){.app = &app, .db = bench_open_db("obx_bench"), .number = (uint32_t)i};
    measure(clients, count, false, turn_us / 2); /* warms the tables and the connections */
    measure(clients, count, true, turn_us / 2);
    for (uint64_t i = 0; i < pairs; i++) {
        /* The order changes from pair to pair, so that a drift does not favour one side. */
        double first = measure(clients, count, i % 2 == 1, turn_us);
        double second = measure(clients, count, i % 2 == 0, turn_us);

        printf("%.1f %.1f\n", i % 2 == 1 ? second : first, i % 2 == 1 ? first : second);
        fflush(stdout);
    }
    for (uint64_t i = 0; i < count; i++)
        db_close(clients[i].db);
    return 0;
}
