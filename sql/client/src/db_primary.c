/*
 * The primary among several servers. See db_primary.h and docs/adr/0034-database-failover.md.
 *
 * All servers of a list are asked at the same time, each by a thread of its own, because the libraries
 * connect only by standing still: one that is silent or far away must not delay the others, and one
 * that takes writes beside the primary must be seen. The threads share one struct race, which the last
 * of them frees: the caller does not wait for a silent server, and what is opened after it has left is
 * closed by the thread that opened it.
 *
 * Invariant: of two servers that take writes, and are not members of one cluster in which all do,
 * none is used. Proved by tests/system/db_failover_test.c.
 */
#include "db_primary.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    GRACE_MS = 200,  /* for the others, when one has been found that takes writes */
    MARGIN_MS = 500, /* beyond the time for a connection: the login, and setting the session up */
};

/* ---- one server ---- */

/* Inside a transaction nothing is asked: the server refuses its writes, and its COMMIT. */
enum obx_code db_primary_recheck(struct db *db, struct obx_err *err)
{
    const uint64_t now_ms = clock_now_ms();
    struct db_rows *rows = NULL;
    bool is_read_only = false;
    enum obx_code rc = OBX_OK;

    if (db->takes_any_server || db->dead || now_ms - db->primary_seen_ms < DB_PRIMARY_MS ||
        db_in_transaction(db))
        return OBX_OK;
    rc = db_text_run(db, bytes_of("SELECT " DB_READ_ONLY_COLUMNS), &rows, err);
    if (db->dead)
        return rc;
    if (rc !=
        OBX_OK) { /* not known, as in a prepared XA transaction: the next statement will say */
        obx_err_clear(err);
        return OBX_OK;
    }
    is_read_only = db_rows_next(rows) && (db_value_is_on(db_rows_bytes(rows, 0)) ||
                                          db_value_is_on(db_rows_bytes(rows, 1)));
    db_rows_free(rows);
    if (is_read_only) {
        db->dead = true;
        return obx_fail(err, OBX_E_DB_READ_ONLY, "the server has become read-only");
    }
    db->primary_seen_ms = now_ms;
    return OBX_OK;
}

/* ---- several ---- */

struct race;

/* One server that is asked. */
struct runner {
    struct race *race;
    struct db_opts opts; /* texts are the race's */
    struct db *db;       /* open and taking writes; NULL: not, see err */
    struct db_role role; /* of db */
    struct obx_err err;
    bool has_answered;
};

struct race {
    pthread_mutex_t lock;
    pthread_cond_t answered; /* by one more */
    unsigned refs;           /* the threads, and the caller */
    bool is_over;            /* the caller has left */
    char *texts;             /* copies: a caller that has left keeps nothing for us */
    size_t count;
    struct runner runners[DB_HOSTS_MAX];
    struct db_hosts hosts;
};

/* The fields of the options that are texts, but for the host. */
static void opts_texts(struct db_opts *opts, const char **fields[8])
{
    fields[0] = &opts->user;
    fields[1] = &opts->password;
    fields[2] = &opts->database;
    fields[3] = &opts->tls_ca_file;
    fields[4] = &opts->tls_cert_file;
    fields[5] = &opts->tls_key_file;
    fields[6] = &opts->program_name;
    fields[7] = &opts->unix_socket;
}

static bool copy_texts(struct race *race, const struct db_opts *from, struct db_opts *to)
{
    const char **fields[8];
    size_t size = 1, at = 0;

    *to = *from;
    opts_texts(to, fields);
    for (size_t i = 0; i < 8; i++)
        size += *fields[i] == NULL ? 0 : strlen(*fields[i]) + 1;
    race->texts = obx_malloc(size);
    if (race->texts == NULL)
        return false;
    for (size_t i = 0; i < 8; i++) {
        const size_t len = *fields[i] == NULL ? 0 : strlen(*fields[i]) + 1;

        if (len == 0)
            continue;
        memcpy(race->texts + at, *fields[i], len);
        *fields[i] = race->texts + at;
        at += len;
    }
    return true;
}

/* The last one ends it. The lock is held, and given back. */
static void race_unref(struct race *race)
{
    const bool is_last = --race->refs == 0;

    (void)pthread_mutex_unlock(&race->lock);
    if (!is_last)
        return;
    for (size_t i = 0; i < race->count; i++)
        db_close(race->runners[i].db);
    (void)pthread_cond_destroy(&race->answered);
    (void)pthread_mutex_destroy(&race->lock);
    obx_free(race->texts);
    obx_free(race);
}

static void *run(void *ctx)
{
    struct runner *runner = ctx;
    struct race *race = runner->race;
    struct obx_err err = {0};
    struct db *db = NULL;
    struct db_role role = {.is_read_only = false};

    if (db_open_one(&runner->opts, &db, &err) == OBX_OK && db_ask_role(db, &role, &err) != OBX_OK) {
        db_close(db);
        db = NULL;
    }
    (void)pthread_mutex_lock(&race->lock);
    if (race->is_over) {
        db_close(db);
        db = NULL;
    }
    runner->db = db;
    runner->role = role;
    runner->err = err;
    runner->has_answered = true;
    (void)pthread_cond_signal(&race->answered);
    race_unref(race);
    db_thread_end();
    return NULL;
}

/* In two sweeps: a thread must find the number of refs whole. */
static struct race *race_start(const struct db_opts *opts, const struct db_hosts *hosts)
{
    struct race *race = obx_calloc(1, sizeof(*race));
    struct db_opts copy;

