/*
 * TCC under random kills (P2, P3, P5, P7): transfers between two banks with a database each, by the
 * very programs of examples/. Initiators, banks and the relay are killed at random all the while.
 * In the end no money was made or lost, nothing is frozen or expected, and each account has what
 * the written transfers say.
 *
 * OBX_TEST_TCC_TRANSFERS=10000 makes it as long as one likes; OBX_TEST_SEED=N repeats a run's
 * choices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"
#include "broker.h"
#include "crash/dice.h"
#include "process.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

#define TOKEN "a-token-of-the-tcc-test"

enum {
    INITIATORS = 8,
    BANKS = 2,
    TRANSFERS = 1600,  /* unless the environment says otherwise */
    WHOLE = 16 * 1000, /* all the money: 8 accounts of 1000 at either bank */
    QUIET_MS = 120 * 1000,
    STOP_MS = 30 * 1000,
    PATH_LEN = 128,
    DECIMAL = 10
};

struct initiator {
    struct proc *proc;
    unsigned lives, left; /* transfers still to be begun */
    uint64_t begun_at;    /* half-messages of this life when it was started */
};

struct rig {
    struct test_db messages, transfers, banks[BANKS];
    struct db *db;
    struct dice dice;
    struct proc *relay;
    struct proc *bank[BANKS];
    struct initiator initiators[INITIATORS];
    char dir[64], config[PATH_LEN];
    uint16_t port;
    unsigned kills;
    bool is_clean;
};

static uint64_t first_seed;
static const char *const bank_names[BANKS] = {"bank_a", "bank_b"};

static void path_in(const struct rig *rig, const char *name, char *path)
{
    (void)snprintf(path, PATH_LEN, "%s/%s", rig->dir, name);
}

/* A query in which M, T, A and B stand for the databases. */
static uint64_t number(struct rig *rig, const char *query)
{
    const char *const names[] = {rig->messages.name, rig->transfers.name, rig->banks[0].name,
                                 rig->banks[1].name};
    struct obx_buf sql = {0};
    uint64_t value;

    for (const char *p = query; *p != '\0'; p++) {
        const char *letter = p[1] == '.' ? strchr("MTAB", p[0]) : NULL;

        assert_int_equal(letter != NULL ? buf_add_text(&sql, names[letter - "MTAB"])
                                        : buf_add(&sql, p, 1),
                         OBX_OK);
    }
    value = test_db_number(rig->db, sql.data);
    buf_fini(&sql);
    return value;
}

/* ---------------------------------------------------------------- set up */

static void run_script(struct db *db, const char *path)
{
    char text[4096] = "";
    FILE *file = fopen(path, "r");
    char *at = text, *end;

    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    while ((end = strstr(at, ";\n")) != NULL) {
        *end = '\0';
        test_db_run(db, at);
        at = end + 2;
    }
}

static void make(struct test_db *test, const char *word, const enum schema_side *sides,
                 size_t count, const char *script)
{
    struct obx_err err = {0};
    struct db *db;

    test_db_create(test, word);
    db = test_db_open(&test->opts);
    for (size_t i = 0; i < count; i++)
        if (schema_migrate(db, sides[i], NULL, NULL, &err) != OBX_OK)
            fail_msg("%s", err.text);
    if (script != NULL)
        run_script(db, script);
    db_close(db);
}

static void write_config(const struct rig *rig)
{
    const struct db_opts *db = &rig->messages.opts;
    FILE *file = fopen(rig->config, "w");

    assert_non_null(file);
    fprintf(file,
            "[relay]\nhttp_port = 0\ndrain = 1s\n"
            "[broker]\naddresses = %s:%s\nvhost = %s\nuser = %s\npassword = %s\n"
            "reconnect_min = 50ms\nreconnect_max = 1s\n[lane]\nlease = 1500ms\n"
            "[source hub]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n",
            test_env("OBX_TEST_AMQP_HOST"), test_env("OBX_TEST_AMQP_PORT"),
            test_env("OBX_TEST_AMQP_VHOST"), test_env("OBX_TEST_AMQP_USER"),
            test_env("OBX_TEST_AMQP_PASSWORD"), db->host, (unsigned)db->port, db->user,
            db->password, db->database);
    fprintf(file,
            "[half]\nsource = hub\nhttp_port = %u\ntoken = " TOKEN "\nfirst_check = 300ms\n"
            "retry_min = 50ms\nretry_max = 400ms\nlease = 1s\n"
            "[producer transfers]\ncheck = barrier\nhost = %s\nport = %u\nuser = %s\n"
            "password = %s\ndatabase = %s\n",
            (unsigned)rig->port, db->host, (unsigned)db->port, db->user, db->password,
            rig->transfers.name);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(rig->config, S_IRUSR | S_IWUSR), 0);
}

