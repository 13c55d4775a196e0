/*
 * Half-messages under kills and silence (P2, P5, P7): the relay dies at each of its crash points, or
 * stands still there with what it has locked, producers die all over their own steps, the database is
 * killed, every line between them falls silent, programs stand still. Afterwards every half-message is
 * decided, agrees with the business table, and exactly the committed ones' messages were delivered.
 *
 * OBX_TEST_SEED=N repeats a run's choices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"
#include "broker.h"
#include "crash/dice.h"
#include "cut_proxy.h"
#include "endpoint.h"
#include "half/checkback/ask_barrier.h"
#include "process.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

#define QUEUE           "obx-half-crash"
#define DECIDED_BY(who) "SELECT COUNT(*) FROM M.half_message WHERE decided_by = '" who "'"
#define TOKEN           "a-token-of-the-crash-tests"

enum {
    PRODUCERS = 3,
    DEATH_MS = 60 * 1000,
    QUIET_MS = 90 * 1000,
    STOP_MS = 30 * 1000,
    PROGRESS = 40, /* decided half-messages after a restart */
    PASSES_MAX = 10,
    PATH_LEN = 128,
    SILENCES = 6,
    SILENCE_MAX_MS = 2500, /* longer than the leases and than a producer's patience */
    HALF = 50,
    DECIMAL = 10
};

/* The lines that may fall silent. */
enum line { LINE_API, LINE_MESSAGES, LINE_BUSINESS, LINE_BROKER, LINES };

struct rig {
    struct test_db messages, business;
    struct db *db;    /* root, reaches both; remade after a kill of the server */
    struct db *asked; /* the endpoint's own */
    struct endpoint *endpoint;
    struct dice dice, endpoint_dice;
    struct proc *relay;
    struct proc *stopped; /* a relay that stands still */
    struct proc *producers[PRODUCERS];
    struct cut_proxy *lines[LINES]; /* NULL: the line goes straight */
    char dir[64], config[PATH_LEN], log[PATH_LEN], producer_log[PATH_LEN];
    uint16_t port;
    unsigned generation;
    bool is_clean; /* the audit found nothing: the logs may go */
};

static uint64_t first_seed;

/* ---------------------------------------------------------------- the producer's check address */

static struct db *open_asked(struct rig *rig)
{
    struct db_opts opts = rig->business.opts;

    opts.lock_wait_s = 1;
    if (rig->asked == NULL && db_open(&opts, &rig->asked, NULL) == OBX_OK &&
        db_server_is_mariadb(rig->asked))
        (void)!db_exec_text(rig->asked, bytes_of("SET SESSION innodb_lock_wait_timeout = 0"), NULL,
                            NULL);
    return rig->asked;
}

/* Answers from the barrier, as the documentation tells producers to; every tenth time it is out of
 * order. */
static void answer_check(const char *path, struct endpoint_answer *answer, void *ctx)
{
    struct rig *rig = ctx;
    const char *gid = strstr(path, "gid=");
    enum check_answer found = CHECK_NO_ANSWER;
    struct db *db = open_asked(rig);

    answer->status = 500;
    if (gid == NULL || db == NULL || dice_percent(&rig->endpoint_dice, 10))
        return;
    if (barrier_ask(db, gid + strlen("gid="), true, &found, NULL) != OBX_OK) {
        db_close(rig->asked);
        rig->asked = NULL;
    }
    if (found == CHECK_NO_ANSWER)
        return;
    answer->status = 200;
    snprintf(answer->body, sizeof(answer->body), "{\"state\":\"%s\"}", check_answer_name(found));
}

/* ---------------------------------------------------------------- the rig */

static struct db *root_db(struct rig *rig)
{
    const struct db_opts root = test_db_root_opts();

    if (rig->db != NULL && db_ping(rig->db, NULL) != OBX_OK) {
        db_close(rig->db);
        rig->db = NULL;
    }
    if (rig->db == NULL)
        rig->db = test_db_open(&root);
    return rig->db;
}

