/*
 * See program_rig.h. The rig keeps one connection with all rights, one of the producer, and one to
 * the broker; the programs have accounts of their own.
 */
#define _GNU_SOURCE /* memmem */
#include "program_rig.h"
#include "process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "http_raw.h"
#include "wait.h"

enum { ARGS_MAX = 24, ENV_MAX = 24, TEXT_MAX = 1024, SQL_MAX = 2048 };

/* ---------------------------------------------------------------- files */

static void read_file(const char *path, struct obx_buf *out)
{
    FILE *file = fopen(path, "re");
    char chunk[4096];
    size_t len;

    buf_reset(out);
    assert_int_equal(buf_reserve(out, 1), OBX_OK);
    out->data[0] = 0;
    if (file == NULL)
        return;
    while ((len = fread(chunk, 1, sizeof(chunk), file)) > 0)
        assert_int_equal(buf_add(out, chunk, len), OBX_OK);
    (void)fclose(file);
}

void rig_write(const struct program_rig *rig, const char *name, const char *text, char path[192])
{
    FILE *file;

    snprintf(path, 192, "%s/%s", rig->dir, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void rig_config_text(const struct program_rig *rig, struct obx_buf *text)
{
    read_file(rig->config, text);
}

unsigned rig_count_in_file(const char *path, const char *text)
{
    struct obx_buf all = {0};
    unsigned count = 0;

    read_file(path, &all);
    for (const char *at = strstr(all.data, text); at != NULL; at = strstr(at + 1, text))
        count++;
    buf_fini(&all);
    return count;
}

static void write_config(struct program_rig *rig)
{
    char text[2 * TEXT_MAX];

    snprintf(text, sizeof(text),
             "[relay]\nhttp_port = 0\ndrain = 1s\n"
             "[broker]\naddresses = %s\nvhost = %s\nuser = %s\npassword = %s\nexchange = %s\n"
             "reconnect_min = 50ms\nreconnect_max = 300ms\n"
             "[lane]\nlease = 10s\nretry_min = 20ms\nretry_max = 200ms\nmax_attempts = 3\n"
             "[source shop]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n"
             "[queue %s]\ntype = classic\nbind = %s:t.#\n",
             rig->broker.address, rig->broker.vhost, rig->broker.user, rig->broker.password,
             rig->exchange, rig->relay.opts.host, (unsigned)rig->relay.opts.port, rig->relay.name,
             rig->relay.opts.password, rig->test_db.name, rig->queue, rig->exchange);
    rig_write(rig, "relay.conf", text, rig->config);
}

/* No password may stand in anything that a program wrote. */
static void assert_no_secrets(const struct program_rig *rig)
{
    const char *const secrets[] = {rig->broker.password, rig->relay.opts.password,
                                   test_env("OBX_TEST_DB_ROOT_PASSWORD")};
    DIR *dir = opendir(rig->dir);
    struct obx_buf text = {0};
    const struct dirent *entry;
    char path[512];

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strstr(entry->d_name, ".log") == NULL)
            continue;
        snprintf(path, sizeof(path), "%s/%s", rig->dir, entry->d_name);
        read_file(path, &text);
        for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
            if (memmem(text.data, text.len, secrets[i], strlen(secrets[i])) != NULL)
                fail_msg("%s has a password in it", path);
        }
    }
    (void)closedir(dir);
    buf_fini(&text);
}

static void remove_logs(const struct program_rig *rig)
{
    DIR *dir = opendir(rig->dir);
    const struct dirent *entry;
    char path[512];

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", rig->dir, entry->d_name);
        if (strstr(entry->d_name, ".log") != NULL)
            assert_int_equal(unlink(path), 0);
    }
    (void)closedir(dir);
}

static void remove_dir(const struct program_rig *rig)
{
    const struct proc_opts opts = {.argv = WORDS("rm", "-rf", rig->dir)};

    assert_true(proc_run(&opts, RIG_WAIT_MS, NULL));
}

