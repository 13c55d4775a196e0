/*
 * Pairs of prepare and commit, against the relay's API or straight in SQL, from many connections at
 * once. Prints
 *
 *     pairs_per_second prepare_p50_us prepare_p99_us
 *
 * usage: bench_half http --port P --token T [--connections N] [--ms N] [--rate PAIRS_PER_S] [--body
 * N] [--async 1] bench_half sql [--connections N] [--ms N] [--rate PAIRS_PER_S]  one INSERT and one
 * UPDATE a pair, each its own commit bench_half commit [--ms N]                        one INSERT at a time, one
 * connection: what a commit costs bench_half barrier [--connections N] [--pairs N] [--ms N] local
 * transactions without and with the barrier row in turns: lines "without with" per second
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/numbers.h"

enum { CONNECTIONS_MAX = 256, SAMPLES_MAX = 200000, US_PER_S = 1000000, US_PER_MS = 1000 };

struct client;
typedef void pair_fn(struct client *client, uint64_t number);

struct plan {
    pair_fn *pair;
    uint64_t begin_us, end_us; /* pairs that end in between are counted */
    uint64_t interval_us;      /* of one client; 0: as fast as it goes */
    uint64_t step_us;          /* between the first pairs of two clients: evenly, not in bursts */
    uint16_t port;
    const char *token;
    size_t body_len;
    bool is_async; /* the verdict is answered when it is queued */
};

struct client {
    const struct plan *plan;
    unsigned index;
    int fd;
    struct db *db;
    uint64_t pairs;
    uint64_t *samples; /* prepare latencies in microseconds */
    size_t sample_count;
    uint64_t sent_us;
    pthread_t thread;
};

static void sample(struct client *client, uint64_t us)
{
    if (client->sample_count < SAMPLES_MAX)
        client->samples[client->sample_count++] = us;
}

static void connect_http(struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(client->plan->port)};
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror("bench_half: connect");
        exit(1);
    }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* One request on the kept connection; the status. */
static int request(struct client *client, const char *path, const char *fields, const char *body)
{
    char text[16384];
    size_t got = 0, want = 0;
    int len = snprintf(text, sizeof(text),
                       "POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                       "Content-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n%s",
                       path, client->plan->token, strlen(body), fields, body);

    if (len < 0 || (size_t)len >= sizeof(text) || write(client->fd, text, (size_t)len) != len)
        return 0;
    while (want == 0 || got < want) {
        ssize_t n = read(client->fd, text + got, sizeof(text) - 1 - got);
        const char *end, *length;

        if (n <= 0)
            return 0;
        got += (size_t)n;
        text[got] = '\0';
        end = strstr(text, "\r\n\r\n");
        length = strstr(text, "Content-Length: ");
        if (end != NULL && length != NULL)
            want =
                (size_t)(end + 4 - text) + strtoul(length + strlen("Content-Length: "), NULL, 10);
    }
    return atoi(text + strlen("HTTP/1.1 "));
}

static void http_pair(struct client *client, uint64_t number)
{
    char body[8192], path[128], fill[4097];
    uint64_t start_us = clock_now_us();
    int status;

    memset(fill, 'x', client->plan->body_len);
    fill[client->plan->body_len] = '\0';
    snprintf(body, sizeof(body),
             "{\"gid\":\"b-%u-%u-%" PRIu64
             "\",\"producer\":\"bench\",\"commit\":[{\"topic\":\"bench\",\"payload\":\"%s\"}]}",
             (unsigned)getpid(), client->index, number, fill);
    status = request(client, "/v1/half-messages", "", body);
    sample(client, clock_now_us() - start_us);
    snprintf(path, sizeof(path), "/v1/half-messages/b-%u-%u-%" PRIu64 "/commit", (unsigned)getpid(),
             client->index, number);
    if (status != 201 ||
        (status = request(client, path, client->plan->is_async ? "Prefer: respond-async\r\n" : "",
                          "")) != (client->plan->is_async ? 202 : 200)) {
        fprintf(stderr, "bench_half: status %d\n", status);
        exit(1);
    }
}

