/*
 * The check-back thread: takes what is due, asks, hands verdicts to the store, writes down what
 * decided nothing.
 *
 * Threads: everything belongs to the check-back thread but the mailbox of barrier answers (barrier
 * threads put in), the numbers (copied under the mutex) and is_closing. An ask in flight is a
 * `slot`; it is one producer's and counts against its concurrency. Fairness: each producer has its
 * own slots and breaker, so none waits for another; a look goes from one producer that has
 * something due to the next.
 */
#include "checkback.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/queue.h>

#include "ask_barrier.h"
#include "ask_http.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/thread.h"
#include "check_sql.h"
#include "half/api/half_json.h"
#include "sql/schema.h"
#include "tables/lease.h"

#define LEASE_NAME     "half:check"
#define TAKE_MAX       256 /* due ones taken from one producer at once */
#define OUTCOMES_MAX   256
#define OUTCOME_AGE_MS 200 /* an outcome waits at most this long to be written with others */
#define CLEAN_PAGE     500
#define PARK_PAGE      1000
#define STANDBY_MS     1000 /* between two tries for a lease that is another's */
#define SCAN_MAX       256  /* producers with prepared half-messages passed over in one scan */
#define SCAN_MS        50   /* a scan that takes longer goes on after the sockets were served */
#define LOCK_WAIT_S    1    /* nothing here waits for a row; what remains is a race */

struct producer {
    const struct check_producer *conf;
    struct ask_target target;
    struct ask_barrier *barrier;
    struct breaker breaker;
    struct checkback_producer_stats stats;
    uint32_t concurrency;
    bool may_have_more; /* the last take filled all it could */
};

struct slot {
    struct checkback *cb;
    struct producer *producer;
    char gid[HALF_GID_MAX + 1];
    /* an answer on its way through the mailbox */
    enum check_answer answer;
    char why[HALF_NOTE_MAX + 1];
    STAILQ_ENTRY(slot) in_mailbox;
    LIST_ENTRY(slot) in_all;
};

struct checkback {
    struct checkback_opts opts;
    struct producer *producers;
    struct http_client *http;
    struct db *db;
    struct lease lease;
    struct backoff backoff;
    struct outcome outcomes[OUTCOMES_MAX];
    uint32_t outcome_count;
    uint64_t outcomes_since_ms;
    uint64_t scan_due_ms, chores_due_ms, connect_due_ms, lease_due_ms;
    LIST_HEAD(, slot) slots; /* all there are, for the end */
    char clean_after[HALF_GID_MAX + 1];
    uint64_t clean_history_after;
    uint64_t history_seen;
    char scan_after[HALF_PRODUCER_MAX + 1]; /* where the next scan for due producers goes on */
    struct due due[TAKE_MAX];
    struct thread thread;
    atomic_bool is_closing;
    pthread_mutex_t mutex; /* guards the mailbox, stats and each producer's published stats */
    STAILQ_HEAD(, slot) answered; /* the mailbox */
    struct checkback_stats stats;
};

/* A verdict on its way to the store; frees itself. */
struct check_verdict {
    struct half_request req;
    char gid[HALF_GID_MAX + 1];
};

static uint32_t or_default(uint32_t value, uint32_t def)
{
    return value == 0 ? def : value;
}

static void on_verdict_done(struct half_request *req, void *ctx)
{
    struct check_verdict *verdict = ctx;

    if (req->answer == HALF_ANS_CONFLICT)
        OBX_LOG(LOG_LVL_ERROR, "checkback", "verdict.conflict", KV_STR("gid", verdict->gid),
                KV_STR("asked", half_verdict_name(req->verdict)),
                KV_STR("decided_by", req->rec.decided_by));
    obx_free(verdict);
}