/* ---------------------------------------------------------------- programs that end */

static int run(struct program_rig *rig, const char *program, const char *const *env,
               const char *const *args, bool with_config)
{
    const char *argv[ARGS_MAX] = {program};
    char log[192];
    const struct proc_opts opts = {.argv = argv, .env = env, .log_path = log};
    struct proc_exit how = {0};
    size_t count = 1;

    if (with_config) {
        argv[count++] = "--config";
        argv[count++] = rig->config;
    }
    for (; *args != NULL; args++) {
        assert_true(count < ARGS_MAX - 1);
        argv[count++] = *args;
    }
    snprintf(log, sizeof(log), "%s/run-%u.log", rig->dir, rig->runs++);
    if (!proc_run(&opts, RIG_WAIT_MS, &how))
        fail_msg("%s %s did not end", program, argv[1] == NULL ? "" : argv[count - 1]);
    read_file(log, &rig->out);
    return how.code;
}

const char *rig_outboxctl(void)
{
    return PROGRAM_OUTBOXCTL;
}

int rig_run_relay(struct program_rig *rig, const char *const *env, const char *const *args)
{
    return run(rig, PROGRAM_RELAY, env, args, true);
}

int rig_run_ctl(struct program_rig *rig, const char *const *env, const char *const *args)
{
    return run(rig, PROGRAM_OUTBOXCTL, env, args, true);
}

int rig_run_ctl_bare(struct program_rig *rig, const char *const *env, const char *const *args)
{
    return run(rig, PROGRAM_OUTBOXCTL, env, args, false);
}

int rig_run_relay_bare(struct program_rig *rig, const char *const *env, const char *const *args)
{
    return run(rig, PROGRAM_RELAY, env, args, false);
}

void rig_said(const struct program_rig *rig, const char *text)
{
    if (strstr(rig->out.data, text) == NULL)
        fail_msg("it did not say \"%s\" but:\n%s", text, rig->out.data);
}

void rig_said_not(const struct program_rig *rig, const char *text)
{
    if (strstr(rig->out.data, text) != NULL)
        fail_msg("it said \"%s\":\n%s", text, rig->out.data);
}

/* ---------------------------------------------------------------- relays */

const char *rig_log_path(const struct program_rig *rig, unsigned i)
{
    static char path[192];

    snprintf(path, sizeof(path), "%s/relay-%u.log", rig->dir, i);
    return path;
}

void rig_start(struct program_rig *rig, unsigned i, const char *const *env)
{
    const char *all[ENV_MAX] = {NULL};
    char port[48];
    char log[192];
    const struct proc_opts opts = {
        .argv = WORDS(PROGRAM_RELAY, "--config", rig->config), .env = all, .log_path = log};
    size_t count = 0;

    snprintf(port, sizeof(port), "OBX_RELAY_HTTP_PORT=%u", (unsigned)rig->http_ports[i]);
    snprintf(log, sizeof(log), "%s", rig_log_path(rig, i));
    all[count++] = port;
    for (; env != NULL && *env != NULL; env++) {
        assert_true(count < ENV_MAX - 1);
        all[count++] = *env;
    }
    assert_null(rig->relays[i]);
    rig->relays[i] = proc_start(&opts);
    assert_non_null(rig->relays[i]);
}

void rig_start_ready(struct program_rig *rig, unsigned i, const char *const *env)
{
    rig_start(rig, i, env);
    rig_wait_ready(rig, i);
}

/* The end of a log, for a message that says why. */
static void fail_with_log(struct program_rig *rig, unsigned i, const char *what)
{
    const size_t last = 3000;

    read_file(rig_log_path(rig, i), &rig->out);
    fail_msg("relay %u: %s; its log ends with:\n%s", i, what,
             rig->out.data + (rig->out.len > last ? rig->out.len - last : 0));
}

