/*
 * A producer whose business data is in another database than the outbox: an order, and a message
 * that goes out exactly if the order is there.
 *
 *   prepare            the relay has the message, durable, and nobody sees it
 *   local transaction  barrier row first, then the order; COMMIT
 *   commit             the message goes out
 *
 * If the program dies on the way, the relay looks into the barrier of this database ([producer
 * orders] check = barrier) and decides as the database does. The barrier row makes the two exclude
 * each other: once the relay has decided "rolled back", the INSERT here fails with a duplicate key.
 *
 * usage: half-order GID SKU QUANTITY [before|inside|after]
 * The last word makes it die (SIGKILL) before, inside or after its local transaction. The database
 * comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME, the relay from HALF_URL and
 * HALF_TOKEN. Exit status 0: ordered; 3: not ordered.
 */
#include <mysql.h>
#include <obx/half.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_S = 5, NOT_ORDERED = 3 };

static const char *env(const char *name, const char *fallback)
{
    const char *value = getenv(name);

    return value != NULL ? value : fallback;
}

static void die_if(const char *stage, const char *wanted)
{
    if (stage != NULL && strcmp(stage, wanted) == 0)
        raise(SIGKILL);
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
    if (mysql_real_connect(db, env("DB_HOST", "127.0.0.1"), env("DB_USER", "orders"),
                           env("DB_PASSWORD", ""), env("DB_NAME", "orders"),
                           (unsigned)strtoul(env("DB_PORT", "3306"), NULL, 10), NULL, 0) != NULL)
        return db;
    fprintf(stderr, "half-order: %s\n", mysql_error(db));
    mysql_close(db);
    return NULL;
}

static struct obx_half *connect_relay(void)
{
    const struct obx_half_opts opts = {.size = sizeof(opts),
                                       .url = env("HALF_URL", "http://127.0.0.1:8379"),
                                       .token = env("HALF_TOKEN", ""),
                                       .producer = "orders"};
    struct obx_half *half = NULL;
    struct obx_err err = {0};

    if (obx_half_open(&opts, &half, &err) != OBX_OK)
        fprintf(stderr, "half-order: %s\n", err.text);
    return half;
}

static bool is_word(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

enum local { LOCAL_COMMITTED, LOCAL_ROLLED_BACK, LOCAL_UNKNOWN };

static enum local local_transaction(MYSQL *db, const char *gid, const char *sku, unsigned quantity,
                                    const char *stage)
{
    char barrier[256], order[256];

    snprintf(barrier, sizeof(barrier), "INSERT INTO half_barrier (gid) VALUES ('%.128s')", gid);
    snprintf(order, sizeof(order),
             "INSERT INTO purchase (gid, sku, quantity) VALUES ('%.128s', '%.32s', %u)", gid, sku,
             quantity);
    if (mysql_query(db, "START TRANSACTION") == 0 && mysql_query(db, barrier) == 0 &&
        mysql_query(db, order) == 0) {
        die_if(stage, "inside");
        /* Committed or not when the answer is lost? The relay will find out from the barrier. */
        return mysql_query(db, "COMMIT") == 0 ? LOCAL_COMMITTED : LOCAL_UNKNOWN;
    }
    fprintf(stderr, "half-order: %s\n", mysql_error(db));
    return mysql_query(db, "ROLLBACK") == 0 ? LOCAL_ROLLED_BACK : LOCAL_UNKNOWN;
}

static int place_order(struct obx_half *half, MYSQL *db, char **argv, const char *stage)
{
    const char *gid = argv[1], *sku = argv[2];
    const unsigned quantity = (unsigned)strtoul(argv[3], NULL, 10);
    char body[256];
    const int len =
        snprintf(body, sizeof(body), "{\"gid\":\"%.128s\",\"sku\":\"%.32s\",\"quantity\":%u}", gid,
                 sku, quantity);
    const struct obx_half_message message = {
        .topic = "purchase.made", .ordering_key = sku, .payload = {.p = body, .len = (size_t)len}};
    struct obx_err err = {0};
    enum local what;

    if (obx_half_prepare(half, gid, &message, 1, NULL, 0, &err) != OBX_OK) {
        fprintf(stderr, "half-order: not ordered: %s\n", err.text);
        return NOT_ORDERED;
    }
    die_if(stage, "before");
    what = local_transaction(db, gid, sku, quantity, stage);
    die_if(stage, "after");
    /* A verdict that is not heard is no harm: check-back comes to the same. */
    if (what == LOCAL_COMMITTED && obx_half_commit(half, gid, &err) != OBX_OK)
        fprintf(stderr, "half-order: %s\n", err.text);
    if (what == LOCAL_ROLLED_BACK && obx_half_rollback(half, gid, &err) != OBX_OK)
        fprintf(stderr, "half-order: %s\n", err.text);
    return what == LOCAL_COMMITTED ? EXIT_SUCCESS : NOT_ORDERED;
}

int main(int argc, char **argv)
{
    struct obx_half *half = NULL;
    MYSQL *db = NULL;
    int status = EXIT_FAILURE;

    if (argc < 4 || !is_word(argv[1]) || !is_word(argv[2])) {
        fprintf(stderr, "usage: half-order GID SKU QUANTITY [before|inside|after]\n");
        return 2;
    }
    half = connect_relay();
    db = connect_database();
    if (half != NULL && db != NULL)
        status = place_order(half, db, argv, argc > 4 ? argv[4] : NULL);
    if (db != NULL)
        mysql_close(db);
    obx_half_close(half);
    mysql_library_end();
    return status;
}