/* Without room in the store or memory nothing is lost: the half-message is due again later. */
static void give_verdict(struct checkback *cb, const char *gid, enum half_verdict decided,
                         const char *actor)
{
    struct check_verdict *verdict = obx_calloc(1, sizeof(*verdict));

    if (verdict == NULL)
        return;
    (void)bytes_to_text(bytes_of(gid), verdict->gid, sizeof(verdict->gid));
    verdict->req = (struct half_request){.kind = HALF_REQ_VERDICT,
                                         .gid = bytes_of(verdict->gid),
                                         .verdict = decided,
                                         .actor = actor,
                                         .done = on_verdict_done,
                                         .ctx = verdict};
    OBX_CRASH_POINT("check-answered");
    if (half_store_submit(cb->opts.store, &verdict->req, NULL) != OBX_OK)
        obx_free(verdict);
}

static void keep_outcome(struct checkback *cb, const struct slot *slot, enum check_answer answer,
                         const char *why)
{
    struct outcome *out;

    if (cb->outcome_count == OUTCOMES_MAX)
        return; /* the database is away: the history misses a line, the half-message does not */
    if (cb->outcome_count == 0)
        cb->outcomes_since_ms = clock_now_ms();
    out = &cb->outcomes[cb->outcome_count++];
    out->answer = answer;
    (void)bytes_to_text(bytes_of(slot->gid), out->gid, sizeof(out->gid));
    (void)bytes_to_text(bytes_of(why), out->why, sizeof(out->why));
}

static void count_answer(struct checkback *cb, struct producer *producer, enum check_answer answer)
{
    bool received = answer != CHECK_NO_ANSWER;

    producer->stats.in_flight--;
    producer->stats.answered += received ? 1 : 0;
    producer->stats.failed += received ? 0 : 1;
    cb->stats.answered += received ? 1 : 0;
    cb->stats.failed += received ? 0 : 1;
    if (received)
        breaker_success(&producer->breaker);
    else
        breaker_failure(&producer->breaker, clock_now_ms());
    producer->stats.breaker = producer->breaker.state;
}

static void free_slot(struct slot *slot)
{
    LIST_REMOVE(slot, in_all);
    obx_free(slot);
}

static struct slot *new_slot(struct checkback *cb, struct producer *producer, const char *gid)
{
    struct slot *slot = obx_calloc(1, sizeof(*slot));

    if (slot == NULL)
        return NULL;
    slot->cb = cb;
    slot->producer = producer;
    (void)bytes_to_text(bytes_of(gid), slot->gid, sizeof(slot->gid));
    LIST_INSERT_HEAD(&cb->slots, slot, in_all);
    return slot;
}

/* What came of one ask; frees the slot. */
static void take_answer(struct slot *slot, enum check_answer answer, const char *why)
{
    struct checkback *cb = slot->cb;
    const char *actor = slot->producer->conf->kind == CHECK_BY_BARRIER ? "barrier" : "check";

    pthread_mutex_lock(&cb->mutex);
    count_answer(cb, slot->producer, answer);
    pthread_mutex_unlock(&cb->mutex);
    OBX_LOG(answer == CHECK_NO_ANSWER ? LOG_LVL_WARN : LOG_LVL_DEBUG, "checkback", "answer",
            KV_STR("producer", slot->producer->conf->name), KV_STR("gid", slot->gid),
            KV_STR("answer", check_answer_name(answer)), KV_STR("why", why));
    if (answer == CHECK_COMMITTED || answer == CHECK_ROLLED_BACK)
        give_verdict(cb, slot->gid, answer == CHECK_COMMITTED ? HALF_COMMIT : HALF_ROLLBACK, actor);
    else
        keep_outcome(cb, slot, answer, why);
    free_slot(slot);
}

static void on_http_done(const struct http_answer *answer, void *ctx)
{
    char why[ASK_WHY_MAX];
    enum check_answer said = ask_http_read(answer, why);

    take_answer(ctx, said, why);
}