static void delete_queues(void)
{
    struct broker broker;
    struct broker_admin *admin;

    assert_true(broker_from_env(&broker));
    admin = broker_admin_open(&broker);
    for (unsigned i = 0; i < BANKS; i++) {
        char dead[32];

        (void)snprintf(dead, sizeof(dead), "%s.dead", bank_names[i]);
        broker_delete_queue(admin, bank_names[i]);
        broker_delete_queue(admin, dead);
    }
    broker_admin_close(admin);
}

static int set_up(void **state)
{
    static const enum schema_side hub_sides[] = {SCHEMA_PRODUCER, SCHEMA_HALF};
    static const enum schema_side transfer_sides[] = {SCHEMA_BARRIER};
    static const enum schema_side bank_sides[] = {SCHEMA_CONSUMER, SCHEMA_BARRIER};
    static struct rig rig;
    const struct db_opts root = test_db_root_opts();

    memset(&rig, 0, sizeof(rig));
    rig.dice.state = first_seed;
    make(&rig.messages, "tcchub", hub_sides, 2, NULL);
    make(&rig.transfers, "tcc", transfer_sides, 1, TCC_EXAMPLES "/transfers.sql");
    make(&rig.banks[0], "tcca", bank_sides, 2, TCC_EXAMPLES "/bank.sql");
    make(&rig.banks[1], "tccb", bank_sides, 2, TCC_EXAMPLES "/bank.sql");
    rig.db = test_db_open(&root);
    delete_queues();
    rig.port = proc_free_port();
    (void)snprintf(rig.dir, sizeof(rig.dir), "/tmp/obx-tcc-crash-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    path_in(&rig, "relay.ini", rig.config);
    write_config(&rig);
    *state = &rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    const char *const argv[] = {"rm", "-rf", rig->dir, NULL};
    const struct proc_opts opts = {.argv = argv};

    for (unsigned i = 0; i < INITIATORS; i++)
        proc_destroy(rig->initiators[i].proc);
    for (unsigned i = 0; i < BANKS; i++)
        proc_destroy(rig->bank[i]);
    proc_destroy(rig->relay);
    db_close(rig->db);
    test_db_drop(&rig->messages);
    test_db_drop(&rig->transfers);
    for (unsigned i = 0; i < BANKS; i++)
        test_db_drop(&rig->banks[i]);
    delete_queues();
    if (rig->is_clean)
        (void)proc_run(&opts, STOP_MS, &(struct proc_exit){0});
    return 0;
}

/* ---------------------------------------------------------------- programs */

/* The environment of the example programs. */
struct surroundings {
    char text[16][160];
    const char *env[17];
    unsigned count;
};

static void surround(struct surroundings *around, const char *name, const char *value)
{
    (void)snprintf(around->text[around->count], sizeof(around->text[0]), "%s=%s", name, value);
    around->env[around->count] = around->text[around->count];
    around->env[++around->count] = NULL;
}

static void surround_all(const struct rig *rig, const char *db_name, struct surroundings *around)
{
    char address[128];

    around->count = 0;
    (void)snprintf(address, sizeof(address), "%s:%s", test_env("OBX_TEST_AMQP_HOST"),
                   test_env("OBX_TEST_AMQP_PORT"));
    surround(around, "AMQP_ADDRESSES", address);
    surround(around, "AMQP_USER", test_env("OBX_TEST_AMQP_USER"));
    surround(around, "AMQP_PASSWORD", test_env("OBX_TEST_AMQP_PASSWORD"));
    surround(around, "DB_HOST", test_env("OBX_TEST_DB_HOST"));
    surround(around, "DB_PORT", test_env("OBX_TEST_DB_PORT"));
    surround(around, "DB_USER", test_env("OBX_TEST_DB_USER"));
    surround(around, "DB_PASSWORD", test_env("OBX_TEST_DB_PASSWORD"));
    surround(around, "DB_NAME", db_name);
    surround(around, "TRANSFERS_DB", rig->transfers.name);
    surround(around, "BANK_A_DB", rig->banks[0].name);
    surround(around, "BANK_B_DB", rig->banks[1].name);
    (void)snprintf(address, sizeof(address), "http://127.0.0.1:%u", (unsigned)rig->port);
    surround(around, "HALF_URL", address);
    surround(around, "HALF_TOKEN", TOKEN);
}

static struct proc *start(const struct rig *rig, const char *const *argv, const char *db_name,
                          const char *log_name)
{
    struct surroundings around;
    char log[PATH_LEN];
    const struct proc_opts opts = {.argv = argv, .env = around.env, .log_path = log};
    struct proc *proc;

    path_in(rig, log_name, log);
    surround_all(rig, db_name, &around);
    proc = proc_start(&opts);
    assert_non_null(proc);
    return proc;
}

static void start_relay(struct rig *rig)
{
    const char *const argv[] = {TCC_RELAY_PROGRAM, "--config", rig->config, NULL};

    proc_destroy(rig->relay);
    rig->relay = start(rig, argv, "", "relay.log");
}

static void start_bank(struct rig *rig, unsigned i)
{
    const char *const argv[] = {TCC_BANK_PROGRAM, bank_names[i], NULL};

    proc_destroy(rig->bank[i]);
    rig->bank[i] = start(rig, argv, rig->banks[i].name, bank_names[i]);
}

static uint64_t begun_by(struct rig *rig, unsigned i)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM M.half_message WHERE gid LIKE 't%u-%%'",
                   i);
    return number(rig, sql);
}

