/*
 * The scene of a crash test: see scene.h. Everything that talks to a server is here; a test only
 * says who dies when.
 */
#include "crash/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "broker.h"
#include "cut_proxy.h"
#include "test_db.h"
#include "wait.h"

#define RELAY_USER    "obx_crash_relay"
#define RELAY_ACCOUNT "'" RELAY_USER "'@'127.0.0.1'"

enum {
    DIR_MAX = 200,
    PATH_MAX_LEN = DIR_MAX + 56,
    STOP_MS = 30 * 1000,
    SERVER_MS = 180 * 1000,
    OUTBOXCTL_MS = 30 * 1000,
    FAILOVER_MS = 20 * 1000, /* until there is a primary again */
    ARGUMENTS_MAX = 16,
    PORT_TEXT_MAX = 8
};

/* What stands between a program and its servers; NULL: nothing. */
struct lines {
    struct cut_proxy *db;
    struct cut_proxy *broker;
};

struct scene {
    char dir[DIR_MAX];
    bool is_packed;
    bool is_clean; /* the last audit found nothing: the logs may go */
    struct db *db;
    struct proc *procs[2][SCENE_ACTORS]; /* by enum scene_role */
    struct lines lines[2][SCENE_ACTORS];
    bool is_disturbed[2][SCENE_ACTORS]; /* its line was in somebody's hands since it was started */
};

const char *scene_role_name(enum scene_role role)
{
    return role == SCENE_RELAY ? "relay" : "consumer";
}

struct db_opts scene_producer_opts(void)
{
    return (struct db_opts){.host = test_env("OBX_TEST_DB_HOST"),
                            .port = (uint16_t)atoi(test_env("OBX_TEST_DB_PORT")),
                            .user = test_env("OBX_TEST_DB_USER"),
                            .password = test_env("OBX_TEST_DB_PASSWORD"),
                            .database = LEDGER_PRODUCER_DB,
                            .program_name = "crash-producer"};
}

static void path_in(const struct scene *scene, const char *name, char *path)
{
    snprintf(path, PATH_MAX_LEN, "%s/%s", scene->dir, name);
}

/* ---------------------------------------------------------------- databases and queues */

/* As patient as the programs are: it meets a silent server as they do. */
static struct db_opts root_opts(void)
{
    const char *timeout_ms = getenv("OBX_TEST_DB_TIMEOUT_MS");
    struct db_opts root = test_db_root_opts();

    root.any_server = false; /* there may be two, and what is counted is on the primary */
    root.read_timeout_ms = timeout_ms == NULL ? 0 : (uint32_t)atoi(timeout_ms);
    return root;
}

static bool has_opened(void *ctx)
{
    struct scene *scene = ctx;
    const struct db_opts root = root_opts();

    return db_open(&root, &scene->db, NULL) == OBX_OK;
}

struct db *scene_db(struct scene *scene)
{
    const struct db_opts root = root_opts();

    if (scene->db != NULL && db_ping(scene->db, NULL) != OBX_OK) {
        db_close(scene->db);
        scene->db = NULL;
    }
    if (scene->db == NULL && !wait_until(FAILOVER_MS, has_opened, scene))
        scene->db = test_db_open(&root); /* says why not */
    return scene->db;
}

/* The relay gets a user of its own with the documented grants, and no more. */
static void make_relay_user(struct db *root)
{
    static const char *const grants[] = {
        "GRANT SELECT, INSERT, DELETE ON " LEDGER_PRODUCER_DB ".outbox TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON " LEDGER_PRODUCER_DB
        ".outbox_parked TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON " LEDGER_PRODUCER_DB
        ".outbox_lease TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON " LEDGER_PRODUCER_DB
        ".outbox_awaiting TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON " LEDGER_PRODUCER_DB
        ".outbox_receipt TO " RELAY_ACCOUNT,
        "GRANT SELECT, DELETE ON " LEDGER_PRODUCER_DB ".outbox_delayed TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT ON " LEDGER_PRODUCER_DB ".outbox_secret TO " RELAY_ACCOUNT,
        "GRANT SELECT, INSERT, DELETE ON " LEDGER_PRODUCER_DB ".outbox_audit TO " RELAY_ACCOUNT,
        "GRANT SELECT ON " LEDGER_PRODUCER_DB ".rowpost_schema TO " RELAY_ACCOUNT,
    };
    char sql[256];

    test_db_run(root, "DROP USER IF EXISTS " RELAY_ACCOUNT);
    snprintf(sql, sizeof(sql), "CREATE USER " RELAY_ACCOUNT " IDENTIFIED BY '%s'",
             test_env("OBX_TEST_DB_PASSWORD"));
    test_db_run(root, sql);
    for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++)
        test_db_run(root, grants[i]);
}

