/*
 * The topology thread and its mailbox. The reference count of a configuration belongs to the main
 * thread, so the thread never touches it: what was replaced while in use is kept as retired until
 * the main thread comes by again.
 */
#include "topology_task.h"

#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"

enum { RETRY_MIN_MS = 200, RETRY_CAP_MS = 10000 };

struct topology_task {
    struct thread thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct wake news; /* for the main thread */
    /* Under the lock: */
    struct relay_config *wanted;  /* newest configuration; NULL: none yet */
    struct relay_config *in_use;  /* what the thread works with right now: wanted or retired */
    struct relay_config *retired; /* replaced while in use; the main thread gives it back later */
    bool is_done;                 /* succeeded for wanted, and was not refused since */
    bool is_open;                 /* was tried for wanted to its end */
    bool repeat;
    bool stop;
    bool ended;
    char trouble[OBX_ERR_TEXT_MAX];
    uint64_t tries;
    uint64_t failures;
};

static bool has_work(const struct topology_task *task)
{
    return task->wanted != NULL && task->wanted->topology_policy != TOPOLOGY_POLICY_NONE &&
           (task->repeat || !task->is_done);
}

static enum obx_code apply(const struct relay_config *config, struct obx_err *err)
{
    struct bridge_opts broker = config->broker;
    enum topology_mode mode =
        config->topology_policy == TOPOLOGY_POLICY_VERIFY ? TOPOLOGY_VERIFY : TOPOLOGY_DECLARE;

    broker.connection_name = "outbox-relay topology";
    return bridge_topology_apply(&broker, &config->topology, mode, err);
}

static void log_result(enum obx_code rc, const struct obx_err *err, uint32_t wait_ms_next,
                       bool is_news)
{
    if (rc == OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "topology", "topology.done", KV_BOOL("ok", true));
    else
        OBX_LOG(is_news ? LOG_LVL_WARN : LOG_LVL_DEBUG, "topology", "topology.failed", KV_ERR(err),
                KV_U64("next_ms", wait_ms_next));
}

/* The broker was asked for everything, and refused something: not the same as one that does not
 * answer. */
static bool is_refusal(enum obx_code rc)
{
    return rc == OBX_E_MQ_TOPOLOGY || rc == OBX_E_MQ_DENIED;
}

/* One attempt. Called and returns with the lock held. */
static void attempt(struct topology_task *task, struct backoff *backoff)
{
    struct obx_err err = {0};
    uint32_t pause = 0;
    bool is_news;
    enum obx_code rc;

    task->in_use = task->wanted;
    task->repeat = false;
    pthread_mutex_unlock(&task->lock);
    rc = apply(task->in_use, &err);
    pthread_mutex_lock(&task->lock);
    task->tries++;
    is_news = strcmp(task->trouble, err.text) != 0;
    memcpy(task->trouble, err.text, sizeof(task->trouble));
    if (task->in_use == task->wanted && (rc == OBX_OK || is_refusal(rc))) {
        task->is_done = rc == OBX_OK;
        task->is_open = task->is_open || rc == OBX_OK ||
                        task->wanted->topology_policy == TOPOLOGY_POLICY_DECLARE;
    }
    if (rc == OBX_OK) {
        backoff_reset(backoff);
    } else {
        task->failures++;
        task->repeat = true;
        pause = backoff_next_ms(backoff);
    }
    task->in_use = NULL;
    log_result(rc, &err, pause, is_news);
    wake_up(&task->news);
    if (rc != OBX_OK && !task->stop)
        (void)cond_wait_ms(&task->changed, &task->lock, pause);
}

static void *run(void *ctx)
{
    struct topology_task *task = ctx;
    struct backoff backoff;

    backoff_init(&backoff, RETRY_MIN_MS, RETRY_CAP_MS);
    pthread_mutex_lock(&task->lock);
    while (!task->stop) {
        if (has_work(task))
            attempt(task, &backoff);
        else
            pthread_cond_wait(&task->changed, &task->lock);
    }
    task->ended = true;
    pthread_mutex_unlock(&task->lock);
    return NULL;
}

enum obx_code topology_task_create(struct topology_task **out, struct obx_err *err)
{
    struct topology_task *task = obx_calloc(1, sizeof(*task));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (task == NULL)
        return obx_fail(err, OBX_E_NOMEM, "topology");
    pthread_mutex_init(&task->lock, NULL);
    cond_init(&task->changed);
    rc = wake_init(&task->news, err);
    if (rc == OBX_OK)
        rc = thread_start(&task->thread, run, task, "the topology", err);
    if (rc != OBX_OK) {
        topology_task_destroy(task);
        return rc;
    }
    *out = task;
    return OBX_OK;
}

void topology_task_stop(struct topology_task *task)
{
    pthread_mutex_lock(&task->lock);
    task->stop = true;
    pthread_cond_signal(&task->changed);
    pthread_mutex_unlock(&task->lock);
}

bool topology_task_has_ended(struct topology_task *task)
{
    bool ended;

    pthread_mutex_lock(&task->lock);
    ended = task->ended;
    pthread_mutex_unlock(&task->lock);
    return ended;
}

void topology_task_destroy(struct topology_task *task)
{
    if (task == NULL)
        return;
    topology_task_stop(task);
    thread_join(&task->thread);
    pthread_cond_destroy(&task->changed);
    pthread_mutex_destroy(&task->lock);
    wake_fini(&task->news);
    relay_config_unref(task->retired);
    relay_config_unref(task->wanted);
    obx_free(task);
}

/* The retired configuration when the thread is through with it; the lock is held. */
static struct relay_config *take_retired(struct topology_task *task)
{
    struct relay_config *retired = task->retired;

    if (retired == NULL || retired == task->in_use)
        return NULL;
    task->retired = NULL;
    return retired;
}

void topology_task_set(struct topology_task *task, struct relay_config *config)
{
    struct relay_config *retired;
    struct relay_config *old;

    pthread_mutex_lock(&task->lock);
    retired = take_retired(task);
    old = task->wanted;
    if (old == NULL || !relay_config_is_same(old, config, RESTARTS_TOPOLOGY, NULL)) {
        task->is_done = false;
        task->is_open = false;
        task->repeat = false;
        task->trouble[0] = '\0';
    }
    task->wanted = relay_config_ref(config);
    if (old != NULL && old == task->in_use) {
        task->retired = old;
        old = NULL;
    }
    pthread_cond_signal(&task->changed);
    pthread_mutex_unlock(&task->lock);
    relay_config_unref(retired);
    relay_config_unref(old);
    wake_up(&task->news);
}

void topology_task_repeat(struct topology_task *task)
{
    pthread_mutex_lock(&task->lock);
    task->repeat = true;
    pthread_cond_signal(&task->changed);
    pthread_mutex_unlock(&task->lock);
}

void topology_task_view(struct topology_task *task, struct topology_view *out)
{
    struct relay_config *retired;

    pthread_mutex_lock(&task->lock);
    out->is_wanted = task->wanted != NULL && task->wanted->topology_policy != TOPOLOGY_POLICY_NONE;
    out->is_done = task->is_done || !out->is_wanted;
    out->is_open = task->is_open || !out->is_wanted;
    out->tries = task->tries;
    out->failures = task->failures;
    memcpy(out->trouble, task->trouble, sizeof(out->trouble));
    retired = take_retired(task);
    pthread_mutex_unlock(&task->lock);
    relay_config_unref(retired);
}

void topology_task_take_news(struct topology_task *task)
{
    (void)wake_clear(&task->news);
}

int topology_task_fd(const struct topology_task *task)
{
    return task->news.fd;
}