/* A query in which M stands for the message database and B for the business database. */
static uint64_t number(struct rig *rig, const char *query)
{
    struct obx_buf sql = {0};
    uint64_t value;

    for (const char *p = query; *p != '\0'; p++) {
        bool is_name = (p[0] == 'M' || p[0] == 'B') && p[1] == '.';
        const char *name = p[0] == 'M' ? rig->messages.name : rig->business.name;

        assert_int_equal(is_name ? buf_add_text(&sql, name) : buf_add(&sql, p, 1), OBX_OK);
    }
    value = test_db_number(root_db(rig), sql.data);
    buf_fini(&sql);
    return value;
}

static unsigned port_of(const struct rig *rig, enum line line, unsigned server_port)
{
    return rig->lines[line] != NULL ? cut_proxy_port(rig->lines[line]) : server_port;
}

static void write_config(const struct rig *rig)
{
    const struct db_opts *db = &rig->messages.opts;
    const unsigned amqp_port = (unsigned)atoi(test_env("OBX_TEST_AMQP_PORT"));
    FILE *file = fopen(rig->config, "w");

    assert_non_null(file);
    fprintf(file,
            "[relay]\nhttp_port = 0\ndrain = 1s\n"
            "[broker]\naddresses = %s:%u\nvhost = %s\nuser = %s\npassword = %s\n"
            "reconnect_min = 50ms\nreconnect_max = 1s\n"
            "[lane]\nlease = 1500ms\n"
            "[queue " QUEUE "]\ntype = classic\nbind = rowpost:half.#\n"
            "[source shop]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n",
            test_env("OBX_TEST_AMQP_HOST"), port_of(rig, LINE_BROKER, amqp_port),
            test_env("OBX_TEST_AMQP_VHOST"), test_env("OBX_TEST_AMQP_USER"),
            test_env("OBX_TEST_AMQP_PASSWORD"), db->host, port_of(rig, LINE_MESSAGES, db->port),
            db->user, db->password, db->database);
    fprintf(file,
            "[half]\nsource = shop\nhttp_port = %u\ntoken = " TOKEN "\nfirst_check = 150ms\n"
            "retry_min = 50ms\nretry_max = 400ms\nbreaker_min = 50ms\nbreaker_max = 300ms\n"
            "lease = 1s\nmax_answers = 1000\nmax_in_progress = 1000\n"
            "[producer by-http]\nurl = http://127.0.0.1:%u/check?gid={gid}\ntimeout = 3s\n"
            "[producer by-barrier]\ncheck = barrier\nhost = %s\nport = %u\nuser = %s\n"
            "password = %s\ndatabase = %s\n",
            (unsigned)rig->port, (unsigned)endpoint_port(rig->endpoint), db->host,
            port_of(rig, LINE_BUSINESS, db->port), db->user, db->password, rig->business.name);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(rig->config, S_IRUSR | S_IWUSR), 0);
}

