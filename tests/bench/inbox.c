/*
 * The inbox figures. One thing a call:
 *
 *     bench_inbox store --messages N --log FILE -- INBOX-RELAY ARGUMENT...
 *         messages per second from a queue that has them into the table
 *     bench_inbox fill --rows N [--hot 1]
 *         as many rows as inbox-relay stores them; --hot: every second one is of one key
 *     bench_inbox work | plain --messages N
 *         commits per second of 4 connections: take, a small UPDATE, done; or the UPDATE alone
 *     bench_inbox take --messages N
 *         takes per second of one connection, 50 to a transaction, each with its done
 *     bench_inbox listen --socket PATH
 *         a worker that waits for datagrams and polls once a second, until it is ended
 *     bench_inbox latency --messages N --doorbell PATH --sockets DIRECTORY
 *         p50_us p99_us from the commit of an outbox row to the commit of the worker's effect
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "bench/numbers.h"
#include "inbox_contract.h"
#include "process.h"
#include "wait.h"

enum {
    CONNECTIONS = 4,
    STOCK = 1000,
    PER_COMMIT = 50,
    FILL_CHUNK = 1000,
    US_PER_S = 1000000,
    NS_PER_US = 1000,
    POLL_MS = 1000,
    END_MS = 60000,
    DECIMAL = 10
};

static const char queue[] = "bench";
static const char sql_update[] = "UPDATE bench_stock SET n = n + 1 WHERE id = ?";

static void check(enum obx_code rc, const char *what, const struct obx_err *err)
{
    if (rc != OBX_OK)
        bench_die(what, err);
}

static void run_sql(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    check(db_exec_text(db, bytes_of(sql), NULL, &err), sql, &err);
}

static uint64_t ask(struct db *db, const char *sql)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t number;

    check(db_query(db, sql, DB_NO_ARGS, &rows, &err), sql, &err);
    number = db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return number;
}

/* ------------------------------------------------------------------ store */

struct stored {
    struct db *db;
    uint64_t wanted;
};

static bool are_stored(void *ctx)
{
    const struct stored *stored = ctx;

    return ask(stored->db, "SELECT COALESCE(MAX(id), 0) FROM inbox") >= stored->wanted;
}

static int measure_store(int argc, char **argv)
{
    struct db *db = bench_open_db("obx_bench");
    struct stored stored = {.db = db, .wanted = 1};
    const uint64_t messages = number_option(argc, argv, "--messages", 0);
    const struct proc_opts opts = {.argv = command_after_dashes(argc, argv),
                                   .log_path = text_option(argc, argv, "--log", NULL)};
    struct proc *relay = NULL;
    uint64_t begun_us, first;

    run_sql(db, "TRUNCATE inbox");
    run_sql(db, "TRUNCATE inbox_applied");
    relay = proc_start(&opts);
    if (relay == NULL || !wait_until(END_MS, are_stored, &stored))
        bench_die("nothing was stored", NULL);
    begun_us = clock_now_us();
    first = ask(db, "SELECT MAX(id) FROM inbox");
    stored.wanted = messages;
    if (!wait_until(10 * END_MS, are_stored, &stored))
        bench_die("not all were stored", NULL);
    printf("%.1f\n", (double)(messages - first) * US_PER_S / (double)(clock_now_us() - begun_us));
    (void)proc_signal(relay, SIGTERM);
    (void)proc_wait(relay, END_MS, NULL);
    proc_destroy(relay);
    db_close(db);
    return 0;
}

/* ------------------------------------------------------------------ fill */

/* Row i of the inbox; with a hot key the even ones are its chain. */
static void add_row(struct obx_buf *sql, uint64_t i, bool is_hot)
{
    const bool is_blocked = is_hot && i % 2 == 0 && i > 2;
    char due[80];

    /* Each message is a statement of its own there, and so has a time of its own. */
    (void)snprintf(due, sizeof(due), "UTC_TIMESTAMP(6) - INTERVAL %" PRIu64 " MICROSECOND",
                   FILL_CHUNK - i % FILL_CHUNK);
    buf_addf(sql, "%s(%" PRIu64 ", '%s', '%s', %s, %s, %" PRIu64 ", 'm-%" PRIu64 "', 't', 256, %s)",
             sql->len == 0 ? "" : ",", i, queue, is_blocked ? "blocked" : "ready",
             is_blocked ? "NULL" : due, is_hot && i % 2 == 0 ? "REPEAT('h', 16)" : "NULL",
             is_blocked ? i - 2 : 0, i, "REPEAT('x', 256)");
}