/* On a barrier thread: hand over. */
static void on_barrier_answer(void *ctx, enum check_answer answer, const char *why)
{
    struct slot *slot = ctx;
    struct checkback *cb = slot->cb;

    slot->answer = answer;
    (void)bytes_to_text(bytes_of(why), slot->why, sizeof(slot->why));
    pthread_mutex_lock(&cb->mutex);
    STAILQ_INSERT_TAIL(&cb->answered, slot, in_mailbox);
    pthread_mutex_unlock(&cb->mutex);
    http_client_wake(cb->http);
}

static void take_barrier_answers(struct checkback *cb)
{
    STAILQ_HEAD(, slot) taken = STAILQ_HEAD_INITIALIZER(taken);
    struct slot *slot;

    pthread_mutex_lock(&cb->mutex);
    STAILQ_CONCAT(&taken, &cb->answered);
    pthread_mutex_unlock(&cb->mutex);
    while ((slot = STAILQ_FIRST(&taken)) != NULL) {
        STAILQ_REMOVE_HEAD(&taken, in_mailbox);
        take_answer(slot, slot->answer, slot->why);
    }
}

/* Asking */

static enum obx_code start_ask(struct checkback *cb, struct producer *producer,
                               const struct due *due, struct obx_err *err)
{
    struct slot *slot = new_slot(cb, producer, due->gid);
    enum obx_code rc;

    if (slot == NULL)
        return obx_fail(err, OBX_E_NOMEM, "check-back");
    pthread_mutex_lock(&cb->mutex);
    producer->stats.in_flight++;
    producer->stats.asked++;
    cb->stats.asked++;
    pthread_mutex_unlock(&cb->mutex);
    if (producer->barrier != NULL)
        rc = ask_barrier_start(producer->barrier, slot->gid, due->age_s < cb->opts.barrier_keep_s,
                               slot, err);
    else
        rc = ask_http_start(cb->http, &producer->target, slot->gid, on_http_done, slot, err);
    if (rc != OBX_OK)
        take_answer(slot, CHECK_NO_ANSWER, err->text);
    return rc;
}

static void count_parked(struct checkback *cb, uint64_t parked)
{
    if (parked == 0)
        return;
    pthread_mutex_lock(&cb->mutex);
    cb->stats.parked += parked;
    pthread_mutex_unlock(&cb->mutex);
    OBX_LOG(LOG_LVL_WARN, "checkback", "parked", KV_U64("count", parked));
}

/* Ask about those that were taken. Those that cannot be asked about come together at the front of
 * cb->due; the result says how many they are. */
static uint32_t ask_all(struct checkback *cb, struct producer *producer, uint32_t count)
{
    uint32_t unaskable = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct obx_err own = {0};

        /* A gid that came by SQL may have any character; only the barrier can be asked about all.
         */
        if (producer->barrier == NULL && !half_gid_is_valid(bytes_of(cb->due[i].gid)))
            cb->due[unaskable++] = cb->due[i];
        else if (start_ask(cb, producer, &cb->due[i], &own) != OBX_OK)
            OBX_LOG(LOG_LVL_WARN, "checkback", "ask.failed",
                    KV_STR("producer", producer->conf->name), KV_ERR(&own));
    }
    return unaskable;
}

/* Take and ask what is due of one producer, as far as its slots and its breaker allow. What cannot
 * be asked about is parked at once: that is nobody's failure. */
static enum obx_code ask_due(struct checkback *cb, struct producer *producer, struct obx_err *err)
{
    uint32_t room = producer->concurrency - producer->stats.in_flight;
    uint32_t wanted, unaskable, count = 0;
    uint64_t parked = 0;
    struct check_take take = {.producer = producer->conf->name,
                              .min_ms = cb->opts.backoff_min_ms,
                              .cap_ms = cb->opts.backoff_cap_ms};
    enum obx_code rc;