static void migrate(struct rig *rig)
{
    struct db *messages = test_db_open(&rig->messages.opts);
    struct db *business = test_db_open(&rig->business.opts);
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(messages, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(messages, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    test_db_run(messages, "CREATE TABLE delivered (id BIGINT AUTO_INCREMENT PRIMARY KEY, "
                          "message_id VARCHAR(64) NOT NULL, gid VARCHAR(128) CHARACTER SET ascii "
                          "COLLATE ascii_bin NOT NULL, KEY (gid))");
    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "CREATE TABLE purchase (gid VARCHAR(128) CHARACTER SET ascii COLLATE "
                          "ascii_bin PRIMARY KEY)");
    db_close(messages);
    db_close(business);
}

static void delete_queue(void)
{
    struct broker broker;
    struct broker_admin *admin;

    assert_true(broker_from_env(&broker));
    admin = broker_admin_open(&broker);
    broker_delete_queue(admin, QUEUE);
    broker_admin_close(admin);
}

static int set_up(void **state)
{
    static struct rig rig;

    memset(&rig, 0, sizeof(rig));
    rig.dice.state = first_seed;
    rig.endpoint_dice.state = first_seed + 1;
    test_db_create(&rig.messages, "halfcrash");
    test_db_create(&rig.business, "halfbiz");
    migrate(&rig);
    delete_queue();
    rig.endpoint = endpoint_create(answer_check, &rig);
    rig.port = proc_free_port();
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/obx-half-crash-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    snprintf(rig.config, sizeof(rig.config), "%s/relay.ini", rig.dir);
    snprintf(rig.log, sizeof(rig.log), "%s/relay.log", rig.dir);
    snprintf(rig.producer_log, sizeof(rig.producer_log), "%s/producers.log", rig.dir);
    write_config(&rig);
    *state = &rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    for (unsigned i = 0; i < PRODUCERS; i++)
        proc_destroy(rig->producers[i]);
    proc_destroy(rig->relay);
    proc_destroy(rig->stopped);
    for (unsigned i = 0; i < LINES; i++)
        cut_proxy_destroy(rig->lines[i]);
    endpoint_destroy(rig->endpoint);
    db_close(rig->asked);
    db_close(rig->db);
    test_db_drop(&rig->messages);
    test_db_drop(&rig->business);
    delete_queue();
    if (rig->is_clean) {
        (void)remove(rig->config);
        (void)remove(rig->log);
        (void)remove(rig->producer_log);
        (void)rmdir(rig->dir);
    }
    return 0;
}

static void start_relay(struct rig *rig, const char *crash)
{
    char variable[128];
    const char *const argv[] = {HALF_RELAY_PROGRAM, "--config", rig->config, NULL};
    const char *const env[] = {variable, NULL};
    const struct proc_opts opts = {
        .argv = argv, .env = crash != NULL ? env : NULL, .log_path = rig->log};

    snprintf(variable, sizeof(variable), "OBX_CRASH=%s", crash != NULL ? crash : "");
    proc_destroy(rig->relay);
    rig->relay = proc_start(&opts);
    assert_non_null(rig->relay);
}

static void start_producers(struct rig *rig)
{
    char url[64], prefix[32], seed[32];
    const char *const argv[] = {
        HALF_PRODUCER_PROGRAM, url, TOKEN, rig->business.name, prefix, seed, NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = rig->producer_log};

    rig->generation++;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port_of(rig, LINE_API, rig->port));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        snprintf(prefix, sizeof(prefix), "p%u-%u", rig->generation, i);
        snprintf(seed, sizeof(seed), "%" PRIu64, dice_below(&rig->dice, UINT32_MAX));
        proc_destroy(rig->producers[i]);
        rig->producers[i] = proc_start(&opts);
        assert_non_null(rig->producers[i]);
    }
}

static void kill_producers(struct rig *rig)
{
    for (unsigned i = 0; i < PRODUCERS; i++)
        proc_kill(rig->producers[i]);
}

/* ---------------------------------------------------------------- waiting */

static uint64_t count_decided(struct rig *rig)
{
    return number(rig, "SELECT COUNT(*) FROM M.half_message WHERE state IN ('committed', "
                       "'rolled_back')");
}

struct goal {
    struct rig *rig;
    uint64_t decided;
};

static bool has_progressed(void *ctx)
{
    const struct goal *goal = ctx;

    return count_decided(goal->rig) >= goal->decided;
}

static void wait_progress(struct rig *rig)
{
    struct goal goal = {rig, count_decided(rig) + PROGRESS};

    if (!wait_until(QUIET_MS, has_progressed, &goal))
        fail_msg("nothing is decided any more; logs in %s", rig->dir);
}

static bool is_quiet(void *ctx)
{
    struct rig *rig = ctx;

    return number(rig, "SELECT (SELECT COUNT(*) FROM M.half_message WHERE state = 'prepared') + "
                       "(SELECT COUNT(*) FROM M.outbox)") == 0;
}