static struct broker_admin *open_broker(struct broker *broker)
{
    assert_true(broker_from_env(broker));
    return broker_admin_open(broker);
}

static void delete_queues(void)
{
    struct broker broker;
    struct broker_admin *admin = open_broker(&broker);

    broker_delete_queue(admin, SCENE_QUEUE);
    broker_delete_queue(admin, SCENE_DEAD_QUEUE);
    broker_delete_queue(admin, SCENE_RECEIPTS);
    broker_admin_close(admin);
}

static void count_queues(struct audit_report *report)
{
    struct broker broker;
    struct broker_admin *admin = open_broker(&broker);

    report->queued = broker_count(admin, SCENE_QUEUE);
    report->dead = broker_count(admin, SCENE_DEAD_QUEUE);
    broker_admin_close(admin);
}

void scene_bind_late(struct scene *scene)
{
    struct broker broker;
    struct broker_admin *admin = open_broker(&broker);

    (void)scene;
    broker_bind(admin, SCENE_QUEUE, "rowpost", SCENE_LATE_TOPIC);
    broker_admin_close(admin);
}

/* ---------------------------------------------------------------- programs */

/* With the defaults, for a run by hand: a lane changes hands and a lost server is given up after
 * tens of seconds. What is set makes the same happen within a second or two. */
static bool wants_defaults(void)
{
    return getenv("OBX_TEST_DEFAULTS") != NULL;
}

static void port_text(const struct cut_proxy *proxy, const char *server, char *text)
{
    snprintf(text, PORT_TEXT_MAX, "%u",
             proxy != NULL ? (unsigned)cut_proxy_port(proxy) : (unsigned)atoi(test_env(server)));
}

/* One file for each relay; each makes up its own owner name. outboxctl takes the first one's, while
 * that relay may be reading it: the file is whole at every moment. */
static void write_relay_config(const struct scene *scene, unsigned index, const char *path)
{
    const char *timeout_ms = getenv("OBX_TEST_DB_TIMEOUT_MS"); /* for a database that is silent */
    const struct lines *lines = &scene->lines[SCENE_RELAY][index];
    char db_port[PORT_TEXT_MAX];
    char broker_port[PORT_TEXT_MAX];
    char new_path[PATH_MAX_LEN + 8];
    FILE *file = NULL;

    snprintf(new_path, sizeof(new_path), "%s.new", path);
    file = fopen(new_path, "w");
    assert_non_null(file);
    port_text(lines->db, "OBX_TEST_DB_PORT", db_port);
    port_text(lines->broker, "OBX_TEST_AMQP_PORT", broker_port);
    fprintf(file,
            "[relay]\nhttp_port = 0\nlog_level = debug\n%s"
            "[broker]\naddresses = %s:%s\nvhost = %s\nuser = %s\npassword = %s\n%s"
            "[lane]\n%s"
            "[source shop]\nhost = %s\nport = %s\nuser = " RELAY_USER "\npassword = %s\n"
            "database = " LEDGER_PRODUCER_DB "\nreceipt_queue = " SCENE_RECEIPTS "\n"
            "read_timeout = %sms\nwrite_timeout = %sms\n%s",
            wants_defaults() ? "" : "drain = 1s\n", test_env("OBX_TEST_AMQP_HOST"), broker_port,
            test_env("OBX_TEST_AMQP_VHOST"), test_env("OBX_TEST_AMQP_USER"),
            test_env("OBX_TEST_AMQP_PASSWORD"),
            wants_defaults() ? "" : "reconnect_min = 50ms\nreconnect_max = 1s\n",
            wants_defaults() ? ""
                             : "lease = 1500ms\nmax_attempts = 3\nretry_min = 50ms\n"
                               "retry_max = 500ms\nreceipt_timeout = 1s\n"
                               "receipt_retry_max = 3s\nmax_sends = 1000\ndelayed_poll = 50ms\n",
            test_env("OBX_TEST_DB_HOST"), db_port, test_env("OBX_TEST_DB_PASSWORD"),
            timeout_ms == NULL ? "30000" : timeout_ms, timeout_ms == NULL ? "30000" : timeout_ms,
            scene->is_packed ? "[topic *]\npack = 50\n" : "");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(new_path, S_IRUSR | S_IWUSR), 0);
    assert_int_equal(rename(new_path, path), 0);
}

