/*
 * The keeper's loop and its states. Reading and recording rows is keeper_rows.c. Called by
 * notifier.c.
 *
 * Invariant: what changes rows runs in a transaction that begins by locking the lease row under our
 * epoch. A process that was stopped past its lease and wakes up finds zero rows there and writes
 * nothing; the calls that it has in flight are repetitions, with the same ids.
 */
#include "keeper_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "sql/schema.h"

enum { RECONNECT_MIN_MS = 100, RECONNECT_CAP_MS = 5000, HOST_MAX = 65, PAUSES_MS = 1000 };
enum { HOUSEKEEPING_MS = 5000, WAIT_MAX_MS = 250, LOST_GRACE_MS = 1000 };

const char *keeper_state_name(enum keeper_state state)
{
    static const char *const names[] = {"away", "standby", "owner", "draining", "ended"};

    return names[state];
}

static void set_state(struct keeper *keeper, enum keeper_state state)
{
    if (keeper->view.state == state)
        return;
    OBX_LOG(LOG_LVL_INFO, "notify", "state", KV_STR("from", keeper_state_name(keeper->view.state)),
            KV_STR("to", keeper_state_name(state)), KV_U64("epoch", keeper->ledger.lease.epoch));
    pthread_mutex_lock(&keeper->lock);
    keeper->view.state = state;
    keeper->view.epoch = keeper->ledger.lease.epoch;
    pthread_mutex_unlock(&keeper->lock);
}

void keeper_set_trouble(struct keeper *keeper, const struct obx_err *err)
{
    const char *text = err == NULL ? "" : err->text;

    if (strcmp(keeper->view.trouble, text) == 0)
        return;
    if (err != NULL)
        OBX_LOG(LOG_LVL_WARN, "notify", "database.trouble", KV_ERR(err));
    pthread_mutex_lock(&keeper->lock);
    snprintf(keeper->view.trouble, sizeof(keeper->view.trouble), "%s", text);
    pthread_mutex_unlock(&keeper->lock);
}

/* ---- the connection ---- */

static void disconnect(struct keeper *keeper)
{
    db_close(keeper->ledger.db);
    keeper->ledger.db = NULL;
    keeper->connect_due_ms = clock_now_ms() + backoff_next_ms(&keeper->backoff);
    set_state(keeper, KEEPER_AWAY);
}

void keeper_failed(struct keeper *keeper, const struct obx_err *err)
{
    keeper_set_trouble(keeper, err);
    /* Lost: somebody else calls now, so what is in flight is cut off. A timeout leaves a session in
     * a state that nobody knows; a new one is cheap. */
    if (err->code == OBX_E_LEASE_LOST) {
        lease_drop(&keeper->ledger.lease);
        caller_recall(keeper->opts.caller, true);
        set_state(keeper, KEEPER_STANDBY);
    } else if (obx_code_action(err->code) != OBX_DO_RETRY || err->code == OBX_E_TIMEOUT) {
        disconnect(keeper);
    }
    keeper->pause_until_ms = clock_now_ms() + RECONNECT_MIN_MS;
}

static void connect_if_due(struct keeper *keeper, const struct notify_config *config)
{
    struct db_opts opts = config->db;
    struct obx_err err = {0};
    enum obx_code rc;

    if (clock_now_ms() < keeper->connect_due_ms)
        return;
    /* The server ends our session when we stand still for so long, with the locks that it holds. */
    lease_limit_session(&opts, keeper->ledger.lease.opts.lease_ms);
    rc = db_open(&opts, &keeper->ledger.db, &err);
    if (rc == OBX_OK)
        rc = schema_check(keeper->ledger.db, SCHEMA_NOTIFY, &err);
    if (rc != OBX_OK) {
        keeper_set_trouble(keeper, &err);
        disconnect(keeper);
        return;
    }
    backoff_reset(&keeper->backoff);
    keeper_set_trouble(keeper, NULL);
    set_state(keeper, keeper->ledger.lease.epoch == 0 ? KEEPER_STANDBY : KEEPER_OWNER);
}

/* ---- ownership ---- */