    producer->may_have_more = false;
    wanted = breaker_admit(&producer->breaker, room < TAKE_MAX ? room : TAKE_MAX, clock_now_ms());
    if (wanted == 0)
        return OBX_OK;
    take.max = wanted;
    rc = check_take_due(cb->db, &cb->lease, &take, cb->due, &count, err);
    if (rc != OBX_OK || count == 0) {
        breaker_release(&producer->breaker);
        return rc;
    }
    producer->may_have_more = count == wanted;
    unaskable = ask_all(cb, producer, count);
    if (unaskable == count)
        breaker_release(&producer->breaker);
    rc = check_park(cb->db, &cb->lease, cb->due, unaskable,
                    "its gid cannot stand in a URL: the producer cannot be asked about it", &parked,
                    err);
    count_parked(cb, parked);
    return rc;
}

/* A producer that has something due: ask it. What cannot be asked becomes visible instead of
 * waiting for ever. */
static enum obx_code serve_producer(struct checkback *cb, const char *name, struct obx_err *err)
{
    struct producer *producer = NULL;
    uint64_t parked = 0;
    enum obx_code rc;

    for (size_t i = 0; i < cb->opts.producer_count; i++)
        if (strcmp(cb->opts.producers[i].name, name) == 0)
            producer = &cb->producers[i];
    if (producer != NULL && producer->conf->kind != CHECK_NEVER)
        return ask_due(cb, producer, err);
    rc = check_park_due(cb->db, &cb->lease, name,
                        producer == NULL ? "its producer is not in the relay's configuration"
                                         : "its producer cannot be asked: check = none",
                        PARK_PAGE, &parked, err);
    count_parked(cb, parked);
    return rc;
}

/* Go from producer to producer, by the index, however many half-messages each has. A scan has an
 * end; the next one goes on where it was. */
static enum obx_code scan(struct checkback *cb, struct obx_err *err)
{
    const uint64_t start_ms = clock_now_ms();
    enum obx_code rc = OBX_OK;

    for (unsigned i = 0; rc == OBX_OK && i < SCAN_MAX; i++) {
        char name[HALF_PRODUCER_MAX + 1];
        bool is_due = false;

        rc = check_next_producer(cb->db, cb->scan_after, name, &is_due, err);
        if (rc == OBX_OK)
            memcpy(cb->scan_after, name, sizeof(name));
        if (rc != OBX_OK || name[0] == '\0')
            return rc;
        if (is_due)
            rc = serve_producer(cb, name, err);
        if (clock_now_ms() - start_ms >= SCAN_MS) {
            cb->scan_due_ms = 0;
            return rc;
        }
    }
    return rc;
}

static enum obx_code ask_all_due(struct checkback *cb, struct obx_err *err)
{
    uint64_t now_ms = clock_now_ms();
    enum obx_code rc = OBX_OK;

    /* Who had more than could be asked need not wait for the next scan. */
    for (size_t i = 0; rc == OBX_OK && i < cb->opts.producer_count; i++) {
        struct producer *producer = &cb->producers[i];

        if (producer->may_have_more && producer->stats.in_flight <= producer->concurrency / 2)
            rc = ask_due(cb, producer, err);
    }
    if (rc != OBX_OK || now_ms < cb->scan_due_ms)
        return rc;
    cb->scan_due_ms = now_ms + cb->opts.poll_ms;
    return scan(cb, err);
}

/* Chores */

static enum obx_code write_outcomes(struct checkback *cb, struct obx_err *err)
{
    uint64_t parked = 0;
    enum obx_code rc;

    if (cb->outcome_count == 0 || (cb->outcome_count < OUTCOMES_MAX / 2 &&
                                   clock_now_ms() < cb->outcomes_since_ms + OUTCOME_AGE_MS))
        return OBX_OK;
    rc = check_write_outcomes(cb->db, &cb->lease, cb->outcomes, cb->outcome_count,
                              (struct check_limits){cb->opts.max_answers, cb->opts.max_in_progress},
                              &parked, err);
    if (rc == OBX_OK)
        cb->outcome_count = 0;
    count_parked(cb, parked);
    return rc;
}

