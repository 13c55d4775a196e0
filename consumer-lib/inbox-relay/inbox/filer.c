/*
 * One turn does what is due: the looks that were asked for, a round of filing, receipts, a piece of
 * the rescan, the counts. Others reach it through a mailbox under a lock and its wake.
 *
 * It keeps no state that the table does not have: the mailbox, the claims and the place of the rescan
 * may all be lost with the process, or done by a second one at the same time. That is why it needs
 * no lease, and why every failure ends in "again later".
 */
#include "filer.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"
#include "filing.h"
#include "reporter.h"
#include "sql/schema.h"

enum {
    CONNECT_MIN_MS = 100,
    CONNECT_CAP_MS = 5000,
    LOCK_WAIT_S = 1,
    BUSY_MS = 20,   /* between rounds while there is traffic */
    IDLE_MS = 1000, /* and after some time without */
    RESCAN_FIRST = 500,
    RESCAN_NEXT = 100,
    RESCAN_MS = 1000,
    RESCAN_IDLE_MS = 5000, /* when there were no keys at all */
    RESCAN_SHARE = 20,     /* of its time: one part in so many */
    COUNT_MS = 5000,
    WAITING_KEYS_MAX = 1 << 20, /* bytes of hashes: what is more the rescan finds */
    EXPECTED_MAX = 100,
    DEFER_MIN_MS = 1000 * FILING_CLAIM_S,
    DEFER_MAX_MS = 300 * 1000
};

/* A stored message of which another copy has come. */
struct expected {
    struct expected *next;
    uint64_t id;
    size_t len;
    char message_id[];
};

struct filer {
    const struct inbox_opts *opts;
    struct counts *counts;
    struct waker *waker;
    struct thread thread;
    struct wake wake;
    atomic_bool is_stopping, has_ended;

    pthread_mutex_t lock; /* of the mailbox */
    struct obx_buf keys_in;
    struct expected *expected;
    size_t expected_count;
    char trouble[OBX_ERR_TEXT_MAX];

    /* The thread's own. */
    struct db *db;
    struct backoff backoff;
    struct filing filing;
    struct reporter *reporter;
    struct obx_buf keys; /* to be looked at */
    uint64_t connect_due_ms, file_due_ms, rescan_due_ms, count_due_ms;
    uint32_t pause_ms;      /* between rounds of filing */
    uint64_t full_since_ms; /* no room for receipts, and none confirmed; 0: there is */
    unsigned char rescan_from[KEY_HASH];
    bool is_rescanned; /* once, since the connection was made */
};

enum obx_code filer_create(const struct inbox_opts *opts, struct counts *counts,
                           struct waker *waker, struct filer **out, struct obx_err *err)
{
    struct filer *filer = obx_calloc(1, sizeof(*filer));
    enum obx_code rc;

    *out = NULL;
    if (filer == NULL)
        return obx_fail(err, OBX_E_NOMEM, "filer");
    filer->opts = opts;
    filer->counts = counts;
    filer->waker = waker;
    pthread_mutex_init(&filer->lock, NULL);
    backoff_init(&filer->backoff, CONNECT_MIN_MS, CONNECT_CAP_MS);
    rc = wake_init(&filer->wake, err);
    if (rc == OBX_OK)
        rc = filing_init(&filer->filing, opts, err);
    if (rc == OBX_OK)
        rc = reporter_create(opts, counts, &filer->reporter, err);
    if (rc != OBX_OK) {
        filer_destroy(filer);
        return rc;
    }
    *out = filer;
    return OBX_OK;
}

/* ------------------------------------------------------------------ the mailbox */

void filer_look_at(struct filer *filer, const struct obx_buf *keys)
{
    pthread_mutex_lock(&filer->lock);
    /* A burst of a million keys while the database is away must not cost memory without end. */
    if (keys->len > 0 && filer->keys_in.len + keys->len <= WAITING_KEYS_MAX)
        (void)buf_add(&filer->keys_in, keys->data, keys->len);
    pthread_mutex_unlock(&filer->lock);
    wake_up(&filer->wake);
}

void filer_expect(struct filer *filer, struct obx_bytes message_id, uint64_t stored_id)
{
    struct expected *expected = obx_malloc(sizeof(*expected) + message_id.len);

    if (expected == NULL)
        return;
    expected->id = stored_id;
    expected->len = message_id.len;
    memcpy(expected->message_id, message_id.p, message_id.len);
    pthread_mutex_lock(&filer->lock);
    if (filer->expected_count < EXPECTED_MAX) {
        expected->next = filer->expected;
        filer->expected = expected;
        filer->expected_count++;
        expected = NULL;
    }
    pthread_mutex_unlock(&filer->lock);
    obx_free(expected);
    wake_up(&filer->wake);
}