void scene_pack(struct scene *scene)
{
    scene->is_packed = true;
}

static void relay_config(const struct scene *scene, unsigned index, char *path)
{
    char name[32];

    snprintf(name, sizeof(name), "relay-%u.ini", index);
    path_in(scene, name, path);
}

static struct cut_proxy *make_proxy(const char *host, const char *port)
{
    struct cut_proxy *proxy = cut_proxy_create(test_env(host), (uint16_t)atoi(test_env(port)));

    assert_non_null(proxy);
    return proxy;
}

void scene_put_proxies(struct scene *scene)
{
    for (int role = SCENE_RELAY; role <= SCENE_CONSUMER; role++)
        for (unsigned i = 0; i < SCENE_ACTORS; i++)
            scene->lines[role][i] =
                (struct lines){.db = make_proxy("OBX_TEST_DB_HOST", "OBX_TEST_DB_PORT"),
                               .broker = make_proxy("OBX_TEST_AMQP_HOST", "OBX_TEST_AMQP_PORT")};
}

struct cut_proxy *scene_proxy(struct scene *scene, enum scene_role role, unsigned index,
                              enum scene_line line)
{
    const struct lines *lines = &scene->lines[role][index];

    scene->is_disturbed[role][index] = true;
    return line == SCENE_TO_DATABASE ? lines->db : lines->broker;
}

struct proc *scene_proc(struct scene *scene, enum scene_role role, unsigned index)
{
    return scene->procs[role][index];
}

void scene_start(struct scene *scene, enum scene_role role, unsigned index, const char *crash)
{
    char config[PATH_MAX_LEN];
    char log[PATH_MAX_LEN];
    char name[32];
    char crash_env[128];
    char db_env[32] = "OBX_TEST_DB_PORT=";
    char broker_env[32] = "OBX_TEST_AMQP_PORT=";
    const char *const relay[] = {CRASH_RELAY_PROGRAM, "--config", config, NULL};
    const char *const consumer[] = {CRASH_CONSUMER_PROGRAM, SCENE_QUEUE, "3", NULL};
    const char *const env[] = {db_env, broker_env, crash != NULL ? crash_env : NULL, NULL};
    const struct proc_opts opts = {
        .argv = role == SCENE_RELAY ? relay : consumer, .env = env, .log_path = log};
    const struct lines *lines = &scene->lines[role][index];

    port_text(lines->db, "OBX_TEST_DB_PORT", db_env + strlen(db_env));
    port_text(lines->broker, "OBX_TEST_AMQP_PORT", broker_env + strlen(broker_env));
    relay_config(scene, index, config);
    if (role == SCENE_RELAY)
        write_relay_config(scene, index, config);
    snprintf(name, sizeof(name), "%s-%u.log", scene_role_name(role), index);
    path_in(scene, name, log);
    snprintf(crash_env, sizeof(crash_env), "OBX_CRASH=%s", crash != NULL ? crash : "");
    scene_kill(scene, role, index);
    scene->is_disturbed[role][index] = false;
    scene->procs[role][index] = proc_start(&opts);
    assert_non_null(scene->procs[role][index]);
}

void scene_kill(struct scene *scene, enum scene_role role, unsigned index)
{
    proc_destroy(scene->procs[role][index]);
    scene->procs[role][index] = NULL;
}