/* A new life goes on with what the last one has not begun. */
static void start_initiator(struct rig *rig, unsigned i)
{
    struct initiator *initiator = &rig->initiators[i];
    char prefix[32], count[16], seed[24];
    const char *const argv[] = {TCC_TRANSFER_PROGRAM, prefix, count, seed, NULL};

    proc_destroy(initiator->proc);
    initiator->proc = NULL;
    if (initiator->left == 0)
        return;
    (void)snprintf(prefix, sizeof(prefix), "t%u-%u", i, initiator->lives++);
    (void)snprintf(count, sizeof(count), "%u", initiator->left);
    (void)snprintf(seed, sizeof(seed), "%" PRIu64, dice_below(&rig->dice, UINT32_MAX));
    initiator->begun_at = begun_by(rig, i);
    initiator->proc = start(rig, argv, "", "transfers.log");
}

static void take_stock(struct rig *rig, unsigned i)
{
    struct initiator *initiator = &rig->initiators[i];
    uint64_t begun = begun_by(rig, i) - initiator->begun_at;

    initiator->left -= begun < initiator->left ? (unsigned)begun : initiator->left;
}

/* ---------------------------------------------------------------- the run */

static void kill_somebody(struct rig *rig)
{
    uint64_t whom = dice_below(&rig->dice, 10);

    rig->kills++;
    if (whom == 0) {
        start_relay(rig);
    } else if (whom <= 2) {
        start_bank(rig, (unsigned)whom - 1);
    } else {
        unsigned i = (unsigned)dice_below(&rig->dice, INITIATORS);

        if (rig->initiators[i].proc == NULL)
            return;
        proc_kill(rig->initiators[i].proc);
        take_stock(rig, i);
        start_initiator(rig, i);
    }
}

/* Whether somebody still has transfers to begin. One that has ended had all its own begun. */
static bool is_running(struct rig *rig)
{
    bool is_busy = false;

    for (unsigned i = 0; i < INITIATORS; i++) {
        struct initiator *initiator = &rig->initiators[i];

        if (initiator->proc != NULL && !proc_is_alive(initiator->proc)) {
            proc_destroy(initiator->proc);
            initiator->proc = NULL;
            initiator->left = 0;
        }
        is_busy = is_busy || initiator->proc != NULL;
    }
    return is_busy;
}

static bool is_settled(void *ctx)
{
    return number(ctx, "SELECT (SELECT COUNT(*) FROM M.half_message WHERE state = 'prepared') + "
                       "(SELECT COUNT(*) FROM M.outbox) + "
                       "(SELECT SUM(frozen + expected) FROM A.account) + "
                       "(SELECT SUM(frozen + expected) FROM B.account)") == 0;
}

