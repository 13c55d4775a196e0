/*
 * The order service of the demo: places orders, and tells the other services by a row in the
 * outbox.
 *
 * It links nothing of Rowpost. Order and outbox row are written in one transaction, so either both
 * are there or neither; some transactions are rolled back on purpose. After a commit it rings the
 * relay's doorbell, if it is told where that is: a hint that makes the message leave at once and
 * may fail without harm.
 *
 * The database comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME. Ends on SIGTERM or
 * SIGINT too. The options: order-service --help.
 */
#include <errno.h>
#include <mysql.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: order-service [OPTION VALUE]...\n"
    "\n"
    "  --rate N              orders a second (100)\n"
    "  --count N             stop after so many committed orders\n"
    "  --seconds N           stop after so many seconds\n"
    "  --rollback-percent N  so many of a hundred transactions are rolled back on purpose (10)\n"
    "  --doorbell SOCKET     the relay's doorbell_socket, to ring after each commit\n"
    "  --seed N              for the random orders\n";

enum {
    CUSTOMERS = 8,
    QUANTITY_MAX = 5,
    TIMEOUT_S = 5,
    RECONNECT_MS = 200,
    REPORT_MS = 500,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
    PERCENT = 100
};

struct settings {
    unsigned rate;       /* orders per second */
    unsigned long count; /* 0: no limit */
    unsigned seconds;    /* 0: no limit */
    unsigned rollback_percent;
    unsigned seed;
    const char *doorbell; /* NULL: none */
};

struct counts {
    unsigned long committed, rolled_back, failed, unknown;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static int64_t now_ms(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / MS_PER_S, .tv_nsec = ms % MS_PER_S * NS_PER_MS};

    if (ms > 0)
        nanosleep(&pause, NULL);
}

static const char *env(const char *name, const char *fallback)
{
    const char *value = getenv(name);

    return value != NULL ? value : fallback;
}

static MYSQL *connect_database(void)
{
    const unsigned timeout = TIMEOUT_S;
    MYSQL *db = mysql_init(NULL);

    if (db == NULL)
        return NULL;
    mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    if (mysql_real_connect(db, env("DB_HOST", "127.0.0.1"), env("DB_USER", "shop"),
                           env("DB_PASSWORD", ""), env("DB_NAME", "shop"),
                           (unsigned)strtoul(env("DB_PORT", "3306"), NULL, 10), NULL, 0) == NULL) {
        mysql_close(db);
        return NULL;
    }
    return db;
}

/* Order and message, in the transaction that is open. The UPDATE makes two orders of one customer
 * wait for each other, so their messages get ids in the order of their numbers. The values are our
 * own numbers and words; what comes from outside belongs into prepared statements. */
static bool write_order(MYSQL *db, int customer, const char *sku, int quantity)
{
    char sql[512];

    snprintf(sql, sizeof(sql), "UPDATE customer SET orders = orders + 1 WHERE id = %d", customer);
    if (mysql_query(db, sql) != 0)
        return false;
    snprintf(sql, sizeof(sql),
             "INSERT INTO orders (customer, customer_seq, sku, quantity) "
             "SELECT id, orders, '%s', %d FROM customer WHERE id = %d",
             sku, quantity, customer);
    if (mysql_query(db, sql) != 0)
        return false;
    return mysql_query(db, "INSERT INTO outbox (topic, ordering_key, payload) "
                           "SELECT 'order.placed', CONCAT('customer-', customer), "
                           "JSON_OBJECT('order_id', id, 'customer', customer, "
                           "'customer_seq', customer_seq, 'sku', sku, 'quantity', quantity) "
                           "FROM orders WHERE id = LAST_INSERT_ID()") == 0;
}

static void ring(const char *path)
{
    static int bell = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path == NULL)
        return;
    if (bell < 0)
        bell = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (sendto(bell, "outbox", strlen("outbox"), MSG_DONTWAIT, (const struct sockaddr *)&address,
               sizeof(address)) < 0)
        return; /* no relay there at the moment: it will find the row by itself */
}