/* A program that waits for an answer which its silent line has swallowed leaves without it, with status 1: the wait may
 * last longer than a stop should. Any other ends well. */
void scene_stop(struct scene *scene, enum scene_role role, unsigned index)
{
    struct proc *proc = scene->procs[role][index];
    struct proc_exit how = {0};

    if (proc == NULL)
        return;
    if (!proc_signal(proc, SIGTERM) || !proc_wait(proc, STOP_MS, &how) ||
        (how.code != 0 && !(how.code == 1 && scene->is_disturbed[role][index])))
        fail_msg("%s %u did not end well on SIGTERM: status %d, signal %d; logs in %s",
                 scene_role_name(role), index, how.code, how.signal, scene->dir);
    scene_kill(scene, role, index);
}

static void run_program(const char *const *argv, const char *const *env, int64_t timeout_ms)
{
    const struct proc_opts opts = {.argv = argv, .env = env, .log_path = "/dev/stderr"};
    struct proc_exit how = {0};

    if (!proc_run(&opts, timeout_ms, &how) || how.code != 0)
        fail_msg("%s %s: status %d, signal %d", argv[0], argv[1], how.code, how.signal);
}

void scene_server(struct scene *scene, const char *command, const char *server)
{
    const char *const argv[] = {test_env("OBX_TEST_SERVERS"), command, server, NULL};

    (void)scene;
    run_program(argv, NULL, SERVER_MS);
}

void scene_outboxctl(struct scene *scene, const char *const *arguments)
{
    const char *argv[ARGUMENTS_MAX] = {CRASH_OUTBOXCTL_PROGRAM, "--config"};
    char config[PATH_MAX_LEN];
    size_t count = 3;

    relay_config(scene, 0, config);
    write_relay_config(scene, 0, config);
    argv[2] = config;
    for (size_t i = 0; arguments[i] != NULL && count < ARGUMENTS_MAX - 1; i++)
        argv[count++] = arguments[i];
    run_program(argv, NULL, OUTBOXCTL_MS);
}

/* ---------------------------------------------------------------- life */

struct scene *scene_create(void)
{
    struct scene *scene = obx_calloc(1, sizeof(*scene));
    const char *tmp = getenv("TMPDIR");
    struct obx_err err = {0};

    assert_non_null(scene);
    snprintf(scene->dir, sizeof(scene->dir), "%s/obx-crash-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(scene->dir));
    if (ledger_create(scene_db(scene), &err) != OBX_OK)
        fail_msg("the ledger: %s", err.text);
    make_relay_user(scene_db(scene));
    delete_queues();
    return scene;
}

static void remove_files(const struct scene *scene)
{
    const char *const argv[] = {"rm", "-rf", scene->dir, NULL};

    run_program(argv, NULL, OUTBOXCTL_MS);
}

void scene_destroy(struct scene *scene)
{
    if (scene == NULL)
        return;
    for (unsigned i = 0; i < SCENE_ACTORS; i++) {
        scene_kill(scene, SCENE_RELAY, i);
        scene_kill(scene, SCENE_CONSUMER, i);
    }
    for (int role = SCENE_RELAY; role <= SCENE_CONSUMER; role++)
        for (unsigned i = 0; i < SCENE_ACTORS; i++) {
            cut_proxy_destroy(scene->lines[role][i].db);
            cut_proxy_destroy(scene->lines[role][i].broker);
        }
    db_close(scene->db);
    if (scene->is_clean)
        remove_files(scene);
    else
        print_error("logs are kept in %s\n", scene->dir);
    obx_free(scene);
}

struct goal {
    struct scene *scene;
    uint64_t applied;
};

uint64_t scene_count_applied(struct scene *scene)
{
    return test_db_number(scene_db(scene), "SELECT COUNT(*) FROM " LEDGER_CONSUMER_DB ".applied");
}

static bool is_reached(void *ctx)
{
    const struct goal *goal = ctx;

    return scene_count_applied(goal->scene) >= goal->applied;
}

void scene_wait_applied(struct scene *scene, uint64_t more)
{
    struct goal goal = {.scene = scene, .applied = scene_count_applied(scene) + more};

    if (!wait_until(SCENE_QUIET_MS, is_reached, &goal))
        fail_msg("the consumers applied nothing more; logs in %s", scene->dir);
}

/* Whether nothing is left to do as far as the databases know. */
static bool is_quiet(void *ctx)
{
    return test_db_number(scene_db(ctx),
                          "SELECT (SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox) = 0 AND "
                          "(SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox_awaiting) = 0 AND "
                          "(SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".orders) <= "
                          "(SELECT COUNT(*) FROM " LEDGER_CONSUMER_DB ".applied)") != 0;
}