int rig_wait_end(struct program_rig *rig, unsigned i)
{
    struct proc_exit how = {0};

    if (!proc_wait(rig->relays[i], RIG_WAIT_MS, &how))
        fail_with_log(rig, i, "did not end");
    rig_kill(rig, i);
    return how.code;
}

void rig_stop(struct program_rig *rig, unsigned i)
{
    assert_true(proc_signal(rig->relays[i], SIGTERM));
    if (rig_wait_end(rig, i) != 0)
        fail_with_log(rig, i, "did not end well on SIGTERM");
}

void rig_kill(struct program_rig *rig, unsigned i)
{
    proc_destroy(rig->relays[i]);
    rig->relays[i] = NULL;
}

void rig_wait_log(struct program_rig *rig, unsigned i, const char *text)
{
    if (!proc_wait_log(rig->relays[i], 0, text, RIG_WAIT_MS)) {
        print_error("nothing like: %s\n", text);
        fail_with_log(rig, i, "did not log what was waited for");
    }
}

bool rig_has_logged(const struct program_rig *rig, unsigned i, const char *text)
{
    struct obx_buf log = {0};
    bool is_there;

    read_file(rig_log_path(rig, i), &log);
    is_there = strstr(log.data, text) != NULL;
    buf_fini(&log);
    return is_there;
}

/* ---------------------------------------------------------------- what a relay says by HTTP */

int rig_get(struct program_rig *rig, unsigned i, const char *path, struct obx_buf *body)
{
    return http_raw_get(rig->http_ports[i], path, body);
}

/* Something to wait for at one relay. */
struct page {
    struct program_rig *rig;
    unsigned i;
    int status;
    const char *text;
    double least;
    struct obx_buf body;
};

static bool page_is(void *ctx)
{
    struct page *page = ctx;

    return rig_get(page->rig, page->i, "/readyz", &page->body) == page->status &&
           strstr(page->body.data, page->text) != NULL;
}

static void wait_readyz(struct program_rig *rig, unsigned i, int status, const char *text)
{
    struct page page = {.rig = rig, .i = i, .status = status, .text = text};

    if (!wait_until(RIG_WAIT_MS, page_is, &page)) {
        print_error("/readyz never said \"%s\" but %s\n", text,
                    page.body.data == NULL ? "nothing" : page.body.data);
        fail_with_log(rig, i, "/readyz did not say what was waited for");
    }
    buf_fini(&page.body);
}

void rig_wait_ready(struct program_rig *rig, unsigned i)
{
    wait_readyz(rig, i, 200, "\"ready\":true");
}

void rig_wait_unready(struct program_rig *rig, unsigned i, const char *text)
{
    wait_readyz(rig, i, 503, text);
}

static bool find_metric(struct program_rig *rig, unsigned i, const char *series, double *value)
{
    struct obx_buf body = {0};
    char line[256];
    const char *found;

    snprintf(line, sizeof(line), "\n%s ", series);
    assert_int_equal(rig_get(rig, i, "/metrics", &body), 200);
    found = strstr(body.data, line);
    if (found != NULL)
        *value = strtod(found + strlen(line), NULL);
    buf_fini(&body);
    return found != NULL;
}

double rig_metric(struct program_rig *rig, unsigned i, const char *series)
{
    double value = 0;

    if (!find_metric(rig, i, series, &value))
        fail_msg("/metrics of relay %u has no %s", i, series);
    return value;
}

static void name_of_lane_series(const char *name, char series[160])
{
    snprintf(series, 160, "%s{source=\"shop\",outbox=\"outbox\"}", name);
}

double rig_lane_metric(struct program_rig *rig, unsigned i, const char *name)
{
    char series[160];

    name_of_lane_series(name, series);
    return rig_metric(rig, i, series);
}

static bool metric_is_reached(void *ctx)
{
    struct page *page = ctx;
    double value = 0;
    char series[160];

    name_of_lane_series(page->text, series);
    return find_metric(page->rig, page->i, series, &value) && value >= page->least;
}