static void run(struct client *client, const char *sql, const char *gid)
{
    struct obx_err err = {0};

    if (db_exec(client->db, sql, DB_ARGS(DB_TEXT(gid)), NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static void sql_pair(struct client *client, uint64_t number)
{
    char gid[96];
    uint64_t start_us = clock_now_us();

    snprintf(gid, sizeof(gid), "s-%u-%u-%" PRIu64, (unsigned)getpid(), client->index, number);
    run(client, "INSERT INTO half_message (gid, producer) VALUES (?, 'bench')", gid);
    sample(client, clock_now_us() - start_us);
    run(client,
        "UPDATE half_message SET state = 'committed', next_check_at = NULL, decided_at = "
        "UTC_TIMESTAMP(6), "
        "decided_by = 'producer' WHERE gid = ? AND state = 'prepared'",
        gid);
}

static void commit_once(struct client *client, uint64_t number)
{
    char gid[96];
    uint64_t start_us = clock_now_us();

    snprintf(gid, sizeof(gid), "c-%u-%" PRIu64, (unsigned)getpid(), number);
    run(client, "INSERT INTO half_message (gid, producer) VALUES (?, 'bench')", gid);
    sample(client, clock_now_us() - start_us);
}

static void local_transaction(struct client *client, uint64_t number, bool with_barrier)
{
    struct obx_err err = {0};
    char gid[96];

    snprintf(gid, sizeof(gid), "l-%u-%u-%" PRIu64, (unsigned)getpid(), client->index, number);
    if (db_begin(client->db, &err) != OBX_OK)
        bench_die("begin", &err);
    if (with_barrier)
        run(client, "INSERT INTO half_barrier (gid) VALUES (?)", gid);
    run(client, "UPDATE half_account SET orders = orders + 1 WHERE id = CRC32(?) MOD 1000", gid);
    run(client, "INSERT INTO half_purchase (gid) VALUES (?)", gid);
    if (db_commit(client->db, &err) != OBX_OK)
        bench_die("commit", &err);
}

static void plain_transaction(struct client *client, uint64_t number)
{
    local_transaction(client, number, false);
}

static void barrier_transaction(struct client *client, uint64_t number)
{
    local_transaction(client, number, true);
}

static void wait_for_turn(struct client *client)
{
    uint64_t now_us = clock_now_us();

    client->sent_us += client->plan->interval_us;
    if (client->plan->interval_us > 0 && client->sent_us > now_us) {
        uint64_t us = client->sent_us - now_us;
        struct timespec pause = {.tv_sec = (time_t)(us / US_PER_S),
                                 .tv_nsec = (long)(us % US_PER_S) * 1000};

        nanosleep(&pause, NULL);
    }
}

static void *client_main(void *arg)
{
    struct client *client = arg;
    const struct plan *plan = client->plan;

    client->sent_us = clock_now_us() + client->index * plan->step_us;
    for (uint64_t number = client->pairs = 0, now_us = 0; now_us < plan->end_us; number++) {
        wait_for_turn(client);
        plan->pair(client, plan->begin_us + number); /* no number comes again in a later turn */
        now_us = clock_now_us();
        if (now_us >= plan->begin_us && now_us < plan->end_us)
            client->pairs++;
    }
    return NULL;
}

/* Pairs per second of one turn. */
static double run_turn(struct client *clients, unsigned count, struct plan *plan, uint64_t ms)
{
    uint64_t now_us = clock_now_us(), pairs = 0;

    plan->begin_us = now_us + ms * US_PER_MS / 10;
    plan->end_us = now_us + ms * US_PER_MS;
    for (unsigned i = 0; i < count; i++) {
        clients[i].plan = plan;
        clients[i].sample_count = 0;
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0)
            bench_die("thread", NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
        pairs += clients[i].pairs;
    }
    return (double)pairs * US_PER_S / (double)(plan->end_us - plan->begin_us);
}

static void print_result(struct client *clients, unsigned count, double rate)
{
    uint64_t *all = calloc((size_t)count * SAMPLES_MAX, sizeof(*all));
    size_t total = 0;

    if (all == NULL)
        bench_die("memory", NULL);
    for (unsigned i = 0; i < count; i++) {
        memcpy(all + total, clients[i].samples, clients[i].sample_count * sizeof(*all));
        total += clients[i].sample_count;
    }
    printf("%.1f %" PRIu64 " %" PRIu64 "\n", rate, percentile(all, total, 50),
           percentile(all, total, 99));
    free(all);
}

static void make_barrier_tables(void)
{
    static const char *const statements[] = {
        "CREATE TABLE IF NOT EXISTS half_account (id INT PRIMARY KEY, orders BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS half_purchase (id BIGINT AUTO_INCREMENT PRIMARY KEY, gid "
        "VARCHAR(128) NOT NULL)",
        "INSERT IGNORE INTO half_account WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 "
        "FROM n WHERE i < 999) "
        "SELECT i, 0 FROM n"};
    struct db *db = bench_open_db("obx_bench");
    struct obx_err err = {0};

    for (unsigned i = 0; i < 3; i++)
        if (db_exec(db, statements[i], DB_NO_ARGS, NULL, &err) != OBX_OK)
            bench_die(statements[i], &err);
    db_close(db);
}

static void run_barrier(struct client *clients, unsigned count, struct plan *plan, uint64_t ms,
                        uint64_t pairs)
{
    for (uint64_t i = 0; i < pairs; i++) {
        double plain, with_barrier;

        plan->pair = i % 2 == 0 ? plain_transaction : barrier_transaction;
        plain = run_turn(clients, count, plan, ms);
        plan->pair = i % 2 == 0 ? barrier_transaction : plain_transaction;
        with_barrier = run_turn(clients, count, plan, ms);
        printf("%.1f %.1f\n", i % 2 == 0 ? plain : with_barrier, i % 2 == 0 ? with_barrier : plain);
    }
}

int main(int argc, char **argv)
{
    static struct client clients[CONNECTIONS_MAX];
    const char *mode = argc > 1 ? argv[1] : "";
    bool http = strcmp(mode, "http") == 0, barrier = strcmp(mode, "barrier") == 0,
         commit = strcmp(mode, "commit") == 0;
    uint64_t count = commit ? 1 : number_option(argc, argv, "--connections", barrier ? 8 : 64);
    uint64_t rate = number_option(argc, argv, "--rate", 0),
             ms = number_option(argc, argv, "--ms", 5000);
    struct plan plan = {.pair = http     ? http_pair
                                : commit ? commit_once
                                         : sql_pair,
                        .port = (uint16_t)number_option(argc, argv, "--port", 0),
                        .token = text_option(argc, argv, "--token", ""),
                        .body_len = number_option(argc, argv, "--body", 256),
                        .is_async = number_option(argc, argv, "--async", 0) != 0};

    if (!http && !barrier && !commit && strcmp(mode, "sql") != 0)
        bench_die("usage: bench_half http|sql|commit|barrier", NULL);
    if (count == 0 || count > CONNECTIONS_MAX || plan.body_len > 4096)
        bench_die("connections or body", NULL);
    plan.interval_us = rate == 0 ? 0 : US_PER_S * count / rate;
    plan.step_us = rate == 0 ? 0 : US_PER_S / rate;
    if (barrier)
        make_barrier_tables();
    for (unsigned i = 0; i < count; i++) {
        clients[i] = (struct client){.plan = &plan, .index = i, .fd = -1};
        clients[i].samples = malloc(SAMPLES_MAX * sizeof(uint64_t));
        if (http)
            connect_http(&clients[i]);
        else
            clients[i].db = bench_open_db("obx_bench");
    }
    if (barrier)
        run_barrier(clients, (unsigned)count, &plan, ms, number_option(argc, argv, "--pairs", 3));
    else
        print_result(clients, (unsigned)count, run_turn(clients, (unsigned)count, &plan, ms));
    return 0;
}