static enum obx_code do_chores(struct checkback *cb, struct obx_err *err)
{
    struct check_counts counts = {0};
    uint64_t cleaned = 0, lines = 0, operators = 0;
    enum obx_code rc;

    if (clock_now_ms() < cb->chores_due_ms)
        return OBX_OK;
    cb->chores_due_ms = clock_now_ms() + cb->opts.chores_ms;
    rc = check_count(cb->db, CHECK_COUNT_CAP, &counts, err);
    if (rc == OBX_OK)
        rc = check_count_operators(cb->db, &cb->history_seen, &operators, err);
    if (rc == OBX_OK)
        rc = check_clean(cb->db, &cb->lease, cb->clean_after, CLEAN_PAGE, cb->opts.retention_s,
                         &cleaned, err);
    if (rc == OBX_OK)
        rc = check_clean_history(cb->db, &cb->lease, &cb->clean_history_after, CLEAN_PAGE,
                                 cb->opts.retention_s, &lines, err);
    pthread_mutex_lock(&cb->mutex);
    cb->stats.cleaned += cleaned;
    cb->stats.verdicts_by_operator += operators;
    cb->stats.prepared_now = counts.prepared;
    cb->stats.parked_now = counts.parked;
    cb->stats.oldest_prepared_us = counts.oldest_prepared_us;
    pthread_mutex_unlock(&cb->mutex);
    /* Where one was old, others are: gids are in no order of time, so that a page of old ones only
     * is never seen, and a page in each chores_ms would fall behind. */
    if (cleaned > 0 || lines > 0)
        cb->chores_due_ms = clock_now_ms() + cb->opts.poll_ms;
    return rc;
}

/* Connection and lease */

static void set_trouble(struct checkback *cb, bool is_owner, const char *text)
{
    pthread_mutex_lock(&cb->mutex);
    cb->stats.is_owner = is_owner;
    (void)bytes_to_text(bytes_of(text), cb->stats.trouble, sizeof(cb->stats.trouble));
    pthread_mutex_unlock(&cb->mutex);
}

static void drop_connection(struct checkback *cb, const struct obx_err *why)
{
    OBX_LOG(LOG_LVL_WARN, "checkback", "database.lost", KV_ERR(why));
    db_close(cb->db);
    cb->db = NULL;
    cb->connect_due_ms = clock_now_ms() + backoff_next_ms(&cb->backoff);
    set_trouble(cb, false, why->text);
}

static void try_connect(struct checkback *cb)
{
    struct obx_err err = {0};
    enum obx_code rc;

    if (clock_now_ms() < cb->connect_due_ms)
        return;
    rc = db_open(&cb->opts.db, &cb->db, &err);
    if (rc == OBX_OK)
        rc = schema_check(cb->db, SCHEMA_HALF, &err);
    if (rc != OBX_OK)
        drop_connection(cb, &err);
    else
        backoff_reset(&cb->backoff);
}

/* Whether this relay asks: keeps the lease while it holds it, and looks for it from time to time
 * while it does not. */
static bool hold_lease(struct checkback *cb, struct obx_err *err, enum obx_code *rc)
{
    bool acquired = false;

    *rc = OBX_OK;
    if (lease_holds(&cb->lease, clock_now_ms())) {
        if (clock_now_ms() >= cb->lease.renew_due_ms)
            *rc = lease_renew(&cb->lease, cb->db, err);
        if (*rc == OBX_OK)
            return true;
    } else if (clock_now_ms() >= cb->lease_due_ms) {
        cb->lease_due_ms = clock_now_ms() + STANDBY_MS;
        *rc = lease_try(&cb->lease, cb->db, &acquired, err);
    }
    if (*rc == OBX_E_LEASE_LOST) {
        lease_drop(&cb->lease);
        *rc = OBX_OK;
    }
    if (acquired) {
        cb->history_seen = UINT64_MAX; /* what came before was another relay's to count */
        OBX_LOG(LOG_LVL_INFO, "checkback", "lease.acquired", KV_U64("epoch", cb->lease.epoch));
    }
    set_trouble(cb, acquired, acquired ? "" : "another relay asks");
    return acquired;
}