static void set_trouble(struct filer *filer, const struct obx_err *err)
{
    const char *text = err == NULL ? "" : err->text;
    bool is_new;

    pthread_mutex_lock(&filer->lock);
    is_new = strcmp(filer->trouble, text) != 0;
    (void)snprintf(filer->trouble, sizeof(filer->trouble), "%s", text);
    pthread_mutex_unlock(&filer->lock);
    if (is_new && err != NULL)
        OBX_LOG(LOG_LVL_WARN, "inbox", "filing.failed", KV_STR("queue", filer->opts->queue),
                KV_ERR(err));
}

void filer_get_trouble(struct filer *filer, char *text, size_t size)
{
    pthread_mutex_lock(&filer->lock);
    (void)snprintf(text, size, "%s", filer->trouble);
    pthread_mutex_unlock(&filer->lock);
}

/* ------------------------------------------------------------------ the connection */

static void disconnect(struct filer *filer)
{
    db_close(filer->db);
    filer->db = NULL;
    atomic_store(&filer->counts->is_connected, false);
    filer->connect_due_ms = clock_now_ms() + backoff_next_ms(&filer->backoff);
}

static void connect_db(struct filer *filer)
{
    struct db_opts opts = filer->opts->db;
    struct obx_err err = {0};
    enum obx_code rc;

    /* Rows that have ended are locked by nobody for long: what is held is taken next time. */
    opts.lock_wait_s = LOCK_WAIT_S;
    rc = db_open(&opts, &filer->db, &err);
    if (rc == OBX_OK)
        rc = schema_check(filer->db, SCHEMA_INBOX, &err);
    if (rc != OBX_OK) {
        set_trouble(filer, &err);
        disconnect(filer);
        return;
    }
    backoff_reset(&filer->backoff);
    set_trouble(filer, NULL);
    atomic_store(&filer->counts->is_connected, true);
    /* What the process before this one meant to look at is lost, and so are looks of ours that failed
     * with the old connection: all keys once, at full speed. */
    filer->is_rescanned = false;
    memset(filer->rescan_from, 0, KEY_HASH);
    filer->rescan_due_ms = filer->file_due_ms = filer->count_due_ms = 0;
}

/* Nothing that a failure leaves undone is forgotten: it is in the table, and the next round finds
 * it. A lock that somebody holds passes; anything else (a right taken away, a table altered, a
 * session in a state that nobody knows) is best met with a new connection, which checks the schema. */
static bool check(struct filer *filer, enum obx_code rc, const struct obx_err *err)
{
    set_trouble(filer, rc == OBX_OK ? NULL : err);
    if (rc == OBX_OK)
        return true;
    if (obx_code_action(err->code) != OBX_DO_RETRY || db_is_lost(filer->db))
        disconnect(filer);
    else
        filer->file_due_ms = clock_now_ms() + IDLE_MS;
    return false;
}

/* ------------------------------------------------------------------ what there is to do */

static void ring(struct filer *filer, uint64_t released)
{
    if (released == 0)
        return;
    atomic_fetch_add(&filer->counts->released, released);
    atomic_fetch_add(&filer->counts->wakes, waker_ring(filer->waker, filer->opts->queue));
}

/* The keys asked for, and those of rows that have been filed. */
static void look(struct filer *filer)
{
    struct obx_err err = {0};
    uint64_t released = 0;

    pthread_mutex_lock(&filer->lock);
    if (filer->keys_in.len > 0) {
        (void)buf_add(&filer->keys, filer->keys_in.data, filer->keys_in.len);
        filer->pause_ms = BUSY_MS;
    }
    buf_reset(&filer->keys_in);
    pthread_mutex_unlock(&filer->lock);
    if (filer->keys.len == 0)
        return;
    if (check(filer, filing_look(&filer->filing, filer->db, &filer->keys, &released, &err), &err)) {
        ring(filer, released);
        buf_reset(&filer->keys);
    }
}

static void pace(struct filer *filer, const struct filed *filed)
{
    const uint64_t now_ms = clock_now_ms();

    /* While there is traffic a key may wait for our look (ADR 26, step 3), so rounds come quickly;
     * without any the pause grows by a quarter each time, up to a look a second. */
    if (filed->rows > 0)
        filer->pause_ms = BUSY_MS;
    else if (filer->pause_ms < IDLE_MS)
        filer->pause_ms = filer->pause_ms * 5 / 4 + 1;
    filer->file_due_ms = filed->is_more ? now_ms : now_ms + filer->pause_ms;
}

