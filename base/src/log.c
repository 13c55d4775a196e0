/*
 * The log's only mutable state: threshold, format and sink. The sink is set once before threads
 * start; the threshold may change at any time. Lines are built on the caller's stack
 * (log_format.c).
 */
#include "base/log.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "log_format.h"

static struct {
    _Atomic int min_level;
    enum log_format format;
    log_sink_fn *sink; /* NULL: silent */
    void *ctx;
} setup;

void log_setup(enum log_level min_level, enum log_format format, log_sink_fn *sink, void *ctx)
{
    setup.format = format;
    setup.sink = sink;
    setup.ctx = ctx;
    log_set_level(min_level);
}

void log_set_level(enum log_level min_level)
{
    atomic_store_explicit(&setup.min_level, (int)min_level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return setup.sink != NULL && level < LOG_LVL_OFF &&
           (int)level >= atomic_load_explicit(&setup.min_level, memory_order_relaxed);
}

struct log_record log_record_now(enum log_level level, const char *module, const char *event,
                                 const struct log_kv *kv, size_t kv_count)
{
    return (struct log_record){.wall_us = clock_wall_us(),
                               .level = level,
                               .module = module,
                               .event = event,
                               .kv = kv,
                               .kv_count = kv_count};
}

void log_event(enum log_level level, const char *module, const char *event, const struct log_kv *kv,
               size_t kv_count)
{
    const struct log_record record = log_record_now(level, module, event, kv, kv_count);
    char line[LOG_LINE_MAX + 1];
    size_t len = 0;

    if (!log_enabled(level))
        return;
    len = log_format_line(setup.format, &record, line);
    line[len] = '\0';
    setup.sink(level, line, len, setup.ctx);
}

bool log_limit_pass(struct log_limit *limit, uint32_t interval_ms, uint64_t *dropped)
{
    uint64_t now = clock_now_ms();

    if (now < limit->next_ms) {
        limit->dropped++;
        return false;
    }
    *dropped = limit->dropped;
    limit->next_ms = now + interval_ms;
    limit->dropped = 0;
    return true;
}