static enum obx_code work_once(struct checkback *cb, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (!hold_lease(cb, err, &rc))
        return rc;
    rc = ask_all_due(cb, err);
    if (rc == OBX_OK)
        rc = write_outcomes(cb, err);
    if (rc == OBX_OK)
        rc = do_chores(cb, err);
    if (rc != OBX_E_LEASE_LOST)
        return rc;
    OBX_LOG(LOG_LVL_WARN, "checkback", "lease.lost", KV_ERR(err));
    lease_drop(&cb->lease);
    set_trouble(cb, false, "another relay asks");
    return OBX_OK;
}

static void *checkback_main(void *arg)
{
    struct checkback *cb = arg;

    while (!atomic_load(&cb->is_closing)) {
        struct obx_err err = {0};
        enum obx_code rc = OBX_OK;
        int wait_ms;

        if (cb->db == NULL)
            try_connect(cb);
        if (cb->db != NULL)
            rc = work_once(cb, &err);
        if (rc != OBX_OK && rc != OBX_E_DB_DEADLOCK && rc != OBX_E_DB_LOCK_WAIT)
            drop_connection(cb, &err);
        wait_ms = clock_left_ms(cb->db == NULL ? cb->connect_due_ms : cb->scan_due_ms) + 1;
        http_client_service(cb->http,
                            wait_ms < (int)cb->opts.poll_ms ? wait_ms : (int)cb->opts.poll_ms);
        take_barrier_answers(cb);
    }
    if (cb->db != NULL && lease_release(&cb->lease, cb->db, NULL) != OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "checkback", "lease.not_released", KV_STR("outbox", LEASE_NAME));
    db_close(cb->db);
    db_thread_end();
    return NULL;
}

/* Life */

static enum obx_code init_producer(struct producer *producer, const struct check_producer *conf,
                                   const struct checkback_opts *opts, struct obx_err *err)
{
    const uint32_t timeout_ms = or_default(conf->timeout_ms, CHECK_ASK_MS);
    struct ask_barrier_opts barrier = {.db = conf->db, .done = on_barrier_answer};

    producer->conf = conf;
    producer->concurrency = or_default(conf->concurrency, conf->kind == CHECK_BY_BARRIER ? 4 : 16);
    producer->target = (struct ask_target){
        .url = conf->url, .token = conf->token, .ca_file = conf->ca_file, .timeout_ms = timeout_ms};
    breaker_init(&producer->breaker, opts->breaker_failures, opts->breaker_min_ms,
                 opts->breaker_cap_ms);
    if (conf->kind != CHECK_BY_BARRIER)
        return OBX_OK;
    barrier.threads = producer->concurrency;
    barrier.db.read_timeout_ms = or_default(conf->db.read_timeout_ms, timeout_ms);
    barrier.db.write_timeout_ms = or_default(conf->db.write_timeout_ms, timeout_ms);
    return ask_barrier_create(&barrier, &producer->barrier, err);
}