/* ---------------------------------------------------------------- the audit */

static void fetch_deliveries(struct rig *rig)
{
    struct broker broker;
    struct broker_admin *admin;
    struct broker_message message;
    char sql[512];

    assert_true(broker_from_env(&broker));
    admin = broker_admin_open(&broker);
    test_db_run(root_db(rig), "BEGIN");
    while (broker_get(admin, QUEUE, &message)) {
        snprintf(sql, sizeof(sql),
                 "INSERT INTO %s.delivered (message_id, gid) VALUES ('%.64s', '%.64s')",
                 rig->messages.name, message.id, message.body);
        test_db_run(root_db(rig), sql);
    }
    test_db_run(root_db(rig), "COMMIT");
    broker_admin_close(admin);
}

static void expect_none(struct rig *rig, const char *what, const char *query)
{
    uint64_t found = number(rig, query);

    if (found != 0)
        fail_msg("%" PRIu64 " %s; databases %s and %s, logs in %s", found, what, rig->messages.name,
                 rig->business.name, rig->dir);
}

static void audit(struct rig *rig)
{
    expect_none(rig, "half-messages are not decided",
                "SELECT COUNT(*) FROM M.half_message WHERE state NOT IN ('committed', "
                "'rolled_back')");
    expect_none(rig, "verdicts disagree with the local transaction",
                "SELECT COUNT(*) FROM M.half_message h LEFT JOIN B.purchase p ON p.gid = h.gid "
                "WHERE (h.state = 'committed') <> (p.gid IS NOT NULL)");
    expect_none(rig, "local transactions have no half-message",
                "SELECT COUNT(*) FROM B.purchase p LEFT JOIN M.half_message h ON p.gid = h.gid "
                "WHERE h.gid IS NULL");
    expect_none(rig, "ghosts were delivered",
                "SELECT COUNT(*) FROM M.delivered d LEFT JOIN B.purchase p ON p.gid = d.gid "
                "WHERE p.gid IS NULL");
    expect_none(rig, "messages were lost",
                "SELECT COUNT(*) FROM B.purchase p LEFT JOIN M.delivered d ON p.gid = d.gid "
                "WHERE d.gid IS NULL");
    expect_none(rig, "half-messages became two messages",
                "SELECT COUNT(*) FROM (SELECT gid FROM M.delivered GROUP BY gid "
                "HAVING COUNT(DISTINCT message_id) > 1) x");
    expect_none(rig, "parts were left behind", "SELECT COUNT(*) FROM M.half_part");
}

/* No producer any more: what they left is found out, delivered, and audited. */
static void finish(struct rig *rig)
{
    struct proc_exit how = {0};

    kill_producers(rig);
    if (!wait_until(QUIET_MS, is_quiet, rig))
        fail_msg("no quiet in time; logs in %s", rig->dir);
    assert_true(proc_signal(rig->relay, SIGTERM));
    /* With 1 it leaves without an answer that a silent line has swallowed. */
    if (!proc_wait(rig->relay, STOP_MS, &how) || how.code > (rig->lines[0] != NULL ? 1 : 0))
        fail_msg("the relay did not end well: status %d, signal %d; logs in %s", how.code,
                 how.signal, rig->dir);
    fetch_deliveries(rig);
    print_message("%" PRIu64 " committed, %" PRIu64 " rolled back\n",
                  number(rig, "SELECT COUNT(*) FROM M.half_message WHERE state = 'committed'"),
                  number(rig, "SELECT COUNT(*) FROM M.half_message WHERE state = 'rolled_back'"));
    audit(rig);
    rig->is_clean = true;
}

/* ---------------------------------------------------------------- who dies */

