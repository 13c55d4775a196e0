/*
 * The producers of the crash tests: see load.h. One thread, one connection and one random sequence
 * each.
 */
#include "crash/load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "crash/dice.h"
#include "crash/ledger.h"
#include "wait.h"

enum {
    PRODUCERS_MAX = 32,
    DEFAULT_PRODUCERS = 4,
    DEFAULT_ROWS_MAX = 4,
    RECONNECT_PAUSE_MS = 50,
    FILLING_MAX = 40 * 1024,
    SMALL_MAX = 400,
    BIG_MIN = 20 * 1024, /* above the relay's inline limit */
    NS_PER_MS = 1000000,
    MS_PER_S = 1000
};

struct producer {
    struct load *load;
    pthread_t thread;
    struct dice dice;
    struct db *db;
    char filling[FILLING_MAX];
};

struct load {
    struct load_opts opts;
    atomic_bool stopping;
    _Atomic uint64_t committed, rolled_back, failed, unknown, messages, doubtful;
    uint32_t count;
    struct producer producers[];
};

static void pause_ms(uint64_t ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(ms / MS_PER_S),
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

/* Take the next number of a key. The row lock makes the transactions of one key come one after the
 * other. */
static enum obx_code take_number(struct db *db, const char *key, uint64_t *key_seq,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_exec(db, "UPDATE key_seq SET last = last + 1 WHERE okey = ?",
                               DB_ARGS(DB_TEXT(key)), NULL, err);

    if (rc == OBX_OK)
        rc = db_query(db, "SELECT last FROM key_seq WHERE okey = ?", DB_ARGS(DB_TEXT(key)), &rows,
                      err);
    if (rc == OBX_OK)
        *key_seq = db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code load_write(struct db *db, const char *topic, const char *key,
                         const char *receipt_from, struct obx_bytes filling, struct obx_err *err)
{
    uint64_t key_seq = 0;
    enum obx_code rc = key != NULL ? take_number(db, key, &key_seq, err) : OBX_OK;

    if (rc == OBX_OK)
        rc = db_exec(db,
                     "INSERT INTO outbox (topic, ordering_key, receipt_from, payload) "
                     "VALUES (?, ?, ?, CONCAT(?, ' ', ?))",
                     DB_ARGS(DB_TEXT(topic), DB_TEXT(key), DB_TEXT(receipt_from), DB_U64(key_seq),
                             DB_BYTES(filling)),
                     NULL, err);
    if (rc == OBX_OK)
        rc = db_exec(db,
                     "INSERT INTO orders SELECT message_id, ordering_key, ? FROM outbox "
                     "WHERE id = LAST_INSERT_ID()",
                     DB_ARGS(DB_U64(key_seq)), NULL, err);
    return rc;
}

static struct obx_bytes random_filling(struct producer *p)
{
    bool is_big = dice_percent(&p->dice, p->load->opts.big_percent);
    size_t len = is_big ? BIG_MIN + dice_below(&p->dice, FILLING_MAX - BIG_MIN)
                        : dice_below(&p->dice, SMALL_MAX);

    return (struct obx_bytes){.p = p->filling, .len = len};
}

static const char *random_receipt(struct producer *p)
{
    const struct load_opts *opts = &p->load->opts;

    if (opts->receipt_from == NULL || opts->receipt_percent == 0)
        return opts->receipt_from;
    return dice_percent(&p->dice, opts->receipt_percent) ? opts->receipt_from : NULL;
}

static enum obx_code write_message(struct producer *p, struct obx_err *err)
{
    char key[16];

    snprintf(key, sizeof(key), "key-%u", (unsigned)dice_below(&p->dice, LEDGER_KEYS));
    return load_write(p->db, p->load->opts.topic,
                      dice_percent(&p->dice, p->load->opts.keyless_percent) ? NULL : key,
                      random_receipt(p), random_filling(p), err);
}

static enum obx_code end_transaction(struct producer *p, uint64_t messages, struct obx_err *err)
{
    const struct load_opts *opts = &p->load->opts;
    enum obx_code rc = OBX_OK;

    if (dice_percent(&p->dice, opts->hold_percent))
        pause_ms(dice_below(&p->dice, opts->hold_max_ms + 1));
    if (dice_percent(&p->dice, opts->rollback_percent)) {
        rc = db_rollback(p->db, err);
        atomic_fetch_add(&p->load->rolled_back, 1);
        return rc;
    }
    rc = db_commit(p->db, err);
    if (rc == OBX_OK) {
        atomic_fetch_add(&p->load->messages, messages);
        atomic_fetch_add(&p->load->committed, 1);
    } else if (rc == OBX_E_DB_COMMIT_UNKNOWN) {
        atomic_fetch_add(&p->load->doubtful, messages);
        atomic_fetch_add(&p->load->unknown, 1);
    } else {
        atomic_fetch_add(&p->load->failed, 1);
    }
    return rc;
}

static enum obx_code write_transaction(struct producer *p, struct obx_err *err)
{
    uint64_t messages = 1 + dice_below(&p->dice, p->load->opts.rows_max);
    enum obx_code rc = db_begin(p->db, err);

    for (uint64_t i = 0; rc == OBX_OK && i < messages; i++)
        rc = write_message(p, err);
    if (rc == OBX_OK)
        return end_transaction(p, messages, err);
    atomic_fetch_add(&p->load->failed, 1);
    return rc;
}

/* Roll back, or start over with another connection where that is not possible. */
static void recover(struct producer *p)
{
    struct obx_err err = {0};

    if (db_rollback(p->db, &err) == OBX_OK)
        return;
    db_close(p->db);
    p->db = NULL;
}

static void *produce(void *arg)
{
    struct producer *p = arg;
    struct obx_err err = {0};

    while (!atomic_load(&p->load->stopping)) {
        if (p->db == NULL && db_open(&p->load->opts.db, &p->db, &err) != OBX_OK) {
            pause_ms(RECONNECT_PAUSE_MS);
            continue;
        }
        if (write_transaction(p, &err) != OBX_OK)
            recover(p);
        if (p->load->opts.pause_max_ms > 0)
            pause_ms(dice_below(&p->dice, p->load->opts.pause_max_ms + 1));
    }
    db_close(p->db);
    db_thread_end();
    return NULL;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value != 0 ? value : fallback;
}

enum obx_code load_start(const struct load_opts *opts, struct load **out, struct obx_err *err)
{
    uint32_t count = or_default(opts->producers, DEFAULT_PRODUCERS);
    struct load *load = NULL;

    *out = NULL;
    if (count > PRODUCERS_MAX)
        return obx_fail(err, OBX_E_INVALID, "%u producers", count);
    load = obx_calloc(1, sizeof(*load) + count * sizeof(load->producers[0]));
    if (load == NULL)
        return obx_fail(err, OBX_E_NOMEM, "producers");
    load->opts = *opts;
    load->opts.rows_max = or_default(opts->rows_max, DEFAULT_ROWS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct producer *p = &load->producers[i];

        p->load = load;
        memset(p->filling, 'x', sizeof(p->filling));
        p->dice.state = opts->seed + i;
        if (pthread_create(&p->thread, NULL, produce, p) != 0) {
            load_stop(load, NULL);
            return obx_fail(err, OBX_E_SYSTEM, "thread of a producer");
        }
        load->count++;
    }
    *out = load;
    return OBX_OK;
}

void load_get_counts(struct load *load, struct load_counts *out)
{
    *out = (struct load_counts){.committed = atomic_load(&load->committed),
                                .messages = atomic_load(&load->messages),
                                .doubtful = atomic_load(&load->doubtful),
                                .rolled_back = atomic_load(&load->rolled_back),
                                .failed = atomic_load(&load->failed),
                                .unknown = atomic_load(&load->unknown)};
}

struct progress {
    struct load *load;
    uint64_t wanted;
};

static bool has_progressed(void *ctx)
{
    const struct progress *progress = ctx;

    return atomic_load(&progress->load->committed) >= progress->wanted;
}

bool load_wait(struct load *load, uint64_t transactions, int64_t timeout_ms)
{
    struct progress progress = {.load = load,
                                .wanted = atomic_load(&load->committed) + transactions};

    return wait_until(timeout_ms, has_progressed, &progress);
}

void load_stop(struct load *load, struct load_counts *counts)
{
    if (load == NULL)
        return;
    atomic_store(&load->stopping, true);
    for (uint32_t i = 0; i < load->count; i++)
        pthread_join(load->producers[i].thread, NULL);
    if (counts != NULL)
        load_get_counts(load, counts);
    obx_free(load);
}