static void fill_defaults(struct checkback_opts *opts)
{
    opts->lease_ms = or_default(opts->lease_ms, CHECK_LEASE_MS);
    opts->poll_ms = or_default(opts->poll_ms, 200);
    /* A relay that stands still within a transaction must not keep the lease's row locked. */
    opts->db.idle_s = or_default(opts->db.idle_s, (opts->lease_ms + opts->poll_ms) / 1000 + 2);
    opts->db.lock_wait_s = or_default(opts->db.lock_wait_s, LOCK_WAIT_S);
    opts->chores_ms = or_default(opts->chores_ms, 5000);
    opts->backoff_min_ms = or_default(opts->backoff_min_ms, CHECK_BACKOFF_MIN_MS);
    opts->backoff_cap_ms = or_default(opts->backoff_cap_ms, CHECK_BACKOFF_CAP_MS);
    opts->max_answers = or_default(opts->max_answers, CHECK_MAX_ANSWERS);
    opts->max_in_progress = or_default(opts->max_in_progress, CHECK_MAX_IN_PROGRESS);
    opts->breaker_failures = or_default(opts->breaker_failures, CHECK_BREAKER_FAILURES);
    opts->breaker_min_ms = or_default(opts->breaker_min_ms, CHECK_BREAKER_MIN_MS);
    opts->breaker_cap_ms = or_default(opts->breaker_cap_ms, CHECK_BREAKER_CAP_MS);
    opts->retention_s = or_default(opts->retention_s, CHECK_RETENTION_S);
    opts->barrier_keep_s = or_default(opts->barrier_keep_s, CHECK_BARRIER_KEEP_S);
}

static enum obx_code set_up(struct checkback *cb, struct obx_err *err)
{
    uint32_t asks = 0;
    enum obx_code rc = OBX_OK;

    cb->producers = obx_calloc(cb->opts.producer_count + 1, sizeof(*cb->producers));
    if (cb->producers == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu producers", cb->opts.producer_count);
    for (size_t i = 0; rc == OBX_OK && i < cb->opts.producer_count; i++) {
        rc = init_producer(&cb->producers[i], &cb->opts.producers[i], &cb->opts, err);
        asks += cb->producers[i].concurrency;
    }
    if (rc == OBX_OK)
        rc = http_client_create(asks + 1, &cb->http, err);
    if (rc == OBX_OK)
        rc = thread_start(&cb->thread, checkback_main, cb, "check-back", err);
    return rc;
}

enum obx_code checkback_create(const struct checkback_opts *opts, struct checkback **out,
                               struct obx_err *err)
{
    struct checkback *cb = obx_calloc(1, sizeof(*cb));
    struct lease_opts lease = {.name = LEASE_NAME, .owner = opts->owner};
    enum obx_code rc;

    *out = NULL;
    if (cb == NULL)
        return obx_fail(err, OBX_E_NOMEM, "check-back");
    cb->opts = *opts;
    LIST_INIT(&cb->slots);
    STAILQ_INIT(&cb->answered);
    fill_defaults(&cb->opts);
    lease.lease_ms = cb->opts.lease_ms;
    lease_init(&cb->lease, &lease);
    backoff_init(&cb->backoff, 100, 5000);
    pthread_mutex_init(&cb->mutex, NULL);
    rc = set_up(cb, err);
    if (rc != OBX_OK) {
        checkback_destroy(cb);
        return rc;
    }
    *out = cb;
    return OBX_OK;
}

/* Slots of asks in flight belong to the two clients, which drop them: they are found through the
 * list of all. */
void checkback_destroy(struct checkback *cb)
{
    if (cb == NULL)
        return;
    atomic_store(&cb->is_closing, true);
    if (cb->thread.is_started)
        http_client_wake(cb->http);
    thread_join(&cb->thread);
    for (size_t i = 0; cb->producers != NULL && i < cb->opts.producer_count; i++)
        ask_barrier_destroy(cb->producers[i].barrier);
    http_client_destroy(cb->http);
    while (!LIST_EMPTY(&cb->slots))
        free_slot(LIST_FIRST(&cb->slots));
    pthread_mutex_destroy(&cb->mutex);
    obx_free(cb->producers);
    obx_free(cb);
}

void checkback_get_stats(struct checkback *cb, struct checkback_stats *out)
{
    pthread_mutex_lock(&cb->mutex);
    *out = cb->stats;
    pthread_mutex_unlock(&cb->mutex);
}

void checkback_get_producer_stats(struct checkback *cb, size_t index,
                                  struct checkback_producer_stats *out)
{
    pthread_mutex_lock(&cb->mutex);
    *out = cb->producers[index].stats;
    pthread_mutex_unlock(&cb->mutex);
}
