/* Whether an endpoint is beyond hope. See reach.h. */
#include "reach.h"

#include <string.h>

void reach_init(struct reach *reach)
{
    memset(reach, 0, sizeof(*reach));
    pthread_mutex_init(&reach->lock, NULL);
}

void reach_fini(struct reach *reach)
{
    pthread_mutex_destroy(&reach->lock);
}

void reach_clear(struct reach *reach)
{
    pthread_mutex_lock(&reach->lock);
    reach->failing_since_ms = 0;
    reach->probes = 0;
    pthread_mutex_unlock(&reach->lock);
}

void reach_failed(struct reach *reach, bool is_probe, uint64_t now_ms)
{
    pthread_mutex_lock(&reach->lock);
    if (reach->failing_since_ms == 0)
        reach->failing_since_ms = now_ms;
    if (is_probe)
        reach->probe_ms[reach->probes++ % NOTIFY_SCHEDULE_MAX] = now_ms;
    pthread_mutex_unlock(&reach->lock);
}

bool reach_is_hopeless(struct reach *reach, size_t calls, uint64_t age_ms, uint64_t now_ms,
                       uint64_t *overdue_ms)
{
    bool is_hopeless = false;

    pthread_mutex_lock(&reach->lock);
    if (reach->failing_since_ms != 0 && now_ms - reach->failing_since_ms >= age_ms &&
        calls <= NOTIFY_SCHEDULE_MAX && reach->probes >= calls) {
        uint64_t asked_ms =
            calls == 0 ? 0
                       : now_ms - reach->probe_ms[(reach->probes - calls) % NOTIFY_SCHEDULE_MAX];

        *overdue_ms = asked_ms > age_ms ? asked_ms : age_ms;
        is_hopeless = true;
    }
    pthread_mutex_unlock(&reach->lock);
    return is_hopeless;
}
