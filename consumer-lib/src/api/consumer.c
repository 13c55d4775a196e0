/*
 * The public object: its making, its start, its end, and the answers to questions about it.
 * Everything that happens while it runs is in io.c and worker.c.
 */
#include "obx/consumer.h"

#include "base/alloc.h"
#include "consumer_object.h"
#include "core/embed.h"
#include "io/topology.h"
#include "partitions.h"
#include "store/store_db.h"

/* ------------------------------------------------------------------ making */

static enum obx_code make_workers(struct obx_consumer *consumer, struct obx_err *err)
{
    unsigned wanted = consumer->shared.settings.workers;

    consumer->workers = obx_calloc(wanted, sizeof(*consumer->workers));
    if (consumer->workers == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%u workers", wanted);
    for (unsigned i = 0; i < wanted; i++) {
        enum obx_code rc =
            worker_init(&consumer->workers[i], &consumer->shared, i, store_db_open, err);

        if (rc != OBX_OK)
            return rc;
        consumer->worker_count++;
    }
    return OBX_OK;
}

static void free_workers(struct obx_consumer *consumer)
{
    for (unsigned i = 0; i < consumer->worker_count; i++)
        worker_fini(&consumer->workers[i]);
    obx_free(consumer->workers);
}

static enum obx_code make_parts(struct obx_consumer *consumer, struct obx_err *err)
{
    enum obx_code rc = make_workers(consumer, err);

    if (rc == OBX_OK)
        rc = cleanup_init(&consumer->cleanup, &consumer->shared, err);
    if (rc != OBX_OK)
        goto no_cleanup;
    rc = io_init(&consumer->io, &consumer->shared, err);
    if (rc != OBX_OK)
        goto no_io;
    for (unsigned i = 0; i < consumer->worker_count; i++)
        io_set_worker(&consumer->io, i, &consumer->workers[i].box);
    return OBX_OK;
no_io:
    cleanup_fini(&consumer->cleanup);
no_cleanup:
    free_workers(consumer);
    return rc;
}

static void free_parts(struct obx_consumer *consumer)
{
    if (consumer->partitions != NULL) {
        partitions_destroy(consumer->partitions);
        return;
    }
    io_fini(&consumer->io);
    cleanup_fini(&consumer->cleanup);
    free_workers(consumer);
}

enum obx_code consumer_make_take(struct settings *settings, struct obx_consumer **out,
                                 struct obx_err *err)
{
    struct obx_consumer *consumer = obx_calloc(1, sizeof(*consumer));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (consumer == NULL) {
        settings_fini(settings);
        return obx_fail(err, OBX_E_NOMEM, "consumer");
    }
    rc = shared_init_take(&consumer->shared, settings, err);
    if (rc != OBX_OK)
        goto no_shared;
    rc = consumer->shared.settings.partitions > 0
             ? partitions_create(consumer, &consumer->partitions, err)
             : make_parts(consumer, err);
    if (rc != OBX_OK)
        goto no_parts;
    if (pthread_mutex_init(&consumer->join_lock, NULL) == 0) {
        *out = consumer;
        return OBX_OK;
    }
    rc = obx_fail(err, OBX_E_SYSTEM, "mutex");
    free_parts(consumer);
no_parts:
    shared_fini(&consumer->shared);
no_shared:
    obx_free(consumer);
    return rc;
}

enum obx_code obx_consumer_open(const struct obx_consumer_opts *opts, struct obx_consumer **out,
                                struct obx_err *err)
{
    struct settings settings;
    enum obx_code rc = settings_init(&settings, opts, err);

    *out = NULL;
    return rc == OBX_OK ? consumer_make_take(&settings, out, err) : rc;
}

void consumer_embed(struct obx_consumer *consumer, const struct consumer_embed *embed)
{
    consumer->shared.settings.embed = embed;
}

static bool has_handler(const struct obx_consumer *consumer)
{
    return consumer->shared.handler != NULL || consumer->shared.batch_handler != NULL;
}

static enum obx_code check_subscribe(const struct obx_consumer *consumer, bool is_null,
                                     struct obx_err *err)
{
    if (is_null)
        return obx_fail(err, OBX_E_INVALID, "handler is NULL");
    if (consumer->was_started || has_handler(consumer))
        return obx_fail(err, OBX_E_INVALID, "one handler, before the start");
    return OBX_OK;
}

enum obx_code obx_consumer_subscribe(struct obx_consumer *consumer, obx_handler_fn *handler,
                                     void *ctx, struct obx_err *err)
{
    enum obx_code rc = check_subscribe(consumer, handler == NULL, err);

    if (rc != OBX_OK)
        return rc;
    consumer->shared.handler = handler;
    consumer->shared.handler_ctx = ctx;
    return OBX_OK;
}

enum obx_code obx_consumer_subscribe_batch(struct obx_consumer *consumer, obx_batch_fn *handler,
                                           void *ctx, struct obx_err *err)
{
    enum obx_code rc = check_subscribe(consumer, handler == NULL, err);

    if (rc != OBX_OK)
        return rc;
    consumer->shared.batch_handler = handler;
    consumer->shared.handler_ctx = ctx;
    return OBX_OK;
}

/* ------------------------------------------------------------------ starting */

static enum obx_code check_first(const struct settings *settings, struct obx_err *err)
{
    struct store store = {0};
    enum obx_code rc = OBX_OK;

