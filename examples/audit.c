/*
 * The audit of the demo: compares the order service's database with an inventory service's, and
 * looks for what is left on the way, in an inbox too if that service has one.
 *
 * It asks the two databases by two connections, so they may lie on different servers, and compares
 * in memory. Exit 0 when every committed order was applied exactly once and in order, nothing else
 * was applied, and nothing is left on the way; 1 when not; 2 when it could not look.
 *
 * SHOP_DB_HOST, ..._PORT, ..._USER, ..._PASSWORD, ..._NAME, the same for STOCK_DB_, and AMQP_HOST,
 * AMQP_PORT, AMQP_USER, AMQP_PASSWORD, AMQP_QUEUE say where. Stop the consumers first: what they hold
 * unacknowledged is not counted in a queue.
 */
#include <mysql.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#ifdef RABBITMQ_C_HEADERS
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

enum { CANNOT_LOOK = 2, NAME_MAX_LEN = 64, CHANNEL = 1, FRAME_MAX = 131072, TIMEOUT_S = 10 };

struct order {
    unsigned long long id, customer, seq, quantity;
    char sku[33];
};

struct orders {
    struct order *items;
    size_t count;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "audit: %s: %s\n", what, why);
    exit(CANNOT_LOOK);
}

static const char *env(const char *side, const char *name, const char *fallback)
{
    char variable[NAME_MAX_LEN];
    const char *value = NULL;

    snprintf(variable, sizeof(variable), "%s%s", side, name);
    value = getenv(variable);
    return value != NULL ? value : fallback;
}

/* ---------------------------------------------------------------- the two databases */

static MYSQL *connect_database(const char *side, const char *name)
{
    MYSQL *db = mysql_init(NULL);
    const unsigned port = (unsigned)strtoul(env(side, "PORT", "3306"), NULL, 10);

    if (db == NULL)
        die(side, "out of memory");
    if (mysql_real_connect(db, env(side, "HOST", "127.0.0.1"), env(side, "USER", name),
                           env(side, "PASSWORD", ""), env(side, "NAME", name), port, NULL,
                           0) == NULL)
        die(side, mysql_error(db));
    return db;
}

static MYSQL_RES *query(MYSQL *db, const char *sql)
{
    MYSQL_RES *result = NULL;

    if (mysql_query(db, sql) != 0 || (result = mysql_store_result(db)) == NULL)
        die(sql, mysql_error(db));
    return result;
}

static unsigned long long number(const char *text)
{
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static unsigned long long query_number(MYSQL *db, const char *sql)
{
    MYSQL_RES *result = query(db, sql);
    MYSQL_ROW row = mysql_fetch_row(result);
    unsigned long long value = row != NULL ? number(row[0]) : 0;

    mysql_free_result(result);
    return value;
}

/* Columns: order, customer, number within the customer, quantity, sku. */
static struct orders read_orders(MYSQL *db, const char *sql)
{
    MYSQL_RES *result = query(db, sql);
    struct orders orders = {.count = (size_t)mysql_num_rows(result)};
    size_t i = 0;

    orders.items = calloc(orders.count + 1, sizeof(*orders.items));
    if (orders.items == NULL)
        die("orders", "out of memory");
    for (MYSQL_ROW row = NULL; (row = mysql_fetch_row(result)) != NULL; i++) {
        struct order *order = &orders.items[i];

        order->id = number(row[0]);
        order->customer = number(row[1]);
        order->seq = number(row[2]);
        order->quantity = number(row[3]);
        snprintf(order->sku, sizeof(order->sku), "%s", row[4] != NULL ? row[4] : "");
    }
    mysql_free_result(result);
    return orders;
}

/* ---------------------------------------------------------------- the comparison */

struct findings {
    size_t committed, applied, lost, doubled, ghosts, altered, disorder;
    unsigned long long outbox, parked, queued, waiting, dead, inbox;
    long long stock_off; /* pieces of stock that are missing or too many, over all articles */
};

static bool is_same(const struct order *a, const struct order *b)
{
    return a->customer == b->customer && a->seq == b->seq && a->quantity == b->quantity &&
           strcmp(a->sku, b->sku) == 0;
}

/* Both lists are sorted by order; walk them side by side. */
static void compare(const struct orders *placed, const struct orders *applied,
                    struct findings *found)
{
    size_t p = 0;
    size_t a = 0;

    found->committed = placed->count;
    found->applied = applied->count;
    while (p < placed->count || a < applied->count) {
        if (a == applied->count ||
            (p < placed->count && placed->items[p].id < applied->items[a].id)) {
            found->lost++;
            p++;
        } else if (p == placed->count || applied->items[a].id < placed->items[p].id) {
            found->ghosts++;
            a++;
        } else {
            found->altered += !is_same(&placed->items[p], &applied->items[a]);
            a++;
            for (; a < applied->count && applied->items[a].id == placed->items[p].id; a++)
                found->doubled++;
            p++;
        }
    }
}

/* The list is sorted by customer and then by the time of applying. */
static size_t count_disorder(const struct orders *by_time)
{
    size_t disorder = 0;

    for (size_t i = 1; i < by_time->count; i++)
        if (by_time->items[i].customer == by_time->items[i - 1].customer &&
            by_time->items[i].seq < by_time->items[i - 1].seq)
            disorder++;
    return disorder;
}

/* For each article: what was delivered, less what the committed orders took, has to be on hand. */
static long long count_stock_off(MYSQL *stock, const struct orders *placed)
{
    MYSQL_RES *result = query(stock, "SELECT sku, delivered, on_hand FROM stock");
    long long off = 0;

    for (MYSQL_ROW row = NULL; (row = mysql_fetch_row(result)) != NULL;) {
        long long left = strtoll(row[1], NULL, 10);

        for (size_t i = 0; i < placed->count; i++)
            if (strcmp(placed->items[i].sku, row[0]) == 0)
                left -= (long long)placed->items[i].quantity;
        off += llabs(left - strtoll(row[2], NULL, 10));
    }
    mysql_free_result(result);
    return off;
}

/* ---------------------------------------------------------------- the queue */

static amqp_connection_state_t connect_broker(void)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    amqp_connection_state_t conn = amqp_new_connection();
    amqp_socket_t *socket = conn != NULL ? amqp_tcp_socket_new(conn) : NULL;
    const int port = (int)strtol(env("AMQP_", "PORT", "5672"), NULL, 10);

    if (socket == NULL || amqp_socket_open_noblock(socket, env("AMQP_", "HOST", "127.0.0.1"), port,
                                                   &timeout) != AMQP_STATUS_OK)
        die("RabbitMQ", "cannot connect");
    if (amqp_login(conn, "/", 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                   env("AMQP_", "USER", "guest"), env("AMQP_", "PASSWORD", "guest"))
            .reply_type != AMQP_RESPONSE_NORMAL)
        die("RabbitMQ", "cannot log in");
    amqp_channel_open(conn, CHANNEL);
    if (amqp_get_rpc_reply(conn).reply_type != AMQP_RESPONSE_NORMAL)
        die("RabbitMQ", "cannot open a channel");
    return conn;
}