static void acquire_if_free(struct keeper *keeper)
{
    struct obx_err err = {0};
    bool acquired = false;

    if (clock_now_ms() < keeper->acquire_due_ms)
        return;
    keeper->acquire_due_ms = clock_now_ms() + WAIT_MAX_MS;
    if (lease_try(&keeper->ledger.lease, keeper->ledger.db, &acquired, &err) != OBX_OK) {
        keeper_failed(keeper, &err);
        return;
    }
    keeper_set_trouble(keeper, NULL);
    caller_set_db_offset(keeper->opts.caller, lease_db_offset_us(&keeper->ledger.lease));
    if (acquired) {
        /* A 410 that could not be written under the lease before is asked for again. */
        for (size_t i = 0; i < keeper->opts.outlets->count; i++) {
            struct outlet *outlet = keeper->opts.outlets->items[i];

            atomic_store(&outlet->stats.is_paused, outlet->keeper.is_paused);
            reach_clear(&outlet->reach); /* somebody else has called meanwhile */
        }
        keeper->pauses_due_ms = keeper->housekeeping_due_ms = 0;
        keeper->is_recalled = false;
        set_state(keeper, KEEPER_OWNER);
    }
}

static bool may_work(const struct keeper *keeper)
{
    return keeper->ledger.db != NULL && keeper->ledger.lease.epoch != 0 &&
           clock_now_ms() >= keeper->pause_until_ms;
}

static void work(struct keeper *keeper, struct notify_config *config)
{
    uint64_t now_ms = clock_now_ms();
    struct obx_err err = {0};

    /* Results first: each row that is recorded is one that nobody calls again, whatever comes next.
     * Each step may lose the connection or the lease, so each asks again whether it may. */
    keeper_record(keeper);
    if (may_work(keeper) && clock_now_ms() >= keeper->ledger.lease.renew_due_ms &&
        lease_renew(&keeper->ledger.lease, keeper->ledger.db, &err) != OBX_OK)
        keeper_failed(keeper, &err);
    if (may_work(keeper) && now_ms >= keeper->pauses_due_ms) {
        keeper->pauses_due_ms = now_ms + PAUSES_MS;
        keeper_read_pauses(keeper, config);
    }
    if (may_work(keeper) && !keeper->is_draining)
        keeper_read_due(keeper, config);
    if (may_work(keeper) && !keeper->is_draining && now_ms >= keeper->housekeeping_due_ms) {
        keeper->housekeeping_due_ms = now_ms + HOUSEKEEPING_MS;
        keeper_housekeeping(keeper, config);
    }
}

/* ---- the end ---- */

static void obey_stop(struct keeper *keeper)
{
    if (!atomic_load(&keeper->is_stopping))
        return;
    if (!keeper->is_draining) {
        keeper->is_draining = true;
        caller_recall(keeper->opts.caller, false);
        if (keeper->view.state == KEEPER_OWNER)
            set_state(keeper, KEEPER_DRAINING);
    }
    if (!keeper->is_cut_off && clock_now_ms() >= atomic_load(&keeper->drain_until_ms)) {
        keeper->is_cut_off = true;
        caller_recall(keeper->opts.caller, true);
    }
}

/* Everything is back and written, or cannot be written in time. */
static bool is_over(const struct keeper *keeper)
{
    if (!keeper->is_draining)
        return false;
    if (keeper->held_count == 0)
        return true;
    return keeper->is_cut_off &&
           clock_now_ms() >= atomic_load(&keeper->drain_until_ms) + LOST_GRACE_MS;
}

static void turn(struct keeper *keeper)
{
    struct notify_config *config = config_box_get(keeper->opts.box);
    bool is_sure;

    obey_stop(keeper);
    if (keeper->ledger.db == NULL)
        connect_if_due(keeper, config);
    /* While it is not sure that the lease is ours (its answer is late, the database is away), another
     * process may be calling: nothing new is called. What is in flight may end. */
    is_sure = lease_holds(&keeper->ledger.lease, clock_now_ms());
    if (!is_sure && !keeper->is_recalled && keeper->ledger.lease.epoch != 0)
        caller_recall(keeper->opts.caller, false);
    keeper->is_recalled = !is_sure;
    keeper_sort_out(keeper);
    if (keeper->ledger.db != NULL && keeper->ledger.lease.epoch == 0 && !keeper->is_draining)
        acquire_if_free(keeper);
    if (may_work(keeper))
        work(keeper, config);
    notify_config_unref(config);
}