void rig_wait_lane_metric(struct program_rig *rig, unsigned i, const char *name, double least)
{
    struct page page = {.rig = rig, .i = i, .text = name, .least = least};

    if (!wait_until(RIG_WAIT_MS, metric_is_reached, &page)) {
        print_error("%s is %g, not %g\n", name, rig_lane_metric(rig, i, name), least);
        fail_with_log(rig, i, "a metric did not reach its value");
    }
}

/* ---------------------------------------------------------------- rows */

void rig_insert(struct program_rig *rig, const char *outbox, const char *topic, const char *key,
                const char *payload)
{
    struct obx_err err = {0};
    char sql[256];

    snprintf(sql, sizeof(sql), "INSERT INTO %s (topic, ordering_key, payload) VALUES (?, ?, ?)",
             outbox);
    if (db_exec(rig->app, sql, DB_ARGS(DB_TEXT(topic), DB_TEXT(key), DB_TEXT(payload)), NULL,
                &err) != OBX_OK)
        fail_msg("%s: %s", sql, err.text);
}

void rig_fill(struct program_rig *rig, const char *outbox, const char *topic, unsigned count,
              unsigned keys)
{
    struct obx_err err = {0};
    char key[24];

    assert_int_equal(db_begin(rig->app, &err), OBX_OK);
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "k%u", keys == 0 ? 0 : i % keys);
        rig_insert(rig, outbox, topic, keys == 0 ? NULL : key, "a body");
    }
    if (db_commit(rig->app, &err) != OBX_OK)
        fail_msg("COMMIT: %s", err.text);
}