/* Duplicates that a crash left behind come out last; the relays have ended, so an empty queue stays
 * empty. */
static bool is_queue_empty(void *admin)
{
    return broker_count(admin, SCENE_QUEUE) == 0;
}

static bool wait_queue_empty(void)
{
    struct broker broker;
    struct broker_admin *admin = open_broker(&broker);
    bool is_empty = wait_until(SCENE_QUIET_MS, is_queue_empty, admin);

    broker_admin_close(admin);
    return is_empty;
}

static void ensure_worker(struct scene *scene, enum scene_role role)
{
    for (unsigned i = 0; i < SCENE_ACTORS; i++)
        if (scene->procs[role][i] != NULL && proc_is_alive(scene->procs[role][i]))
            return;
    scene_start(scene, role, 0, NULL);
}

static void stop_all(struct scene *scene, enum scene_role role)
{
    for (unsigned i = 0; i < SCENE_ACTORS; i++)
        scene_stop(scene, role, i);
}

static void finish(struct scene *scene, uint64_t least, uint64_t most, bool is_ordered)
{
    struct audit_report report;
    struct obx_err err = {0};
    bool was_quiet = false;

    scene->is_clean = false;
    ensure_worker(scene, SCENE_RELAY);
    ensure_worker(scene, SCENE_CONSUMER);
    was_quiet = wait_until(SCENE_QUIET_MS, is_quiet, scene);
    stop_all(scene, SCENE_RELAY);
    was_quiet = wait_queue_empty() && was_quiet;
    stop_all(scene, SCENE_CONSUMER);
    if (audit_run(scene_db(scene), &report, &err) != OBX_OK)
        fail_msg("audit: %s", err.text);
    count_queues(&report);
    if (report.dead < least || report.dead > most)
        fail_msg("%" PRIu64 " dead letters", report.dead);
    report.dead = 0; /* as expected */
    if (!is_ordered)
        report.disorder = 0; /* not promised */
    audit_print(stdout, &report);
    scene->is_clean = was_quiet && audit_is_clean(&report);
    if (!scene->is_clean)
        fail_msg("%s", was_quiet ? "the audit found damage" : "no quiet in time");
}

static bool has_nothing_to_send(void *ctx)
{
    return test_db_number(scene_db(ctx), "SELECT (SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB
                                         ".outbox) + (SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB
                                         ".outbox_awaiting)") == 0;
}

void scene_settle(struct scene *scene, struct audit_report *report)
{
    struct obx_err err = {0};

    scene->is_clean = false;
    ensure_worker(scene, SCENE_RELAY);
    ensure_worker(scene, SCENE_CONSUMER);
    if (!wait_until(SCENE_QUIET_MS, has_nothing_to_send, scene))
        fail_msg("no quiet in time; logs in %s", scene->dir);
    stop_all(scene, SCENE_RELAY);
    if (!wait_queue_empty())
        fail_msg("the queue is not worked off; logs in %s", scene->dir);
    stop_all(scene, SCENE_CONSUMER);
    if (audit_run(scene_db(scene), report, &err) != OBX_OK)
        fail_msg("audit: %s", err.text);
    count_queues(report);
    audit_print(stdout, report);
    scene->is_clean = true;
}

void scene_finish_with_dead(struct scene *scene, uint64_t least, uint64_t most)
{
    finish(scene, least, most, true);
}

void scene_finish_unordered(struct scene *scene)
{
    finish(scene, 0, 0, false);
}

void scene_finish(struct scene *scene)
{
    finish(scene, 0, 0, true);
}
