/*
 * The producer of the half-message crash tests: its business data, and the barrier beside it, are
 * in a database of their own. Prepare, local transaction, verdict, again and again, until SIGTERM.
 *
 * The work is done by a child that dies (SIGKILL) somewhere in every few rounds: before its local
 * transaction, inside it, after its COMMIT before the verdict, after the verdict; its parent starts
 * the next. A child that hears nothing goes on with another gid; what it left is for check-back.
 *
 * usage: half_producer URL TOKEN BUSINESS_DATABASE PREFIX SEED
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash/dice.h"
#include "obx/half.h"
#include "sql/db.h"

enum {
    ARGUMENTS = 6,
    DEATH_PERCENT = 3,
    DECLINED_PERCENT = 20,
    SILENT_PERCENT = 5,
    HOLD_PERCENT = 5,
    HOLD_MS = 400, /* longer than the first silence, so that checks meet an open transaction */
    CALL_MS = 1500,
    US_PER_MS = 1000,
    DECIMAL = 10
};

struct producer {
    struct dice dice;
    struct obx_half *half[2]; /* asked by HTTP, asked through the barrier */
    const char *database;
    struct db *db;
};

static const char *env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        exit(2);
    return value;
}

/* The places where a producer dies. */
static void may_die(struct producer *producer)
{
    if (dice_percent(&producer->dice, DEATH_PERCENT))
        (void)raise(SIGKILL);
}

static void pause_ms(unsigned ms)
{
    (void)usleep(ms * US_PER_MS);
}

static struct db *open_business(const char *database)
{
    const struct db_opts opts = {.host = env("OBX_TEST_DB_HOST"),
                                 .port = (uint16_t)atoi(env("OBX_TEST_DB_PORT")),
                                 .user = env("OBX_TEST_DB_USER"),
                                 .password = env("OBX_TEST_DB_PASSWORD"),
                                 .database = database,
                                 .program_name = "half-producer"};
    struct db *db = NULL;

    return db_open(&opts, &db, NULL) == OBX_OK ? db : NULL;
}

enum local { LOCAL_COMMITTED, LOCAL_ROLLED_BACK, LOCAL_UNKNOWN };

/* The barrier row is the first statement: once a check has decided, it is refused. */
static enum local local_transaction(struct producer *producer, const char *gid)
{
    struct obx_err err = {0};
    enum obx_code rc = db_begin(producer->db, &err);

    if (rc == OBX_OK)
        rc = db_exec(producer->db, "INSERT INTO half_barrier (gid) VALUES (?)",
                     DB_ARGS(DB_TEXT(gid)), NULL, &err);
    if (rc == OBX_OK)
        rc = db_exec(producer->db, "INSERT INTO purchase (gid) VALUES (?)", DB_ARGS(DB_TEXT(gid)),
                     NULL, &err);
    may_die(producer);
    if (dice_percent(&producer->dice, HOLD_PERCENT))
        pause_ms(HOLD_MS);
    if (rc == OBX_OK && !dice_percent(&producer->dice, DECLINED_PERCENT)) {
        rc = db_commit(producer->db, &err);
        if (rc == OBX_OK)
            return LOCAL_COMMITTED;
        if (rc == OBX_E_DB_COMMIT_UNKNOWN)
            return LOCAL_UNKNOWN;
    }
    return db_rollback(producer->db, NULL) == OBX_OK ? LOCAL_ROLLED_BACK : LOCAL_UNKNOWN;
}

/* A verdict that gets no answer is not repeated here: check-back has to find out. A conflict would
 * be the end of the promise; the audit sees it. */
static void give_verdict(struct producer *producer, struct obx_half *half, const char *gid,
                         enum local what)
{
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    if (what == LOCAL_UNKNOWN || dice_percent(&producer->dice, SILENT_PERCENT))
        return;
    rc = what == LOCAL_COMMITTED ? obx_half_commit(half, gid, &err)
                                 : obx_half_rollback(half, gid, &err);
    if (rc != OBX_OK)
        fprintf(stderr, "half_producer: %s\n", err.text);
}

static void one_round(struct producer *producer, const char *gid)
{
    struct obx_half *half = producer->half[dice_below(&producer->dice, 2)];
    const struct obx_half_message message = {.topic = "half.bought", .payload = bytes_of(gid)};
    enum local what;

    if (obx_half_prepare(half, gid, &message, 1, NULL, 0, NULL) != OBX_OK)
        return;
    may_die(producer);
    what = local_transaction(producer, gid);
    may_die(producer);
    give_verdict(producer, half, gid, what);
    may_die(producer);
}

static struct obx_half *open_half(char **argv, const char *name)
{
    const struct obx_half_opts opts = {.size = sizeof(opts),
                                       .url = argv[1],
                                       .token = argv[2],
                                       .producer = name,
                                       .timeout_ms = CALL_MS};
    struct obx_half *half = NULL;

    if (obx_half_open(&opts, &half, NULL) != OBX_OK)
        exit(2);
    return half;
}

static void work(char **argv, unsigned life)
{
    struct producer producer = {.dice = {strtoull(argv[5], NULL, DECIMAL) * 1000 + life},
                                .half = {open_half(argv, "by-http"), open_half(argv, "by-barrier")},
                                .database = argv[3]};

    for (unsigned number = 0;; number++) {
        char gid[64];

        if (producer.db == NULL && (producer.db = open_business(producer.database)) == NULL) {
            pause_ms(50);
            continue;
        }
        (void)snprintf(gid, sizeof(gid), "%s-%u-%u", argv[4], life, number);
        one_round(&producer, gid);
        if (db_ping(producer.db, NULL) != OBX_OK) {
            db_close(producer.db);
            producer.db = NULL;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != ARGUMENTS) {
        fprintf(stderr, "usage: half_producer URL TOKEN BUSINESS_DATABASE PREFIX SEED\n");
        return 2;
    }
    for (unsigned life = 0;; life++) {
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(argv, life);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
            return EXIT_FAILURE;
    }
}