void rig_sql(struct program_rig *rig, const char *fmt, ...)
{
    char sql[SQL_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    test_db_run(rig->root, sql);
}

uint64_t rig_number(struct program_rig *rig, const char *fmt, ...)
{
    char sql[SQL_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    return test_db_number(rig->root, sql);
}

struct number {
    struct program_rig *rig;
    const char *sql;
    uint64_t wanted;
    uint64_t found;
};

static bool number_is(void *ctx)
{
    struct number *number = ctx;

    number->found = test_db_number(number->rig->root, number->sql);
    return number->found == number->wanted;
}

/* What the relays say of themselves and the ends of their logs, for a failure that needs to be
 * understood. */
static void print_relays(struct program_rig *rig)
{
    const size_t last = 1500;
    struct obx_buf text = {0};

    for (unsigned i = 0; i < RIG_RELAYS; i++) {
        if (rig->relays[i] == NULL)
            continue;
        (void)rig_get(rig, i, "/status", &text);
        print_error("relay %u: %s\n", i, text.data);
        read_file(rig_log_path(rig, i), &text);
        print_error("%s\n", text.data + (text.len > last ? text.len - last : 0));
    }
    buf_fini(&text);
}

void rig_wait_number(struct program_rig *rig, uint64_t wanted, const char *sql)
{
    struct number number = {.rig = rig, .sql = sql, .wanted = wanted};

    if (!wait_until(RIG_WAIT_MS, number_is, &number)) {
        print_relays(rig);
        fail_msg("%s: %" PRIu64 ", not %" PRIu64, sql, number.found, wanted);
    }
}

void rig_wait_empty(struct program_rig *rig, const char *outbox)
{
    char sql[128];

    snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM %s", outbox);
    rig_wait_number(rig, 0, sql);
}

void rig_add_outbox(struct program_rig *rig, const char *outbox)
{
    rig_sql(rig, "CREATE TABLE %s LIKE outbox", outbox);
    rig_sql(rig, "GRANT SELECT, INSERT, DELETE ON `%s`.`%s` TO '%s'@'%%'", rig->test_db.name,
            outbox, rig->relay.name);
    rig_sql(rig, "GRANT INSERT ON `%s`.`%s` TO '%s'@'%%'", rig->test_db.name, outbox,
            rig->producer.name);
    rig_sql(rig, "GRANT SELECT ON `%s`.`%s` TO '%s'@'%%'", rig->test_db.name, outbox,
            rig->operator.name);
}

/* ---------------------------------------------------------------- life */

static void migrate(struct program_rig *rig)
{
    char url[256];

    snprintf(url, sizeof(url), "mysql://%s:%s@%s:%u/%s", rig->migrate.name,
             rig->migrate.opts.password, rig->migrate.opts.host, (unsigned)rig->migrate.opts.port,
             rig->test_db.name);
    if (rig_run_ctl_bare(rig, NULL, WORDS("migrate", "--db", url)) != 0)
        fail_msg("outboxctl migrate: %s", rig->out.data);
}

static void make_database(struct program_rig *rig)
{
    struct db_opts root = test_db_root_opts();

    test_db_create(&rig->test_db, "programs");
    root.database = rig->test_db.name;
    rig->root = test_db_open(&root);
    test_user_create(&rig->migrate, &rig->test_db, "migrate");
    migrate(rig);
    test_user_create(&rig->relay, &rig->test_db, "relay");
    test_user_create(&rig->operator, & rig->test_db, "operator");
    test_user_create(&rig->producer, &rig->test_db, "producer");
    rig->app = test_db_open(&rig->producer.opts);
}

int program_setup(void **state)
{
    struct program_rig *rig = obx_calloc(1, sizeof(*rig));
    const char *tmp = getenv("TMPDIR");

    assert_non_null(rig);
    snprintf(rig->dir, sizeof(rig->dir), "%s/obx-programs-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(rig->dir));
    assert_true(broker_from_env(&rig->broker));
    rig->admin = broker_admin_open(&rig->broker);
    make_database(rig);
    snprintf(rig->exchange, sizeof(rig->exchange), "x_%.60s", rig->test_db.name);
    snprintf(rig->queue, sizeof(rig->queue), "q_%.60s", rig->test_db.name);
    write_config(rig);
    for (unsigned i = 0; i < RIG_RELAYS; i++) {
        rig->http_ports[i] = proc_free_port();
        rig->bell_ports[i] = proc_free_port();
    }
    *state = rig;
    return 0;
}

/* Every row of every table, but for what the migrations have noted. */
static void delete_rows(struct program_rig *rig)
{
    struct obx_err err = {0};
    struct db_rows *rows = NULL;
    char table[80];

    if (db_query(rig->root,
                 "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
                 " AND table_name <> 'rowpost_schema'",
                 DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    while (db_rows_next(rows)) {
        bytes_to_text(db_rows_bytes(rows, 0), table, sizeof(table));
        rig_sql(rig, "DELETE FROM `%s`", table);
    }
    db_rows_free(rows);
}

int program_reset(void **state)
{
    struct program_rig *rig = *state;

    for (unsigned i = 0; i < RIG_RELAYS; i++)
        rig_kill(rig, i);
    broker_delete_queue(rig->admin, rig->queue);
    broker_delete_exchange(rig->admin, rig->exchange);
    delete_rows(rig);
    assert_no_secrets(rig);
    remove_logs(rig);
    write_config(rig);
    return 0;
}

int program_teardown(void **state)
{
    struct program_rig *rig = *state;

    for (unsigned i = 0; i < RIG_RELAYS; i++)
        rig_kill(rig, i);
    broker_delete_queue(rig->admin, rig->queue);
    broker_delete_exchange(rig->admin, rig->exchange);
    broker_admin_close(rig->admin);
    db_close(rig->app);
    db_close(rig->root);
    test_user_drop(&rig->migrate);
    test_user_drop(&rig->relay);
    test_user_drop(&rig->operator);
    test_user_drop(&rig->producer);
    test_db_drop(&rig->test_db);
    assert_no_secrets(rig);
    remove_dir(rig);
    buf_fini(&rig->out);
    obx_free(rig);
    return 0;
}