static int fill(int argc, char **argv)
{
    struct db *db = bench_open_db("obx_bench");
    const uint64_t rows = number_option(argc, argv, "--rows", 0);
    const bool is_hot = number_option(argc, argv, "--hot", 0) != 0;
    struct obx_buf sql = {0};

    run_sql(db, "TRUNCATE inbox");
    for (uint64_t i = 1; i <= rows; i += FILL_CHUNK) {
        struct obx_buf values = {0};

        for (uint64_t k = i; k < i + FILL_CHUNK && k <= rows; k++)
            add_row(&values, k, is_hot);
        buf_reset(&sql);
        buf_addf(&sql,
                 "INSERT INTO inbox (id, queue, state, due_at, key_hash, after_id, message_id,"
                 " topic, size, payload) VALUES %s",
                 values.data);
        if (sql.rc != OBX_OK)
            bench_die("out of memory", NULL);
        run_sql(db, sql.data);
        buf_fini(&values);
    }
    buf_fini(&sql);
    run_sql(db, "ANALYZE TABLE inbox");
    db_close(db);
    return 0;
}

/* ------------------------------------------------------------------ work, plain */

struct team {
    uint64_t messages;
    bool is_plain;
    atomic_uint_fast64_t done;
};

static bool take_one(struct db *db, struct inbox_from *from, struct inbox_taken *taken)
{
    struct obx_err err = {0};
    bool found = false;

    check(inbox_take(db, queue, from, taken, &found, &err), "take", &err);
    return found;
}

static void update(struct db *db, uint64_t number)
{
    struct obx_err err = {0};

    check(db_exec(db, sql_update, DB_ARGS(DB_U64(number % STOCK)), NULL, &err), "update", &err);
}

static void *run_connection(void *arg)
{
    struct team *team = arg;
    struct db *db = bench_open_db("obx_bench");
    struct inbox_from from = {.back_us = 0};
    struct obx_err err = {0};
    uint64_t number;

    while ((number = atomic_fetch_add(&team->done, 1)) < team->messages) {
        struct inbox_taken taken = {0};

        check(db_begin(db, &err), "begin", &err);
        if (!team->is_plain && !take_one(db, &from, &taken))
            bench_die("there are too few rows", NULL);
        update(db, number);
        if (!team->is_plain)
            check(inbox_done(db, queue, &taken, NULL, &err), "done", &err);
        check(db_commit(db, &err), "commit", &err);
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

static int measure_work(int argc, char **argv, bool is_plain)
{
    struct team team = {.messages = number_option(argc, argv, "--messages", 0),
                        .is_plain = is_plain};
    pthread_t threads[CONNECTIONS];
    const uint64_t begun_us = clock_now_us();

    for (int i = 0; i < CONNECTIONS; i++) {
        if (pthread_create(&threads[i], NULL, run_connection, &team) != 0)
            bench_die("thread", NULL);
    }
    for (int i = 0; i < CONNECTIONS; i++)
        pthread_join(threads[i], NULL);
    printf("%.1f\n", (double)team.messages * US_PER_S / (double)(clock_now_us() - begun_us));
    return 0;
}

/* ------------------------------------------------------------------ take */

static int measure_take(int argc, char **argv)
{
    struct db *db = bench_open_db("obx_bench");
    const uint64_t messages = number_option(argc, argv, "--messages", 0);
    const uint64_t begun_us = clock_now_us();
    struct inbox_from from = {.back_us = 0};
    struct obx_err err = {0};

    for (uint64_t i = 0; i < messages; i++) {
        struct inbox_taken taken = {0};

        if (i % PER_COMMIT == 0)
            check(db_begin(db, &err), "begin", &err);
        if (!take_one(db, &from, &taken))
            bench_die("there are too few rows", NULL);
        check(inbox_done(db, queue, &taken, NULL, &err), "done", &err);
        if ((i + 1) % PER_COMMIT == 0 || i + 1 == messages)
            check(db_commit(db, &err), "commit", &err);
    }
    printf("%.1f\n", (double)messages * US_PER_S / (double)(clock_now_us() - begun_us));
    db_close(db);
    return 0;
}

/* ------------------------------------------------------------------ listen */

static int bind_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)unlink(path);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        bench_die(path, NULL);
    return fd;
}

static void wait_for_datagram(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    char text[64];

    if (poll(&poll_fd, 1, timeout_ms) > 0) {
        while (recv(fd, text, sizeof(text), 0) > 0)
            ;
    }
}

/* What there is; effect gets each one's payload after its commit. */
static void work_off(struct db *db, struct inbox_from *from,
                     void (*effect)(const struct inbox_taken *taken, void *ctx), void *ctx)
{
    struct obx_err err = {0};

    while (true) {
        struct inbox_taken taken = {0};

        check(db_begin(db, &err), "begin", &err);
        if (!take_one(db, from, &taken)) {
            check(db_rollback(db, &err), "rollback", &err);
            return;
        }
        update(db, taken.id);
        check(inbox_done(db, queue, &taken, NULL, &err), "done", &err);
        check(db_commit(db, &err), "commit", &err);
        if (effect != NULL)
            effect(&taken, ctx);
    }
}

_Noreturn static void listen_for_ever(int argc, char **argv)
{
    const int fd = bind_socket(text_option(argc, argv, "--socket", "worker.sock"));
    struct db *db = bench_open_db("obx_bench");
    struct inbox_from from = {.back_us = 0};

    while (true) {
        work_off(db, &from, NULL, NULL);
        wait_for_datagram(fd, POLL_MS);
    }
}

