/*
 * The initiator of the TCC example: transfers between two banks that have a database each.
 *
 *   prepare   a half-message with `confirm` for both banks on commit, `cancel` for both on rollback
 *   Try       reserve at both: the debit is taken off and frozen, the credit is announced
 *   decide    both reserved: the local transaction writes the transfer down, with the barrier row
 *             first; then commit. Otherwise roll back
 *
 * Whatever dies when, nothing stays frozen: an initiator that falls silent is asked through the
 * barrier in its own database. A Try here is a transaction in the bank's database, in place of the
 * call to the bank that it would be elsewhere; its first statement is the bank's barrier, so that a
 * Try that comes after its Cancel is refused.
 *
 * usage: transfer-service PREFIX COUNT [SEED]    gids are PREFIX-0, PREFIX-1, ...
 * The databases are TRANSFERS_DB, BANK_A_DB and BANK_B_DB (transfers, bank_a, bank_b), reached by
 * DB_HOST, DB_PORT, DB_USER and DB_PASSWORD; the relay is HALF_URL and HALF_TOKEN.
 */
#include <mysql.h>
#include <obx/half.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACCOUNTS = 8, AMOUNT_MAX = 300, TIMEOUT_S = 5, CALL_MS = 3000, PAUSE_MS = 100 };
enum { DUPLICATE = 1062 };

struct leg {
    const char *bank; /* first word of its topics */
    const char *branch;
    int account;
};

struct transfer {
    char gid[100];
    struct leg debit, credit;
    int amount;
};

struct service {
    struct obx_half *half;
    MYSQL *transfers, *bank_a, *bank_b;
    unsigned random; /* state of rand_r */
    unsigned long done, declined, unknown;
};

static const char *env(const char *name, const char *fallback)
{
    const char *value = getenv(name);

    return value != NULL ? value : fallback;
}

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000};

    nanosleep(&pause, NULL);
}

/* ---- the databases ---- */

static MYSQL *connect_once(const char *database)
{
    const unsigned timeout = TIMEOUT_S;
    MYSQL *db = mysql_init(NULL);

    if (db == NULL)
        return NULL;
    mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &timeout);
    if (mysql_real_connect(db, env("DB_HOST", "127.0.0.1"), env("DB_USER", "transfers"),
                           env("DB_PASSWORD", ""), database,
                           (unsigned)strtoul(env("DB_PORT", "3306"), NULL, 10), NULL, 0) != NULL)
        return db;
    mysql_close(db);
    return NULL;
}

/* A connection that works, made again where it was lost. */
static void connect_again(MYSQL **db, const char *database)
{
    if (*db != NULL && mysql_ping(*db) == 0)
        return;
    if (*db != NULL)
        mysql_close(*db);
    while ((*db = connect_once(database)) == NULL)
        pause_ms(PAUSE_MS);
}

static void connect_all(struct service *service)
{
    connect_again(&service->transfers, env("TRANSFERS_DB", "transfers"));
    connect_again(&service->bank_a, env("BANK_A_DB", "bank_a"));
    connect_again(&service->bank_b, env("BANK_B_DB", "bank_b"));
}

/* ---- Try ---- */

/* Reserve one leg. False when the bank declines, the barrier refuses, or nobody knows: all of them
 * mean rollback, whose Cancel puts everything right. */
static bool try_leg(const struct service *service, const struct transfer *transfer,
                    const struct leg *leg)
{
    MYSQL *db = strcmp(leg->bank, "bank_a") == 0 ? service->bank_a : service->bank_b;
    const bool is_debit = strcmp(leg->branch, "debit") == 0;
    char barrier[256], reserve[256];

    snprintf(barrier, sizeof(barrier),
             "INSERT INTO half_barrier (gid, branch, op, reason) VALUES ('%s', '%s', 'try', 'try')",
             transfer->gid, leg->branch);
    if (is_debit)
        snprintf(reserve, sizeof(reserve),
                 "UPDATE account SET balance = balance - %d, frozen = frozen + %d "
                 "WHERE id = %d AND balance >= %d",
                 transfer->amount, transfer->amount, leg->account, transfer->amount);
    else
        snprintf(reserve, sizeof(reserve),
                 "UPDATE account SET expected = expected + %d WHERE id = %d", transfer->amount,
                 leg->account);
    if (mysql_query(db, "START TRANSACTION") == 0 && mysql_query(db, barrier) == 0 &&
        mysql_query(db, reserve) == 0 && mysql_affected_rows(db) == 1)
        return mysql_query(db, "COMMIT") == 0;
    (void)mysql_query(db, "ROLLBACK");
    return false;
}

/* ---- the local transaction ---- */

enum local { LOCAL_COMMITTED, LOCAL_ROLLED_BACK, LOCAL_UNKNOWN };

/* The barrier first: once check-back has said "rolled back", this is refused. */
static enum local write_down(MYSQL *db, const struct transfer *transfer)
{
    char barrier[256], record[512];