/* 0: there is room for receipts. Otherwise the longer none was confirmed, the longer they wait, so
 * that a million of them is not gone through each ten seconds. */
static uint64_t defer_ms(struct filer *filer)
{
    const uint64_t now_ms = clock_now_ms();
    uint64_t wait_ms;

    if (!reporter_is_full(filer->reporter))
        return 0;
    if (filer->full_since_ms == 0)
        filer->full_since_ms = now_ms;
    wait_ms = (now_ms - filer->full_since_ms) / 2;
    if (wait_ms < DEFER_MIN_MS)
        return DEFER_MIN_MS;
    return wait_ms < DEFER_MAX_MS ? wait_ms : DEFER_MAX_MS;
}

static void file(struct filer *filer)
{
    struct filed filed = {.rows = 0};
    struct obx_err err = {0};
    bool is_due = false;

    if (!check(filer, filing_is_due(&filer->filing, filer->db, &is_due, &err), &err))
        return;
    if (is_due &&
        !check(filer, filing_run(&filer->filing, filer->db, defer_ms(filer), &filed, &err), &err))
        return;
    if (filed.keys.len > 0)
        OBX_CRASH_POINT("inbox-filed");
    /* Without memory for them the rescan finds what the look would have found. */
    (void)buf_add(&filer->keys, filed.keys.data, filed.keys.len);
    atomic_fetch_add(&filer->counts->filed, filed.done);
    atomic_fetch_add(&filer->counts->dead, filed.dead);
    atomic_fetch_add(&filer->counts->discarded, filed.discarded);
    reporter_add(filer->reporter, &filed.reports);
    pace(filer, &filed);
    filed_fini(&filed);
}

static void settle(struct filer *filer)
{
    struct report_list done = reporter_take_done(filer->reporter);
    struct obx_err err = {0};

    if (done.count > 0)
        filer->full_since_ms = 0;
    if (done.count > 0 &&
        check(filer, filing_settle(&filer->filing, filer->db, &done, &err), &err)) {
        OBX_CRASH_POINT("inbox-settled");
        for (const struct report *at = done.head; at != NULL; at = at->next) {
            if (at->is_discarded)
                atomic_fetch_add(&filer->counts->discarded, 1);
            else if (!at->is_rejected)
                atomic_fetch_add(&filer->counts->filed, 1);
        }
    }
    report_list_free(&done);
}

static void rescan(struct filer *filer)
{
    static const unsigned char start[KEY_HASH] = {0};
    const bool is_from_start = memcmp(filer->rescan_from, start, KEY_HASH) == 0;
    const uint64_t begun_us = clock_now_us();
    struct obx_err err = {0};
    bool is_through = false;
    uint64_t released = 0, took_ms = 0;

    filer->rescan_due_ms = clock_now_ms() + RESCAN_MS; /* also when it fails */
    if (!check(filer,
               filing_rescan(&filer->filing, filer->db, filer->rescan_from,
                             filer->is_rescanned ? RESCAN_NEXT : RESCAN_FIRST, &is_through,
                             &released, &err),
               &err))
        return;
    ring(filer, released);
    if (released > 0)
        OBX_LOG(LOG_LVL_INFO, "inbox", "rescan.released", KV_STR("queue", filer->opts->queue),
                KV_U64("rows", released));
    filer->is_rescanned = filer->is_rescanned || is_through;
    took_ms = (clock_now_us() - begun_us) / 1000;
    filer->rescan_due_ms = clock_now_ms();
    if (filer->is_rescanned && is_from_start && is_through && took_ms < RESCAN_MS)
        filer->rescan_due_ms += RESCAN_IDLE_MS;
    else if (filer->is_rescanned)
        filer->rescan_due_ms +=
            took_ms * RESCAN_SHARE > RESCAN_MS ? took_ms * RESCAN_SHARE : RESCAN_MS;
}

static void count(struct filer *filer)
{
    struct filing_counts counts = {0};
    struct obx_err err = {0};

    filer->count_due_ms = clock_now_ms() + COUNT_MS;
    if (!check(filer, filing_count(&filer->filing, filer->db, &counts, &err), &err))
        return;
    atomic_store(&filer->counts->ready, counts.ready);
    atomic_store(&filer->counts->blocked, counts.blocked);
    atomic_store(&filer->counts->dead_rows, counts.dead);
    atomic_store(&filer->counts->oldest_ready_us, counts.oldest_ready_us);
}

