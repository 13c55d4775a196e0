/* See worker_link.h. Every blocking call is the database client's, which has deadlines. */
#include "worker_link.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    CONNECT_MIN_MS = 100,
    CONNECT_CAP_MS = 5000,
    PING_EVERY_MS = 15000,
    PINGS_PER_IDLE = 3, /* before the server would end the session */
    MS_PER_S = 1000
};

enum obx_code worker_link_init(struct worker_link *link, struct shared *shared, unsigned worker,
                               store_open_fn *open, struct obx_err *err)
{
    *link = (struct worker_link){.shared = shared, .worker = worker, .open = open};
    backoff_init(&link->connect_wait, CONNECT_MIN_MS, CONNECT_CAP_MS);
    return last_error_init(&link->error, err);
}

void worker_link_fini(struct worker_link *link)
{
    last_error_fini(&link->error);
}

bool worker_link_is_up(const struct worker_link *link)
{
    return link->store.ops != NULL;
}

void worker_link_used(struct worker_link *link)
{
    link->used_ms = clock_now_ms();
}

/* Others may read it at any time, and a worker that works says so after each batch: the lock is
 * taken for a change only. */
void worker_link_set_error(struct worker_link *link, const struct obx_err *err)
{
    if (err == NULL && !link->has_error)
        return;
    link->has_error = err != NULL;
    last_error_set(&link->error, err);
}

void worker_link_disconnect(struct worker_link *link)
{
    if (!worker_link_is_up(link))
        return;
    link->store.ops->close(link->store.ctx);
    link->store = (struct store){0};
    counters_sub(&link->shared->counters, CNT_DATABASES_UP, 1);
}

uint32_t worker_link_connect(struct worker_link *link, bool is_undoing)
{
    struct shared *shared = link->shared;
    struct obx_err err = {0};

    if (link->open(&shared->settings, &link->store, &err) != OBX_OK) {
        const uint32_t wait_ms = backoff_next_ms(&link->connect_wait);

        worker_link_set_error(link, &err);
        OBX_LOG(LOG_LVL_WARN, "consumer", "database.down", KV_STR("group", shared->settings.group),
                KV_U64("worker", link->worker), KV_U64("retry_ms", wait_ms), KV_ERR(&err));
        return wait_ms;
    }
    backoff_reset(&link->connect_wait);
    worker_link_used(link);
    counters_add(&shared->counters, CNT_DATABASES_UP, 1);
    counters_add(&shared->counters, CNT_DATABASE_CONNECTS, 1);
    if (!is_undoing)
        worker_link_set_error(link, NULL);
    OBX_LOG(LOG_LVL_INFO, "consumer", "database.up", KV_STR("group", shared->settings.group),
            KV_U64("worker", link->worker),
            KV_U64("connection", link->store.ops->connection_id(link->store.ctx)));
    return 0;
}

uint64_t worker_link_ping_due_ms(const struct worker_link *link)
{
    const uint64_t most_ms = (uint64_t)link->shared->settings.db.idle_s * MS_PER_S / PINGS_PER_IDLE;

    return link->used_ms + (most_ms < PING_EVERY_MS ? most_ms : PING_EVERY_MS);
}

void worker_link_ping_when_idle(struct worker_link *link)
{
    struct obx_err err = {0};

    if (!worker_link_is_up(link) || clock_now_ms() < worker_link_ping_due_ms(link))
        return;
    worker_link_used(link);
    if (link->store.ops->ping(link->store.ctx, &err) == OBX_OK)
        return;
    worker_link_disconnect(link);
    worker_link_set_error(link, &err);
}