static unsigned long long depth(amqp_connection_state_t conn, const char *queue)
{
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(conn, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);

    if (ok == NULL)
        die(queue, "there is no such queue");
    return ok->message_count;
}

static void look_into_queue(struct findings *found)
{
    amqp_connection_state_t conn = connect_broker();

    found->queued = depth(conn, env("AMQP_", "QUEUE", "inventory"));
    amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(conn);
}

/* ---------------------------------------------------------------- the verdict */

/* One line of the table; `wanted` is what the number has to be. */
static bool line(const char *what, unsigned long long value, unsigned long long wanted)
{
    printf("  %-52s %10llu   %s\n", what, value, value == wanted ? "ok" : "WRONG");
    return value == wanted;
}

static bool print_table(const struct findings *found)
{
    bool is_good = true;

    printf("  %-52s %10llu\n", "orders committed", (unsigned long long)found->committed);
    is_good &= line("orders applied by the inventory service", found->applied, found->committed);
    is_good &= line("lost: committed and not applied", found->lost, 0);
    is_good &= line("doubled: applied more than once", found->doubled, 0);
    is_good &= line("ghosts: applied and not committed", found->ghosts, 0);
    is_good &= line("altered on the way", found->altered, 0);
    is_good &= line("applied out of a customer's order", found->disorder, 0);
    is_good &= line("pieces of stock missing or too many", (unsigned long long)found->stock_off, 0);
    is_good &= line("rows left in the outbox", found->outbox, 0);
    is_good &= line("messages that the relay has parked", found->parked, 0);
    is_good &= line("messages left in the queue", found->queued, 0);
    is_good &= line("messages that wait for another attempt", found->waiting, 0);
    is_good &= line("dead messages", found->dead, 0);
    is_good &= line("rows left in an inbox", found->inbox, 0);
    return is_good && found->committed > 0;
}

int main(void)
{
    MYSQL *shop = connect_database("SHOP_DB_", "shop");
    MYSQL *stock = connect_database("STOCK_DB_", "stock");
    struct orders placed = read_orders(
        shop, "SELECT id, customer, customer_seq, quantity, sku FROM orders ORDER BY id");
    struct orders applied =
        read_orders(stock, "SELECT order_id, customer, customer_seq, quantity, sku "
                           "FROM applied_order ORDER BY order_id");
    struct orders by_time =
        read_orders(stock, "SELECT order_id, customer, customer_seq, quantity, sku "
                           "FROM applied_order ORDER BY customer, line");
    struct findings found = {0};
    bool is_good = false;

    compare(&placed, &applied, &found);
    found.disorder = count_disorder(&by_time);
    found.stock_off = count_stock_off(stock, &placed);
    found.outbox = query_number(shop, "SELECT COUNT(*) FROM outbox");
    found.parked = query_number(shop, "SELECT COUNT(*) FROM outbox_parked");
    found.waiting = query_number(stock, "SELECT COUNT(*) FROM inbox_parked WHERE state <> 'dead'");
    found.dead = query_number(stock, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'");
    if (query_number(stock, "SELECT COUNT(*) FROM information_schema.TABLES"
                            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'inbox'") > 0)
        found.inbox = query_number(stock, "SELECT COUNT(*) FROM inbox");
    look_into_queue(&found);
    is_good = print_table(&found);
    free(placed.items);
    free(applied.items);
    free(by_time.items);
    mysql_close(shop);
    mysql_close(stock);
    mysql_library_end();
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