    snprintf(barrier, sizeof(barrier), "INSERT INTO half_barrier (gid) VALUES ('%s')",
             transfer->gid);
    snprintf(
        record, sizeof(record),
        "INSERT INTO transfer (gid, debit, credit, amount) VALUES ('%s', '%s/%d', '%s/%d', %d)",
        transfer->gid, transfer->debit.bank, transfer->debit.account, transfer->credit.bank,
        transfer->credit.account, transfer->amount);
    if (mysql_query(db, "START TRANSACTION") == 0 && mysql_query(db, barrier) == 0 &&
        mysql_query(db, record) == 0)
        return mysql_query(db, "COMMIT") == 0 ? LOCAL_COMMITTED : LOCAL_UNKNOWN;
    return mysql_query(db, "ROLLBACK") == 0 ? LOCAL_ROLLED_BACK : LOCAL_UNKNOWN;
}

/* ---- a transfer ---- */

/* What a bank is told when it is decided. */
static struct obx_half_message leg_message(const struct transfer *transfer, const struct leg *leg,
                                           const char *step, char *topic, char *body)
{
    int len = snprintf(body, 256, "{\"gid\":\"%s\",\"branch\":\"%s\",\"account\":%d,\"amount\":%d}",
                       transfer->gid, leg->branch, leg->account, transfer->amount);

    snprintf(topic, 64, "%s.%s", leg->bank, step);
    return (struct obx_half_message){.topic = topic, .payload = {.p = body, .len = (size_t)len}};
}

static bool prepare(struct obx_half *half, const struct transfer *transfer)
{
    char topics[4][64], bodies[4][256];
    const struct obx_half_message on_commit[] = {
        leg_message(transfer, &transfer->debit, "confirm", topics[0], bodies[0]),
        leg_message(transfer, &transfer->credit, "confirm", topics[1], bodies[1])};
    const struct obx_half_message on_rollback[] = {
        leg_message(transfer, &transfer->debit, "cancel", topics[2], bodies[2]),
        leg_message(transfer, &transfer->credit, "cancel", topics[3], bodies[3])};
    struct obx_err err = {0};

    if (obx_half_prepare(half, transfer->gid, on_commit, 2, on_rollback, 2, &err) == OBX_OK)
        return true;
    fprintf(stderr, "transfer-service: %s\n", err.text);
    return false;
}

/* A verdict that does not arrive is no harm: check-back will ask. */
static void give_verdict(struct service *service, const struct transfer *transfer, enum local what)
{
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    if (what == LOCAL_COMMITTED)
        rc = obx_half_commit(service->half, transfer->gid, &err);
    else if (what == LOCAL_ROLLED_BACK)
        rc = obx_half_rollback(service->half, transfer->gid, &err);
    if (rc != OBX_OK)
        fprintf(stderr, "transfer-service: %s\n", err.text);
    service->done += what == LOCAL_COMMITTED;
    service->declined += what == LOCAL_ROLLED_BACK;
    service->unknown += what == LOCAL_UNKNOWN;
}

static void run_transfer(struct service *service, const struct transfer *transfer)
{
    enum local what = LOCAL_ROLLED_BACK;

    connect_all(service);
    if (!prepare(service->half, transfer))
        return; /* not known to be prepared: nothing may be reserved */
    if (try_leg(service, transfer, &transfer->debit) &&
        try_leg(service, transfer, &transfer->credit))
        what = write_down(service->transfers, transfer);
    give_verdict(service, transfer, what);
}

static struct transfer make_up(const char *prefix, unsigned long number, unsigned *random)
{
    const bool to_b = rand_r(random) % 2 == 0;
    struct transfer transfer = {
        .debit = {to_b ? "bank_a" : "bank_b", "debit", 1 + rand_r(random) % ACCOUNTS},
        .credit = {to_b ? "bank_b" : "bank_a", "credit", 1 + rand_r(random) % ACCOUNTS},
        .amount = 1 + rand_r(random) % AMOUNT_MAX};

    snprintf(transfer.gid, sizeof(transfer.gid), "%.60s-%lu", prefix, number);
    return transfer;
}

int main(int argc, char **argv)
{
    const struct obx_half_opts opts = {.size = sizeof(opts),
                                       .url = env("HALF_URL", "http://127.0.0.1:8379"),
                                       .token = env("HALF_TOKEN", ""),
                                       .producer = "transfers",
                                       .timeout_ms = CALL_MS};
    const unsigned long count = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
    struct service service = {0};
    struct obx_err err = {0};

    if (count == 0) {
        fprintf(stderr, "usage: transfer-service PREFIX COUNT [SEED]\n");
        return 2;
    }
    service.random = argc >= 4 ? (unsigned)strtoul(argv[3], NULL, 10) : (unsigned)time(NULL);
    if (obx_half_open(&opts, &service.half, &err) != OBX_OK) {
        fprintf(stderr, "transfer-service: %s\n", err.text);
        return 2;
    }
    for (unsigned long i = 0; i < count; i++) {
        const struct transfer transfer = make_up(argv[1], i, &service.random);

        run_transfer(&service, &transfer);
    }
    printf("done=%lu declined=%lu unknown=%lu\n", service.done, service.declined, service.unknown);
    mysql_close(service.transfers);
    mysql_close(service.bank_a);
    mysql_close(service.bank_b);
    obx_half_close(service.half);
    mysql_library_end();
    return 0;
}