/* One order from begin to end. False when the connection is of no more use. */
static bool place_order(MYSQL *db, const struct settings *settings, unsigned *random,
                        struct counts *counts)
{
    static const char *const skus[] = {"apple", "pear", "plum"};
    bool is_declined = (unsigned)(rand_r(random) % PERCENT) < settings->rollback_percent;

    if (mysql_query(db, "START TRANSACTION") != 0 ||
        !write_order(db, 1 + rand_r(random) % CUSTOMERS, skus[rand_r(random) % 3],
                     1 + rand_r(random) % QUANTITY_MAX)) {
        counts->failed++;
        return mysql_query(db, "ROLLBACK") == 0;
    }
    if (is_declined) { /* say, the card was declined */
        counts->rolled_back++;
        return mysql_query(db, "ROLLBACK") == 0;
    }
    if (mysql_query(db, "COMMIT") != 0) {
        /* Committed or not? Only the database knows. What matters: order and message share one
         * fate. */
        counts->unknown++;
        return false;
    }
    counts->committed++;
    ring(settings->doorbell);
    return true;
}

static void report(const struct counts *counts)
{
    printf("committed=%lu rolled_back=%lu failed=%lu unknown=%lu\n", counts->committed,
           counts->rolled_back, counts->failed, counts->unknown);
    fflush(stdout);
}

static bool is_over(const struct settings *settings, const struct counts *counts, int64_t begin_ms)
{
    return stopping || (settings->count > 0 && counts->committed >= settings->count) ||
           (settings->seconds > 0 && now_ms() - begin_ms >= (int64_t)settings->seconds * MS_PER_S);
}

static void run(const struct settings *settings, struct counts *counts)
{
    const int64_t begin_ms = now_ms();
    int64_t next_report_ms = begin_ms;
    int64_t due_ms = begin_ms;
    unsigned long turn = 0;
    unsigned random = settings->seed;
    MYSQL *db = NULL;

    while (!is_over(settings, counts, begin_ms)) {
        if (now_ms() >= next_report_ms) {
            report(counts);
            next_report_ms += REPORT_MS;
        }
        if (db == NULL && (db = connect_database()) == NULL) {
            sleep_ms(RECONNECT_MS);
            continue;
        }
        if (!place_order(db, settings, &random, counts)) {
            mysql_close(db);
            db = NULL;
        }
        /* What was missed while the database was away is not made up for. */
        if (now_ms() > due_ms + MS_PER_S) {
            due_ms = now_ms();
            turn = 0;
        }
        sleep_ms(due_ms + (int64_t)(++turn * MS_PER_S / settings->rate) - now_ms());
    }
    if (db != NULL)
        mysql_close(db);
}

static unsigned long number(const char *option, const char *text)
{
    char *end = NULL;
    unsigned long value = text != NULL ? strtoul(text, &end, 10) : 0;

    if (text == NULL || *text == '\0' || *end != '\0') {
        fprintf(stderr, "order-service: %s needs a number\n", option);
        exit(2);
    }
    return value;
}

static struct settings parse(int argc, char **argv)
{
    struct settings settings = {.rate = 100, .rollback_percent = 10, .seed = 1};

    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(argv[i], "--rate") == 0)
            settings.rate = (unsigned)number(argv[i], value);
        else if (strcmp(argv[i], "--count") == 0)
            settings.count = number(argv[i], value);
        else if (strcmp(argv[i], "--seconds") == 0)
            settings.seconds = (unsigned)number(argv[i], value);
        else if (strcmp(argv[i], "--rollback-percent") == 0)
            settings.rollback_percent = (unsigned)number(argv[i], value);
        else if (strcmp(argv[i], "--seed") == 0)
            settings.seed = (unsigned)number(argv[i], value);
        else if (strcmp(argv[i], "--doorbell") == 0 && value != NULL)
            settings.doorbell = value;
        else {
            fprintf(stderr, "order-service: '%s' is not understood\n%s", argv[i], usage);
            exit(2);
        }
    }
    if (settings.rate == 0)
        settings.rate = 1;
    return settings;
}

int main(int argc, char **argv)
{
    const struct settings settings = parse(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};
    struct counts counts = {0};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    run(&settings, &counts);
    report(&counts);
    mysql_library_end();
    return 0;
}