static void the_relay_dies_at(struct rig *rig, const char *point)
{
    char crash[64];
    struct proc_exit how = {0};

    snprintf(crash, sizeof(crash), "%s:%" PRIu64, point, 1 + dice_below(&rig->dice, PASSES_MAX));
    start_relay(rig, crash);
    start_producers(rig);
    if (!proc_wait(rig->relay, DEATH_MS, &how))
        fail_msg("the relay never came to the point %s; logs in %s", point, rig->dir);
    if (how.signal != SIGKILL)
        fail_msg("the relay ended by itself: status %d, signal %d; logs in %s", how.code,
                 how.signal, rig->dir);
    start_relay(rig, NULL);
    wait_progress(rig);
    finish(rig);
}

static bool is_stopped(void *ctx)
{
    char path[64], line[256];
    const char *end = NULL;
    FILE *file = NULL;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)proc_pid(ctx));
    file = fopen(path, "r");
    if (file != NULL && fgets(line, sizeof(line), file) != NULL)
        end = strrchr(line, ')');
    if (file != NULL)
        (void)fclose(file);
    return end != NULL && end[1] != '\0' && end[2] == 'T';
}

/* A relay that stands still in the middle of a transaction keeps its rows locked, its port and its
 * leases. Another one beside it decides everything all the same, once the server has ended the
 * session; what the first one finds when it goes on does no harm. */
static void the_relay_stands_still_at(struct rig *rig, const char *point)
{
    char crash[64];

    snprintf(crash, sizeof(crash), "%s:%" PRIu64 ":stop", point,
             1 + dice_below(&rig->dice, PASSES_MAX));
    start_relay(rig, crash);
    start_producers(rig);
    if (!wait_until(DEATH_MS, is_stopped, rig->relay))
        fail_msg("the relay never came to the point %s; logs in %s", point, rig->dir);
    rig->stopped = rig->relay;
    rig->relay = NULL;
    kill_producers(rig);
    rig->port = proc_free_port();
    write_config(rig);
    start_relay(rig, NULL);
    start_producers(rig);
    wait_progress(rig);
    kill_producers(rig);
    if (!wait_until(QUIET_MS, is_quiet, rig))
        fail_msg("what the stopped relay held is never decided; logs in %s", rig->dir);
    assert_true(proc_signal(rig->stopped, SIGCONT));
    start_producers(rig);
    wait_progress(rig);
    assert_true(proc_is_alive(rig->stopped));
    proc_kill(rig->stopped);
    finish(rig);
}

static void standing_still_before_the_commit_of_a_batch(void **state)
{
    the_relay_stands_still_at(*state, "half-before-commit");
}

static void standing_still_before_an_answer_is_written_down(void **state)
{
    the_relay_stands_still_at(*state, "check-outcome-before-commit");
}

static void before_the_commit_of_a_batch(void **state)
{
    the_relay_dies_at(*state, "half-before-commit");
}

static void after_the_commit_of_a_batch(void **state)
{
    the_relay_dies_at(*state, "half-committed");
}

static void before_asking(void **state)
{
    the_relay_dies_at(*state, "check-moved");
}

static void before_an_answer_is_written_down(void **state)
{
    the_relay_dies_at(*state, "check-outcome-before-commit");
}

static void after_an_answer_that_decides(void **state)
{
    the_relay_dies_at(*state, "check-answered");
}

/* Enough rounds that each kind of death of a producer came, and each way to find out. */
static void producers_die_everywhere(void **state)
{
    struct rig *rig = *state;

    start_relay(rig, NULL);
    start_producers(rig);
    for (int i = 0; i < 8; i++)
        wait_progress(rig);
    finish(rig);
    assert_true(number(rig, DECIDED_BY("producer")) > 0);
    assert_true(number(rig, DECIDED_BY("check")) > 0);
    assert_true(number(rig, DECIDED_BY("barrier")) > 0);
}

static void the_database_dies_under_all_of_them(void **state)
{
    struct rig *rig = *state;

    start_relay(rig, NULL);
    start_producers(rig);
    wait_progress(rig);
    broker_servers("kill database");
    broker_servers("start database");
    wait_progress(rig);
    finish(rig);
}

