/*
 * relay_latency: from COMMIT (its return to the application) to the broker's confirm (its bytes on
 * the way back to the relay), at a fixed rate. Starts the relay, which has to reach the broker
 * through the tap's port, writes single-row transactions from four connections, and prints
 *
 *     p50_us p99_us max_us sent_per_second
 *
 * usage: bench_latency --tap-port N [--messages N] [--warmup N] [--rate N] [--body N] [--table
 * NAME]
 *                      [--doorbell PATH] -- RELAY ARGUMENT...
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
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
#include "bench/tap.h"
#include "process.h"
#include "wait.h"

enum {
    WRITERS = 4,
    BODY_MAX = 4096,
    US_PER_S = 1000000,
    NS_PER_US = 1000,
    RELAY_READY_MS = 30000,
    RELAY_END_MS = 20000,
    CONFIRMS_MS = 30000,
    DECIMAL = 10
};

struct plan {
    size_t messages; /* warm-up included */
    size_t warmup;
    uint64_t interval_us;
    size_t body_len;
    const char *table;
    const char *doorbell; /* NULL: none */
    uint64_t start_us;
    uint64_t *committed_us; /* by message */
};

struct writer {
    const struct plan *plan;
    size_t first; /* writes the messages first, first + WRITERS, ... */
    pthread_t thread;
};

static void sleep_until(uint64_t due_us)
{
    uint64_t now_us = clock_now_us();
    uint64_t left_us = due_us > now_us ? due_us - now_us : 0;
    const struct timespec pause = {.tv_sec = (time_t)(left_us / US_PER_S),
                                   .tv_nsec = (long)(left_us % US_PER_S) * NS_PER_US};

    nanosleep(&pause, NULL);
}

static bool bell_is_there(void *ctx)
{
    const struct plan *plan = ctx;

    return plan->doorbell == NULL || access(plan->doorbell, W_OK) == 0;
}

/* What any language does after a commit: one datagram with the outbox's name. */
static void ring(int bell, const struct plan *plan)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", plan->doorbell);
    if (sendto(bell, plan->table, strlen(plan->table), MSG_DONTWAIT,
               (const struct sockaddr *)&address, sizeof(address)) < 0 &&
        errno != EAGAIN && errno != EWOULDBLOCK)
        bench_die("the doorbell does not answer", NULL);
}

static void write_one(struct db *db, const struct plan *plan, const char *sql, size_t number)
{
    char body[BODY_MAX];
    struct obx_err err = {0};

    memset(body, 'x', plan->body_len);
    body[snprintf(body, sizeof(body), "%zu", number)] = ' ';
    if (db_begin(db, &err) != OBX_OK ||
        db_exec(db, sql, DB_ARGS(DB_BYTES(((struct obx_bytes){.p = body, .len = plan->body_len}))),
                NULL, &err) != OBX_OK ||
        db_commit(db, &err) != OBX_OK)
        bench_die("insert", &err);
    plan->committed_us[number] = clock_now_us();
}

static void *write_messages(void *arg)
{
    const struct writer *writer = arg;
    const struct plan *plan = writer->plan;
    struct db *db = bench_open_db("obx_bench");
    int bell = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char sql[256];

    snprintf(sql, sizeof(sql), "INSERT INTO `%s` (topic, payload) VALUES ('bench', ?)",
             plan->table);
    for (size_t i = writer->first; i < plan->messages; i += WRITERS) {
        sleep_until(plan->start_us + i * plan->interval_us);
        write_one(db, plan, sql, i);
        if (plan->doorbell != NULL)
            ring(bell, plan);
    }
    close(bell);
    db_close(db);
    db_thread_end();
    return NULL;
}

static void run_writers(struct plan *plan)
{
    struct writer writers[WRITERS] = {0};

    plan->start_us = clock_now_us();
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i].plan = plan;
        writers[i].first = i;
        if (pthread_create(&writers[i].thread, NULL, write_messages, &writers[i]) != 0)
            bench_die("thread", NULL);
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
}

struct confirms {
    const struct tap *tap;
    size_t wanted;
};

static bool all_confirmed(void *ctx)
{
    const struct confirms *confirms = ctx;

    return tap_confirmed_count(confirms->tap) >= confirms->wanted;
}

static void wait_confirms(const struct tap *tap, size_t wanted, int64_t timeout_ms)
{
    struct confirms confirms = {.tap = tap, .wanted = wanted};

    if (!wait_until(timeout_ms, all_confirmed, &confirms))
        bench_die("not every message was confirmed in time", NULL);
}

static void report(const struct plan *plan, const struct tap *tap)
{
    size_t count = plan->messages - plan->warmup;
    uint64_t *taken_us = calloc(count, sizeof(*taken_us));
    uint64_t first_us = plan->committed_us[plan->warmup];
    uint64_t last_us = plan->committed_us[plan->messages - 1];

    if (taken_us == NULL)
        bench_die("out of memory", NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t from_us = plan->committed_us[plan->warmup + i];
        uint64_t to_us = tap_confirmed_us(tap, plan->warmup + i);

        taken_us[i] = to_us > from_us ? to_us - from_us : 0;
    }
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %.1f\n", percentile(taken_us, count, 50),
           percentile(taken_us, count, 99), taken_us[count - 1],
           (double)(count - 1) * US_PER_S / (double)(last_us - first_us));
    free(taken_us);
}

int main(int argc, char **argv)
{
    const char *server_port = getenv("OBX_TEST_AMQP_PORT");
    const uint64_t rate = number_option(argc, argv, "--rate", 200);
    struct plan plan = {
        .messages = number_option(argc, argv, "--messages", 4000),
        .warmup = number_option(argc, argv, "--warmup", 400),
        .interval_us = US_PER_S / (rate > 0 ? rate : 1),
        .body_len = number_option(argc, argv, "--body", 256),
        .table = text_option(argc, argv, "--table", "outbox"),
        .doorbell = text_option(argc, argv, "--doorbell", NULL),
    };
    const struct proc_opts relay_opts = {.argv = command_after_dashes(argc, argv),
                                         .log_path = text_option(argc, argv, "--log", NULL)};
    struct tap *tap = NULL;
    struct proc *relay = NULL;

    plan.messages += plan.warmup;
    if (relay_opts.argv == NULL || server_port == NULL || plan.body_len < 32 ||
        plan.body_len > BODY_MAX || plan.messages < plan.warmup + 2)
        bench_die("usage: see the head of latency.c", NULL);
    plan.committed_us = calloc(plan.messages, sizeof(*plan.committed_us));
    tap = tap_create((uint16_t)number_option(argc, argv, "--tap-port", 0),
                     (uint16_t)strtoul(server_port, NULL, DECIMAL), plan.messages);
    relay = tap != NULL && plan.committed_us != NULL ? proc_start(&relay_opts) : NULL;
    if (relay == NULL)
        bench_die("cannot start", NULL);
    if (!wait_until(RELAY_READY_MS, bell_is_there, &plan))
        bench_die("the relay makes no doorbell", NULL);
    run_writers(&plan);
    wait_confirms(tap, plan.messages, CONFIRMS_MS);
    report(&plan, tap);
    proc_signal(relay, SIGTERM);
    if (!proc_wait(relay, RELAY_END_MS, NULL))
        fprintf(stderr, "bench: the relay did not end in time\n");
    proc_destroy(relay);
    tap_destroy(tap);
    free(plan.committed_us);
    return 0;
}
