/*
 * Putting the process together, and its end. Called by main.c.
 *
 * The main thread has signals and pages and nothing that can block, so that a process whose broker,
 * database and endpoints all hang still answers and still ends. Each part is told to stop and tells
 * when it has; nothing is joined before that.
 */
#include "notifier.h"

#include <string.h>
#include <sys/time.h>

#include <event2/event.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "pages.h"
#include "service/signals.h"

enum { TICK_US = 20000 };

struct notifier {
    struct notifier_opts opts;
    struct event_base *base;
    struct event *tick;
    struct signals *signals;
    struct config_box box;
    struct outlets outlets;
    struct handover handover;
    struct recorder recorder;
    struct obx_consumer *consumer;
    struct caller *caller;
    struct keeper *keeper;
    struct pages *pages;
    struct inbox **inboxes; /* of the queues with to = inbox */
    size_t inbox_count;
    bool has_http; /* there are endpoints; without, consumer, caller and keeper are NULL */
    bool is_stopping;
};

/* ---- signals ---- */

static void on_terminate(int number, void *ctx)
{
    struct notifier *notifier = ctx;
    struct notify_config *config = config_box_get(&notifier->box);

    OBX_LOG(LOG_LVL_INFO, "notify", notifier->is_stopping ? "stop.now" : "stop",
            KV_I64("signal", number), KV_U64("drain_ms", config->drain_ms));
    notifier->is_stopping = true;
    /* The consumer first, or its handlers would record what nobody calls before the next start. */
    if (notifier->has_http) {
        obx_consumer_stop(notifier->consumer);
        keeper_stop(notifier->keeper, config->drain_ms);
    }
    for (size_t i = 0; i < notifier->inbox_count; i++)
        inbox_stop(notifier->inboxes[i]);
    notify_config_unref(config);
}

static void on_reload(void *ctx)
{
    struct notifier *notifier = ctx;
    const struct cfg_input input = {.path = notifier->opts.path, .env = notifier->opts.env};
    struct notify_config *after = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};

    if (notify_config_load(&input, &after, &problems, &err) != OBX_OK ||
        !notify_config_can_follow(notifier->box.config, after, &err)) {
        /* The first problem is enough for a log line; --check says them all. */
        const char *line = problems.len > 0 ? problems.data : err.text;

        OBX_LOG(LOG_LVL_ERROR, "notify", "reload.refused",
                KV_BYTES("problem", ((struct obx_bytes){line, strcspn(line, "\n")})));
        notify_config_unref(after);
    } else {
        log_set_level(after->log_level);
        config_box_set(&notifier->box, after);
        /* Said when it is so: a call that is prepared from now on is made by it. */
        OBX_LOG(LOG_LVL_INFO, "notify", "reload.taken", KV_U64("endpoints", after->endpoint_count));
        handover_kick(&notifier->handover);
    }
    buf_fini(&problems);
}

static bool has_http_ended(const struct notifier *notifier)
{
    struct obx_consumer_stats stats = {0};
    struct keeper_view keeper = {0};

    if (!notifier->has_http)
        return true;
    obx_consumer_get_stats(notifier->consumer, &stats, sizeof(stats));
    keeper_get_view(notifier->keeper, &keeper);
    return stats.state == OBX_CONSUMER_STOPPED && keeper.state == KEEPER_ENDED;
}

/* While stopping: the end is there when all parts have come to theirs. */
static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    const struct notifier *notifier = ctx;
    bool has_ended = true;

    (void)fd;
    (void)what;
    if (!notifier->is_stopping)
        return;
    for (size_t i = 0; i < notifier->inbox_count; i++)
        has_ended = inbox_has_ended(notifier->inboxes[i]) && has_ended;
    if (has_ended && has_http_ended(notifier))
        event_base_loopbreak(notifier->base);
}

/* ---- building ---- */

static enum obx_code make_loop(struct notifier *notifier, struct obx_err *err)
{
    const struct timeval every = {.tv_usec = TICK_US};
    struct signals_opts signals = {
        .on_terminate = on_terminate, .on_reload = on_reload, .ctx = notifier};

    notifier->base = event_base_new();
    if (notifier->base == NULL)
        return obx_fail(err, OBX_E_NOMEM, "event loop");
    notifier->tick = event_new(notifier->base, -1, EV_PERSIST, on_tick, notifier);
    if (notifier->tick == NULL || event_add(notifier->tick, &every) != 0)
        return obx_fail(err, OBX_E_NOMEM, "event loop");
    signals.base = notifier->base;
    return signals_create(&signals, &notifier->signals, err);
}

static enum obx_code make_halves(struct notifier *notifier, struct obx_err *err)
{
    const struct notify_config *config = notifier->box.config;
    struct caller_opts caller = {.box = &notifier->box,
                                 .handover = &notifier->handover,
                                 .outlets = &notifier->outlets,
                                 .max_calls = config->max_calls};
    struct keeper_opts keeper = {
        .box = &notifier->box, .outlets = &notifier->outlets, .handover = &notifier->handover};
    enum obx_code rc = caller_create(&caller, &notifier->caller, err);