static bool is_long_enough(void *ctx)
{
    const int64_t *due_ms = ctx;

    return wait_now_ms() >= *due_ms;
}

static void run_under_kills(struct rig *rig, unsigned transfers)
{
    start_relay(rig);
    for (unsigned i = 0; i < BANKS; i++)
        start_bank(rig, i);
    for (unsigned i = 0; i < INITIATORS; i++) {
        rig->initiators[i].left = transfers / INITIATORS;
        start_initiator(rig, i);
    }
    while (is_running(rig)) {
        int64_t due_ms = wait_now_ms() + 100 + (int64_t)dice_below(&rig->dice, 400);

        if (!proc_is_alive(rig->relay))
            fail_msg("the relay ended by itself; logs in %s", rig->dir);

        (void)wait_until(1000, is_long_enough, &due_ms);
        kill_somebody(rig);
    }
}

/* ---------------------------------------------------------------- the audit */

#define MOVED(column, bank)                                                                        \
    "(SELECT COALESCE(SUM(amount), 0) FROM T.transfer WHERE " column " = CONCAT('" bank "/', "     \
    "a.id))"
#define OFF_BALANCE(database, bank)                                                                \
    "SELECT COUNT(*) FROM " database ".account a WHERE CAST(a.balance AS SIGNED) <> 1000 - "       \
    "CAST(" MOVED("debit", bank) " AS SIGNED) + CAST(" MOVED("credit", bank) " AS SIGNED)"

static void expect(struct rig *rig, uint64_t wanted, const char *what, const char *query)
{
    uint64_t found = number(rig, query);

    if (found != wanted)
        fail_msg("%s: %" PRIu64 ", not %" PRIu64 "; logs in %s", what, found, wanted, rig->dir);
}

static void audit(struct rig *rig)
{
    expect(rig, WHOLE, "the money of both banks",
           "SELECT (SELECT SUM(balance) FROM A.account) + (SELECT SUM(balance) FROM B.account)");
    expect(rig, 0, "accounts of bank A that are not what the transfers say",
           OFF_BALANCE("A", "bank_a"));
    expect(rig, 0, "accounts of bank B that are not what the transfers say",
           OFF_BALANCE("B", "bank_b"));
    expect(rig, 0, "half-messages that are not decided",
           "SELECT COUNT(*) FROM M.half_message WHERE state NOT IN ('committed', 'rolled_back')");
    expect(rig, 0, "verdicts that disagree with the written transfers",
           "SELECT COUNT(*) FROM M.half_message h LEFT JOIN T.transfer t ON t.gid = h.gid "
           "WHERE (h.state = 'committed') <> (t.gid IS NOT NULL)");
}

static unsigned transfers_wanted(void)
{
    const char *text = getenv("OBX_TEST_TCC_TRANSFERS");

    return text != NULL ? (unsigned)strtoul(text, NULL, DECIMAL) : TRANSFERS;
}

static void no_money_is_made_or_lost(void **state)
{
    struct rig *rig = *state;

    run_under_kills(rig, transfers_wanted());
    if (!wait_until(QUIET_MS, is_settled, rig))
        fail_msg("something stays open or frozen; logs in %s", rig->dir);
    print_message("%" PRIu64 " transfers, %" PRIu64 " committed, %u kills\n",
                  number(rig, "SELECT COUNT(*) FROM M.half_message"),
                  number(rig, "SELECT COUNT(*) FROM T.transfer"), rig->kills);
    audit(rig);
    assert_true(number(rig, "SELECT COUNT(*) FROM T.transfer") > 0);
    assert_true(number(rig, "SELECT COUNT(*) FROM M.half_message WHERE decided_by = 'barrier'") >
                0);
    rig->is_clean = true;
}

int main(void)
{
    const char *seed = getenv("OBX_TEST_SEED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_money_is_made_or_lost, set_up, tear_down),
    };

    first_seed = seed != NULL ? strtoull(seed, NULL, DECIMAL) : random_u64() % UINT32_MAX;
    print_message("OBX_TEST_SEED=%" PRIu64 "\n", first_seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