/* ---------------------------------------------------------------- silence */

static void make_lines(struct rig *rig)
{
    const struct db_opts *db = &rig->messages.opts;
    const uint16_t ports[LINES] = {[LINE_API] = rig->port,
                                   [LINE_MESSAGES] = db->port,
                                   [LINE_BUSINESS] = db->port,
                                   [LINE_BROKER] = (uint16_t)atoi(test_env("OBX_TEST_AMQP_PORT"))};

    for (unsigned i = 0; i < LINES; i++) {
        rig->lines[i] = cut_proxy_create("127.0.0.1", ports[i]);
        assert_non_null(rig->lines[i]);
    }
    write_config(rig);
}

/* How long a silence lasts is random: that is what is tested, not a guess how long something takes. */
static void random_pause(struct rig *rig)
{
    (void)usleep((useconds_t)dice_below(&rig->dice, SILENCE_MAX_MS + 1) * 1000);
}

/* One line says nothing, one way or both. What goes into it meanwhile comes late, or never. */
static void silence(struct rig *rig, enum line line)
{
    const enum cut_flow flow = dice_percent(&rig->dice, HALF) ? CUT_HOLD : CUT_SWALLOW;
    const uint64_t ways = 1 + dice_below(&rig->dice, 3);

    print_message("line %d is silent: %s, ways %" PRIu64 "\n", (int)line,
                  flow == CUT_HOLD ? "held" : "swallowed", ways);
    for (int dir = CUT_TO_SERVER; dir <= CUT_TO_CLIENT; dir++)
        if ((ways & (UINT64_C(1) << dir)) != 0)
            cut_proxy_set_flow(rig->lines[line], (enum cut_dir)dir, flow);
    random_pause(rig);
    for (int dir = CUT_TO_SERVER; dir <= CUT_TO_CLIENT; dir++)
        cut_proxy_set_flow(rig->lines[line], (enum cut_dir)dir, CUT_PASS);
    /* A network that is back takes up what it lost, or resets it. This proxy cannot give bytes back. */
    if (flow == CUT_SWALLOW && dice_percent(&rig->dice, HALF))
        cut_proxy_cut_all(rig->lines[line]);
}

static void stand_still(struct rig *rig, struct proc *proc)
{
    assert_true(proc_signal(proc, SIGSTOP));
    random_pause(rig);
    assert_true(proc_signal(proc, SIGCONT));
}

/* Every line once, a producer and the relay too, in an order of the seed's; work goes on after each. */
static void every_line_falls_silent(void **state)
{
    struct rig *rig = *state;
    unsigned order[SILENCES] = {0, 1, 2, 3, 4, 5};

    make_lines(rig);
    start_relay(rig, NULL);
    start_producers(rig);
    wait_progress(rig);
    for (unsigned i = 0; i < SILENCES; i++) {
        unsigned other = i + (unsigned)dice_below(&rig->dice, SILENCES - i);
        unsigned what = order[other];

        order[other] = order[i];
        if (what < LINES)
            silence(rig, (enum line)what);
        else
            stand_still(rig, what == LINES ? rig->relay : rig->producers[0]);
        wait_progress(rig);
    }
    finish(rig);
}

int main(void)
{
    const char *seed = getenv("OBX_TEST_SEED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(before_the_commit_of_a_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_the_commit_of_a_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(before_asking, set_up, tear_down),
        cmocka_unit_test_setup_teardown(before_an_answer_is_written_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_an_answer_that_decides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(standing_still_before_the_commit_of_a_batch, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(standing_still_before_an_answer_is_written_down, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(producers_die_everywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_database_dies_under_all_of_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_line_falls_silent, set_up, tear_down),
    };

    first_seed = seed != NULL ? strtoull(seed, NULL, DECIMAL) : random_u64() % UINT32_MAX;
    print_message("OBX_TEST_SEED=%" PRIu64 "\n", first_seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