    if (rc == OBX_OK) {
        keeper.caller = notifier->caller;
        rc = keeper_create(&keeper, &notifier->keeper, err);
    }
    if (rc == OBX_OK)
        rc = obx_consumer_open(&config->consumer, &notifier->consumer, err);
    if (rc == OBX_OK)
        rc = obx_consumer_subscribe(notifier->consumer, record_message, &notifier->recorder, err);
    return rc;
}

static enum obx_code make_inboxes(struct notifier *notifier, struct obx_err *err)
{
    const struct notify_config *config = notifier->box.config;
    enum obx_code rc = OBX_OK;

    notifier->inboxes = obx_calloc(config->queue_count + 1, sizeof(*notifier->inboxes));
    if (notifier->inboxes == NULL)
        return obx_fail(err, OBX_E_NOMEM, "inboxes");
    for (size_t i = 0; i < config->queue_count && rc == OBX_OK; i++) {
        if (config->queues[i].to != QUEUE_TO_INBOX)
            continue;
        rc = inbox_create(&config->queues[i].inbox, &notifier->inboxes[notifier->inbox_count], err);
        notifier->inbox_count += rc == OBX_OK;
    }
    return rc;
}

static enum obx_code make_pages(struct notifier *notifier, struct obx_err *err)
{
    const struct notify_config *config = notifier->box.config;
    struct pages_opts pages = {.http = config->http,
                               .consumer = notifier->consumer,
                               .keeper = notifier->keeper,
                               .outlets = &notifier->outlets,
                               .recorder = &notifier->recorder,
                               .inboxes = notifier->inboxes,
                               .inbox_count = notifier->inbox_count};

    pages.http.base = notifier->base; /* on the main thread's loop */
    return config->http.port == 0 ? OBX_OK : pages_create(&pages, &notifier->pages, err);
}

static enum obx_code start(struct notifier *notifier, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (notifier->has_http)
        rc = caller_start(notifier->caller, err);
    if (rc == OBX_OK && notifier->has_http)
        rc = keeper_start(notifier->keeper, err);
    if (rc == OBX_OK && notifier->has_http)
        rc = obx_consumer_start(notifier->consumer, err);
    for (size_t i = 0; i < notifier->inbox_count && rc == OBX_OK; i++)
        rc = inbox_start(notifier->inboxes[i], err);
    return rc;
}

static enum obx_code make(struct notifier *notifier, struct obx_err *err)
{
    enum obx_code rc = make_loop(notifier, err);

    if (rc == OBX_OK && notifier->has_http)
        rc = make_halves(notifier, err);
    if (rc == OBX_OK)
        rc = make_inboxes(notifier, err);
    if (rc == OBX_OK)
        rc = make_pages(notifier, err);
    /* So that the metrics name an endpoint before its first message. */
    for (size_t i = 0; i < notifier->box.config->endpoint_count && rc == OBX_OK; i++) {
        if (outlets_get(&notifier->outlets, notifier->box.config->endpoints[i].name) == NULL)
            rc = obx_fail(err, OBX_E_NOMEM, "endpoints");
    }
    return rc == OBX_OK ? start(notifier, err) : rc;
}

/* In the order in which they hold on to one another: pages read all, the consumer's handlers kick the
 * handover, and the keeper waits for what the caller gives back. */
static void unmake(struct notifier *notifier)
{
    pages_destroy(notifier->pages);
    obx_consumer_close(notifier->consumer);
    keeper_destroy(notifier->keeper);
    caller_destroy(notifier->caller);
    for (size_t i = 0; i < notifier->inbox_count; i++)
        inbox_destroy(notifier->inboxes[i]);
    obx_free(notifier->inboxes);
    signals_destroy(notifier->signals);
    if (notifier->tick != NULL)
        event_free(notifier->tick);
    if (notifier->base != NULL)
        event_base_free(notifier->base);
    handover_fini(&notifier->handover);
    outlets_fini(&notifier->outlets);
    config_box_fini(&notifier->box);
    obx_free(notifier);
}

enum obx_code notifier_run(const struct notifier_opts *opts, struct obx_err *err)
{
    struct notifier *notifier = obx_calloc(1, sizeof(*notifier));
    enum obx_code rc;

    if (notifier == NULL) {
        notify_config_unref(opts->config);
        return obx_fail(err, OBX_E_NOMEM, "notifier");
    }
    notifier->opts = *opts;
    notifier->has_http = opts->config->endpoint_count > 0;
    config_box_init(&notifier->box, opts->config);
    outlets_init(&notifier->outlets);
    handover_init(&notifier->handover);
    notifier->recorder = (struct recorder){
        .box = &notifier->box, .outlets = &notifier->outlets, .handover = &notifier->handover};
    rc = make(notifier, err);
    if (rc == OBX_OK) {
        OBX_LOG(LOG_LVL_INFO, "notify", "started", KV_STR("group", notifier->box.config->group),
                KV_U64("endpoints", notifier->box.config->endpoint_count),
                KV_U64("inboxes", notifier->inbox_count));
        event_base_dispatch(notifier->base);
        OBX_LOG(LOG_LVL_INFO, "notify", "stopped", KV_STR("group", notifier->box.config->group));
    }
    unmake(notifier);
    return rc;
}