static void *keeper_main(void *arg)
{
    struct keeper *keeper = arg;
    struct obx_err err = {0};
    uint32_t wait_ms = 0;

    while (!is_over(keeper)) {
        struct job_list returned = handover_collect(keeper->opts.handover, wait_ms);
        struct job *job;

        while ((job = job_list_take(&returned)) != NULL)
            job_list_add(&keeper->finished, job);
        turn(keeper);
        wait_ms = keeper_wait_ms(keeper, WAIT_MAX_MS);
    }
    /* So that another process goes on at once; unreleased, the lease runs out by itself. */
    if (keeper->ledger.db != NULL &&
        lease_release(&keeper->ledger.lease, keeper->ledger.db, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "notify", "lease.not_released", KV_ERR(&err));
    ledger_fini(&keeper->ledger);
    set_state(keeper, KEEPER_ENDED);
    db_thread_end();
    return NULL;
}

/* ---- life ---- */

static void name_owner(struct keeper *keeper, const struct notify_config *config)
{
    const struct http_opts *http = &config->http;
    char host[HOST_MAX] = "?";

    if (config->name == NULL)
        (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(keeper->group, sizeof(keeper->group), "%s", config->group);
    (void)snprintf(keeper->owner, sizeof(keeper->owner), "%s/%ld/%08" PRIx32,
                   config->name == NULL ? host : config->name, (long)getpid(),
                   (uint32_t)random_u64());
    if (http->port != 0)
        (void)snprintf(keeper->address, sizeof(keeper->address), "%s:%u", http->address,
                       (unsigned)http->port);
}

enum obx_code keeper_create(const struct keeper_opts *opts, struct keeper **out,
                            struct obx_err *err)
{
    struct keeper *keeper = obx_calloc(1, sizeof(*keeper));
    const struct notify_config *config = opts->box->config;

    *out = NULL;
    if (keeper == NULL)
        return obx_fail(err, OBX_E_NOMEM, "keeper");
    keeper->opts = *opts;
    name_owner(keeper, config);
    keeper->ledger.group = keeper->group;
    lease_init(&keeper->ledger.lease,
               &(struct lease_opts){.kind = LEASE_GROUP,
                                    .name = keeper->group,
                                    .owner = keeper->owner,
                                    .address = keeper->address[0] != '\0' ? keeper->address : NULL,
                                    .lease_ms = config->lease_ms});
    backoff_init(&keeper->backoff, RECONNECT_MIN_MS, RECONNECT_CAP_MS);
    pthread_mutex_init(&keeper->lock, NULL);
    *out = keeper;
    return OBX_OK;
}

enum obx_code keeper_start(struct keeper *keeper, struct obx_err *err)
{
    return thread_start(&keeper->thread, keeper_main, keeper, "the keeper", err);
}

void keeper_stop(struct keeper *keeper, uint32_t drain_ms)
{
    uint64_t until_ms = clock_now_ms() + drain_ms;

    if (atomic_load(&keeper->is_stopping)) /* the second signal: now */
        until_ms = clock_now_ms();
    atomic_store(&keeper->drain_until_ms, until_ms);
    atomic_store(&keeper->is_stopping, true);
    handover_kick(keeper->opts.handover);
}

void keeper_destroy(struct keeper *keeper)
{
    struct job *job;

    if (keeper == NULL)
        return;
    if (keeper->thread.is_started)
        keeper_stop(keeper, 0); /* joins a thread that drains, too: the time for it is over */
    thread_join(&keeper->thread);
    while ((job = job_list_take(&keeper->finished)) != NULL)
        job_destroy(job);
    ledger_fini(&keeper->ledger);
    pthread_mutex_destroy(&keeper->lock);
    obx_free(keeper);
}

void keeper_get_view(struct keeper *keeper, struct keeper_view *out)
{
    pthread_mutex_lock(&keeper->lock);
    *out = keeper->view;
    pthread_mutex_unlock(&keeper->lock);
}