/* ------------------------------------------------------------------ latency */

struct latency {
    size_t messages, warmup;
    uint64_t interval_us, start_us;
    const char *doorbell;
    const char *sockets; /* a directory: one for each worker */
    atomic_int started;
    uint64_t *committed_us, *applied_us; /* by message */
    atomic_size_t applied;
};

static void note_effect(const struct inbox_taken *taken, void *ctx)
{
    struct latency *latency = ctx;
    const size_t number = strtoul(taken->payload, NULL, DECIMAL);

    if (number >= latency->messages || latency->applied_us[number] != 0)
        bench_die("a message that was not sent, or twice", NULL);
    latency->applied_us[number] = clock_now_us();
    atomic_fetch_add(&latency->applied, 1);
}

static void *run_worker(void *arg)
{
    struct latency *latency = arg;
    struct db *db = bench_open_db("obx_bench");
    struct inbox_from from = {.back_us = 0};
    char path[108];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%d", latency->sockets,
                   atomic_fetch_add(&latency->started, 1));
    fd = bind_socket(path);
    while (atomic_load(&latency->applied) < latency->messages) {
        work_off(db, &from, note_effect, latency);
        wait_for_datagram(fd, POLL_MS);
    }
    (void)close(fd);
    (void)unlink(path);
    db_close(db);
    db_thread_end();
    return NULL;
}

static void sleep_until(uint64_t due_us)
{
    const uint64_t now_us = clock_now_us();
    const uint64_t left_us = due_us > now_us ? due_us - now_us : 0;
    const struct timespec pause = {.tv_sec = (time_t)(left_us / US_PER_S),
                                   .tv_nsec = (long)(left_us % US_PER_S) * NS_PER_US};

    nanosleep(&pause, NULL);
}

static void ring(int bell, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (sendto(bell, "outbox", strlen("outbox"), MSG_DONTWAIT, (const struct sockaddr *)&address,
               sizeof(address)) < 0 &&
        errno != EAGAIN)
        bench_die("the doorbell does not answer", NULL);
}

static void write_messages(struct latency *latency)
{
    struct db *db = bench_open_db("obx_bench");
    const int bell = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char body[256 + 1];

    latency->start_us = clock_now_us();
    for (size_t i = 0; i < latency->messages; i++) {
        struct obx_err err = {0};

        sleep_until(latency->start_us + i * latency->interval_us);
        (void)snprintf(body, sizeof(body), "%-256zu", i);
        check(db_exec(db, "INSERT INTO outbox (topic, payload) VALUES ('bench', ?)",
                      DB_ARGS(DB_TEXT(body)), NULL, &err),
              "insert", &err);
        latency->committed_us[i] = clock_now_us();
        ring(bell, latency->doorbell);
    }
    (void)close(bell);
    db_close(db);
}

static int measure_latency(int argc, char **argv)
{
    struct latency latency = {.warmup = number_option(argc, argv, "--warmup", 100),
                              .interval_us = US_PER_S / number_option(argc, argv, "--rate", 200),
                              .doorbell = text_option(argc, argv, "--doorbell", "bell"),
                              .sockets = text_option(argc, argv, "--sockets", ".")};
    pthread_t workers[CONNECTIONS];
    uint64_t *taken_us;

    latency.messages = number_option(argc, argv, "--messages", 0) + latency.warmup;
    latency.committed_us = calloc(latency.messages, sizeof(uint64_t));
    latency.applied_us = calloc(latency.messages, sizeof(uint64_t));
    taken_us = calloc(latency.messages, sizeof(uint64_t));
    if (latency.committed_us == NULL || latency.applied_us == NULL || taken_us == NULL)
        bench_die("out of memory", NULL);
    for (int i = 0; i < CONNECTIONS; i++) {
        if (pthread_create(&workers[i], NULL, run_worker, &latency) != 0)
            bench_die("thread", NULL);
    }
    write_messages(&latency);
    for (int i = 0; i < CONNECTIONS; i++)
        pthread_join(workers[i], NULL);
    for (size_t i = latency.warmup; i < latency.messages; i++)
        taken_us[i - latency.warmup] = latency.applied_us[i] - latency.committed_us[i];
    printf("%" PRIu64 " %" PRIu64 "\n", percentile(taken_us, latency.messages - latency.warmup, 50),
           percentile(taken_us, latency.messages - latency.warmup, 99));
    free(latency.committed_us);
    free(latency.applied_us);
    free(taken_us);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "store") == 0)
        return measure_store(argc, argv);
    if (strcmp(what, "fill") == 0)
        return fill(argc, argv);
    if (strcmp(what, "work") == 0 || strcmp(what, "plain") == 0)
        return measure_work(argc, argv, strcmp(what, "plain") == 0);
    if (strcmp(what, "take") == 0)
        return measure_take(argc, argv);
    if (strcmp(what, "listen") == 0)
        listen_for_ever(argc, argv);
    if (strcmp(what, "latency") == 0)
        return measure_latency(argc, argv);
    bench_die("usage: see the head of inbox.c", NULL);
}
