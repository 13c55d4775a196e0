/*
 * The outlets by name, and for each whether it can be reached. An outlet is never freed before the
 * end of the process: handlers, caller and keeper have pointers to it that no lock protects, and a
 * reload that takes an endpoint out of the configuration leaves calls of it in flight.
 */
#include "outlet.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void outlets_init(struct outlets *outlets)
{
    memset(outlets, 0, sizeof(*outlets));
    pthread_mutex_init(&outlets->lock, NULL);
}

void outlets_fini(struct outlets *outlets)
{
    for (size_t i = 0; i < outlets->count; i++) {
        idset_fini(&outlets->items[i]->keeper.held);
        reach_fini(&outlets->items[i]->reach);
        obx_free(outlets->items[i]);
    }
    pthread_mutex_destroy(&outlets->lock);
}

struct outlet *outlets_get(struct outlets *outlets, const char *name)
{
    const size_t max = sizeof(outlets->items) / sizeof(outlets->items[0]);
    struct outlet *outlet = NULL;

    pthread_mutex_lock(&outlets->lock);
    for (size_t i = 0; i < outlets->count && outlet == NULL; i++) {
        if (strcmp(outlets->items[i]->name, name) == 0)
            outlet = outlets->items[i];
    }
    if (outlet == NULL && outlets->count < max) {
        outlet = obx_calloc(1, sizeof(*outlet));
        if (outlet != NULL) {
            snprintf(outlet->name, sizeof(outlet->name), "%s", name);
            reach_init(&outlet->reach);
            /* The count last: pages and caller walk the items without the lock. */
            outlets->items[outlets->count] = outlet;
            outlets->count++;
        }
    }
    pthread_mutex_unlock(&outlets->lock);
    return outlet;
}

/* ---- reach ---- */

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
    /* Only probes count as having asked: with the breaker closed a failed call asked for its own row
     * alone, and that row's schedule has counted it. */
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
        /* A row that has been due since the probe before the last `calls` ones was in the table for
         * all of them, so they were made for it, too. */
        uint64_t asked_ms =
            calls == 0 ? 0
                       : now_ms - reach->probe_ms[(reach->probes - calls) % NOTIFY_SCHEDULE_MAX];

        *overdue_ms = asked_ms > age_ms ? asked_ms : age_ms;
        is_hopeless = true;
    }
    pthread_mutex_unlock(&reach->lock);
    return is_hopeless;
}