    if (!settings->fail_fast)
        return OBX_OK;
    rc = store_db_open(settings, &store, err);
    if (rc != OBX_OK)
        return rc;
    store.ops->close(store.ctx);
    return settings->partitions > 0 ? partitions_prepare(settings, err)
                                    : topology_prepare(settings, err);
}

static enum obx_code start_threads(struct obx_consumer *consumer, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (consumer->partitions != NULL)
        return partitions_start(consumer->partitions, err);
    for (unsigned i = 0; i < consumer->worker_count && rc == OBX_OK; i++)
        rc = worker_start(&consumer->workers[i], err);
    if (rc == OBX_OK && !consumer->shared.settings.no_cleanup)
        rc = cleanup_start(&consumer->cleanup, err);
    if (rc == OBX_OK)
        rc = io_start(&consumer->io, err);
    return rc;
}

static void join_threads(struct obx_consumer *consumer)
{
    pthread_mutex_lock(&consumer->join_lock);
    if (consumer->partitions != NULL) {
        partitions_join(consumer->partitions);
    } else {
        io_join(&consumer->io);
        for (unsigned i = 0; i < consumer->worker_count; i++)
            worker_join(&consumer->workers[i]);
        cleanup_stop(&consumer->cleanup);
    }
    pthread_mutex_unlock(&consumer->join_lock);
}

enum obx_code obx_consumer_start(struct obx_consumer *consumer, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (!has_handler(consumer))
        return obx_fail(err, OBX_E_INVALID, "no handler subscribed");
    if (consumer->was_started)
        return obx_fail(err, OBX_E_INVALID, "started before");
    rc = check_first(&consumer->shared.settings, err);
    if (rc != OBX_OK)
        return rc;
    consumer->was_started = true;
    atomic_store(&consumer->shared.phase, (int)OBX_CONSUMER_RUNNING);
    rc = start_threads(consumer, err);
    if (rc == OBX_OK)
        return OBX_OK;
    /* Some thread could not be started: without an I/O thread nobody else ends the others. */
    atomic_store(&consumer->shared.phase, (int)OBX_CONSUMER_STOPPING);
    for (unsigned i = 0; i < consumer->worker_count; i++)
        wake_up(&consumer->workers[i].box.wake);
    join_threads(consumer);
    atomic_store(&consumer->shared.phase, (int)OBX_CONSUMER_STOPPED);
    return rc;
}

/* ------------------------------------------------------------------ ending */

static enum obx_code wait_for_end(struct obx_consumer *consumer, struct obx_err *err)
{
    struct shared *shared = &consumer->shared;
    bool timed_out = false;

    pthread_mutex_lock(&shared->end_lock);
    while (shared_phase(shared) != OBX_CONSUMER_STOPPED)
        pthread_cond_wait(&shared->end_signal, &shared->end_lock);
    timed_out = shared->timed_out;
    pthread_mutex_unlock(&shared->end_lock);
    join_threads(consumer);
    if (timed_out)
        return obx_fail(err, OBX_E_TIMEOUT,
                        "drain not finished in time, deliveries given back to the broker");
    return OBX_OK;
}

enum obx_code obx_consumer_run(struct obx_consumer *consumer, struct obx_err *err)
{
    enum obx_code rc = obx_consumer_start(consumer, err);

    return rc == OBX_OK ? wait_for_end(consumer, err) : rc;
}

void obx_consumer_stop(struct obx_consumer *consumer)
{
    if (consumer != NULL)
        wake_up(&consumer->shared.stop);
}

enum obx_code obx_consumer_drain(struct obx_consumer *consumer, uint32_t timeout_ms,
                                 struct obx_err *err)
{
    struct shared *shared = &consumer->shared;

    if (!consumer->was_started)
        return OBX_OK;
    if (timeout_ms != 0)
        atomic_store(&shared->drain_ms, timeout_ms);
    atomic_store(&shared->drain_wanted, true);
    wake_up(&shared->to_io.wake);
    return wait_for_end(consumer, err);
}

void obx_consumer_close(struct obx_consumer *consumer)
{
    if (consumer == NULL)
        return;
    if (consumer->was_started) {
        obx_consumer_stop(consumer);
        obx_consumer_stop(consumer);
        (void)wait_for_end(consumer, NULL);
    }
    pthread_mutex_destroy(&consumer->join_lock);
    free_parts(consumer);
    shared_fini(&consumer->shared);
    obx_free(consumer);
}