static struct expected *take_expected(struct filer *filer)
{
    struct expected *taken;

    pthread_mutex_lock(&filer->lock);
    taken = filer->expected;
    if (taken != NULL) {
        filer->expected = taken->next;
        filer->expected_count--;
    }
    pthread_mutex_unlock(&filer->lock);
    return taken;
}

/* It was stored, it is not there, and its dedup row does not say how it ended. */
static void check_expected(struct filer *filer)
{
    struct expected *expected;

    while (filer->db != NULL && (expected = take_expected(filer)) != NULL) {
        const struct obx_bytes id = {.p = expected->message_id, .len = expected->len};
        struct obx_err err = {0};
        bool is_there = true;

        if (check(filer, filing_find(&filer->filing, filer->db, id, expected->id, &is_there, &err),
                  &err) &&
            !is_there) {
            atomic_fetch_add(&filer->counts->missing, 1);
            OBX_LOG(LOG_LVL_ERROR, "inbox", "row.missing", KV_STR("queue", filer->opts->queue),
                    KV_BYTES("message_id", id), KV_U64("id", expected->id),
                    KV_STR("meaning", "removed by hand; whether it was applied is not known"));
        }
        obx_free(expected);
    }
}

/* ------------------------------------------------------------------ the loop */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void sleep_until_due(struct filer *filer)
{
    struct pollfd fds[] = {{.fd = filer->wake.fd, .events = POLLIN},
                           {.fd = reporter_fd(filer->reporter), .events = POLLIN}};
    uint64_t due_ms = filer->connect_due_ms;

    if (filer->db != NULL)
        due_ms = earlier(earlier(filer->file_due_ms, filer->rescan_due_ms), filer->count_due_ms);
    due_ms = earlier(due_ms, reporter_next_due_ms(filer->reporter));
    (void)poll(fds, sizeof(fds) / sizeof(fds[0]), clock_left_ms(due_ms));
    if (wake_clear(&filer->wake) > 0 && filer->pause_ms > BUSY_MS) {
        filer->pause_ms = BUSY_MS;
        filer->file_due_ms = earlier(filer->file_due_ms, clock_now_ms() + BUSY_MS);
    }
}

static void work(struct filer *filer)
{
    look(filer);
    if (filer->db != NULL && clock_now_ms() >= filer->file_due_ms)
        file(filer);
    reporter_service(filer->reporter);
    if (filer->db != NULL)
        settle(filer);
    /* Again, for the keys of the rows that were filed just now: somebody may wait for them. */
    if (filer->db != NULL)
        look(filer);
    if (filer->db != NULL && clock_now_ms() >= filer->rescan_due_ms)
        rescan(filer);
    check_expected(filer);
    if (filer->db != NULL && clock_now_ms() >= filer->count_due_ms)
        count(filer);
}

static void *filer_main(void *arg)
{
    struct filer *filer = arg;

    while (!atomic_load(&filer->is_stopping)) {
        if (filer->db == NULL && clock_now_ms() >= filer->connect_due_ms)
            connect_db(filer);
        if (filer->db != NULL)
            work(filer);
        else
            reporter_service(filer->reporter); /* heartbeats, and confirms that are still to come */
        if (!atomic_load(&filer->is_stopping))
            sleep_until_due(filer);
    }
    db_close(filer->db);
    filer->db = NULL;
    db_thread_end();
    atomic_store(&filer->has_ended, true);
    return NULL;
}

enum obx_code filer_start(struct filer *filer, struct obx_err *err)
{
    return thread_start(&filer->thread, filer_main, filer, "filer", err);
}

void filer_stop(struct filer *filer)
{
    atomic_store(&filer->is_stopping, true);
    wake_up(&filer->wake);
}

bool filer_has_ended(const struct filer *filer)
{
    return !filer->thread.is_started || atomic_load(&filer->has_ended);
}

void filer_destroy(struct filer *filer)
{
    struct expected *expected;

    if (filer == NULL)
        return;
    filer_stop(filer);
    thread_join(&filer->thread);
    reporter_destroy(filer->reporter);
    filing_fini(&filer->filing);
    while ((expected = take_expected(filer)) != NULL)
        obx_free(expected);
    buf_fini(&filer->keys);
    buf_fini(&filer->keys_in);
    wake_fini(&filer->wake);
    pthread_mutex_destroy(&filer->lock);
    obx_free(filer);
}