    if (race == NULL || !copy_texts(race, opts, &copy)) {
        obx_free(race);
        return NULL;
    }
    (void)pthread_mutex_init(&race->lock, NULL);
    cond_init(&race->answered);
    race->hosts = *hosts;
    race->count = hosts->count;
    race->refs = (unsigned)hosts->count + 1;
    for (size_t i = 0; i < race->count; i++) {
        race->runners[i] = (struct runner){.race = race, .opts = copy};
        race->runners[i].opts.host = race->hosts.at[i].name;
        race->runners[i].opts.port = race->hosts.at[i].port;
        race->runners[i].opts.unix_socket = NULL;
    }
    for (size_t i = 0; i < race->count; i++) {
        struct runner *runner = &race->runners[i];
        struct thread thread = {.is_started = false};
        struct obx_err err = {0};

        if (thread_start(&thread, run, runner, race->hosts.at[i].name, &err) == OBX_OK) {
            thread_detach(&thread);
            continue;
        }
        (void)pthread_mutex_lock(&race->lock);
        runner->err = err;
        runner->has_answered = true;
        race_unref(race); /* never the last: the caller's is there */
    }
    return race;
}

/* The lock is held. Until all have answered; not for long when one takes writes; and not for ever. */
static void await_answers(struct race *race, const struct db_opts *opts)
{
    const uint64_t began_ms = clock_now_ms();
    uint64_t until_ms = began_ms +
                        (opts->connect_timeout_ms == 0 ? DB_CONNECT_MS : opts->connect_timeout_ms) +
                        MARGIN_MS;
    bool has_found = false;

    for (;;) {
        size_t answered = 0, found = 0;

        for (size_t i = 0; i < race->count; i++) {
            answered += race->runners[i].has_answered;
            found += race->runners[i].db != NULL;
        }
        if (found > 0 && !has_found) {
            const uint64_t grace_ms = clock_now_ms() + GRACE_MS;

            until_ms = grace_ms < until_ms ? grace_ms : until_ms;
            has_found = true;
        }
        if (answered == race->count || clock_now_ms() >= until_ms)
            return;
        (void)cond_wait_ms(&race->answered, &race->lock, (uint64_t)clock_left_ms(until_ms));
    }
}

/* One server by two names, or two members of a cluster all of whose members take writes. */
static bool may_both_write(const struct db_role *a, const struct db_role *b)
{
    return strcmp(a->identity, b->identity) == 0 ||
           (a->is_multi_primary && b->is_multi_primary && strcmp(a->cluster, b->cluster) == 0);
}

/* How much it says: that a server refuses us, or is read-only, is known; that one does not answer may
 * have any reason. */
static unsigned weight_of(const struct obx_err *err)
{
    switch ((int)err->code) {
    case OBX_OK: /* has not answered */
        return 0;
    case OBX_E_DB_CONNECT:
    case OBX_E_DB_GONE:
    case OBX_E_TIMEOUT:
        return 1;
    case OBX_E_DB_READ_ONLY:
        return 2;
    default:
        return 3;
    }
}

/* The lock is held. */
static enum obx_code none_writes(const struct race *race, struct obx_err *err)
{
    const struct obx_err *most = &race->runners[0].err;
    struct obx_buf why = {0};
    char shown[DB_HOST_SHOWN_MAX];
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < race->count; i++) {
        const struct runner *runner = &race->runners[i];

        if (weight_of(&runner->err) > weight_of(most))
            most = &runner->err;
        buf_addf(&why, "%s%s: %s", i > 0 ? "; " : "", db_host_show(&race->hosts.at[i], shown),
                 runner->err.code == OBX_E_DB_READ_ONLY ? "read-only"
                 : runner->has_answered                 ? runner->err.text
                                                        : "no answer");
    }
    rc = obx_fail_sys(err, most->code == OBX_OK ? OBX_E_TIMEOUT : most->code, most->sys, "%s",
                      why.len == 0 ? "no server takes writes" : why.data);
    buf_fini(&why);
    return rc;
}

/* The lock is held. The first one of the list, for clusters in which all take writes: everybody who
 * has the same list then works on the same member. */
static enum obx_code choose(struct race *race, struct db **out, struct obx_err *err)
{
    struct runner *first = NULL;
    char shown[2][DB_HOST_SHOWN_MAX];

    for (size_t i = 0; i < race->count; i++) {
        struct runner *runner = &race->runners[i];

        if (runner->db == NULL)
            continue;
        if (first != NULL && !may_both_write(&first->role, &runner->role))
            return obx_fail(err, OBX_E_DB_CONNECT,
                            "%s and %s both take writes and are not one cluster: which of them is "
                            "the primary cannot be known; make the other one read_only",
                            db_host_show(&race->hosts.at[first - race->runners], shown[0]),
                            db_host_show(&race->hosts.at[i], shown[1]));
        if (first == NULL)
            first = runner;
    }
    if (first == NULL)
        return none_writes(race, err);
    OBX_LOG(LOG_LVL_DEBUG, "sql", "primary",
            KV_STR("server", db_host_show(&race->hosts.at[first - race->runners], shown[0])),
            KV_U64("session", db_connection_id(first->db)));
    *out = first->db;
    first->db = NULL; /* moved to the caller */
    return OBX_OK;
}

enum obx_code db_primary_find(const struct db_opts *opts, const struct db_hosts *hosts,
                              struct db **out, struct obx_err *err)
{
    struct race *race = race_start(opts, hosts);
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (race == NULL)
        return obx_fail(err, OBX_E_NOMEM, "database connection");
    (void)pthread_mutex_lock(&race->lock);
    await_answers(race, opts);
    rc = choose(race, out, err);
    race->is_over = true;
    /* Closed here and not by the last thread, which may be at a silent server for a while. */
    for (size_t i = 0; i < race->count; i++) {
        db_close(race->runners[i].db);
        race->runners[i].db = NULL;
    }
    race_unref(race);
    return rc;
}
