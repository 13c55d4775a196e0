/*
 * A lane's thread, and the calls that others make on it. See lane.h; docs/adr/0002-lane.md has the
 * design.
 */
#include "lane.h"

#include <poll.h>
#include <pthread.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "base/wake.h"
#include "lane_opts.h"
#include "turn.h"

struct lane {
    /* Set before the thread starts, never changed. */
    struct lane_opts opts; /* defaults filled in */
    char *names[6];        /* copies that opts points to */
    /* Any thread. */
    struct wake wake;
    struct turn_signals signals;
    struct hist commit_to_confirm, publish_to_confirm;
    pthread_mutex_t stats_lock;
    struct lane_stats shared; /* under stats_lock */
    struct thread thread;
    /* The thread's own. */
    struct turn turn;
};

/* ---- creation ---- */

/* Copies the names, so that the caller need not keep them. */
static enum obx_code copy_names(struct lane *lane, struct obx_err *err)
{
    const char **names[] = {&lane->opts.source,  &lane->opts.outbox,   &lane->opts.owner,
                            &lane->opts.address, &lane->opts.exchange, &lane->opts.receipt_queue};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (*names[i] == NULL)
            continue;
        lane->names[i] = obx_strdup(*names[i]);
        if (lane->names[i] == NULL)
            return obx_fail(err, OBX_E_NOMEM, "lane");
        *names[i] = lane->names[i];
    }
    return OBX_OK;
}

static enum obx_code init_lane(struct lane *lane, const struct lane_opts *opts, struct obx_err *err)
{
    const struct lane_outside outside = {.opts = &lane->opts,
                                         .gate_is_open = &lane->signals.gate_open,
                                         .commit_to_confirm = &lane->commit_to_confirm,
                                         .publish_to_confirm = &lane->publish_to_confirm};
    enum obx_code rc = OBX_OK;

    lane->opts = *opts;
    lane_opts_fill(&lane->opts);
    atomic_init(&lane->signals.gate_open, !opts->gated);
    atomic_init(&lane->signals.is_elsewhere, opts->is_elsewhere);
    rc = copy_names(lane, err);
    if (rc == OBX_OK)
        rc = turn_init(&lane->turn, &outside, &lane->signals, err);
    if (rc != OBX_OK)
        return rc;
    turn_get_stats(&lane->turn, &lane->shared);
    return wake_init(&lane->wake, err);
}

enum obx_code lane_create(const struct lane_opts *opts, struct lane **out, struct obx_err *err)
{
    struct lane *lane = NULL;
    enum obx_code rc = lane_opts_check(opts, err);

    *out = NULL;
    if (rc != OBX_OK)
        return rc;
    lane = obx_calloc(1, sizeof(*lane));
    if (lane == NULL)
        return obx_fail(err, OBX_E_NOMEM, "lane");
    lane->wake.fd = -1;
    if (pthread_mutex_init(&lane->stats_lock, NULL) != 0) {
        obx_free(lane);
        return obx_fail(err, OBX_E_SYSTEM, "mutex");
    }
    rc = init_lane(lane, opts, err);
    if (rc != OBX_OK) {
        lane_destroy(lane);
        return rc;
    }
    *out = lane;
    return OBX_OK;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL)
        return;
    turn_fini(&lane->turn);
    for (size_t i = 0; i < sizeof(lane->names) / sizeof(lane->names[0]); i++)
        obx_free(lane->names[i]);
    wake_fini(&lane->wake);
    (void)pthread_mutex_destroy(&lane->stats_lock);
    obx_free(lane);
}

/* ---- the thread ---- */

static void wait_for_work(struct lane *lane)
{
    struct pollfd fds[2] = {{.fd = lane->wake.fd, .events = POLLIN},
                            {.fd = turn_fd(&lane->turn), .events = POLLIN}};

    if (poll(fds, 2, turn_wait_ms(&lane->turn)) > 0 && (fds[0].revents & POLLIN) != 0)
        (void)wake_clear(&lane->wake);
}

static void show_stats(struct lane *lane)
{
    struct lane_stats stats;

    turn_get_stats(&lane->turn, &stats);
    (void)pthread_mutex_lock(&lane->stats_lock);
    lane->shared = stats;
    (void)pthread_mutex_unlock(&lane->stats_lock);
}

static void *run(void *ctx)
{
    struct lane *lane = ctx;

    for (;;) {
        turn_run(&lane->turn);
        show_stats(lane);
        if (lane->turn.state == LANE_STOPPED)
            break;
        wait_for_work(lane);
    }
    turn_end(&lane->turn);
    show_stats(lane);
    return NULL;
}

enum obx_code lane_start(struct lane *lane, struct obx_err *err)
{
    return thread_start(&lane->thread, run, lane, lane->opts.outbox, err);
}

void lane_join(struct lane *lane)
{
    thread_join(&lane->thread);
}

/* ---- calls from other threads ---- */

void lane_ring(struct lane *lane)
{
    atomic_store(&lane->signals.rung, true);
    wake_up(&lane->wake);
}

void lane_open_gate(struct lane *lane)
{
    atomic_store(&lane->signals.gate_open, true);
    wake_up(&lane->wake);
}

void lane_set_elsewhere(struct lane *lane, bool is_elsewhere)
{
    atomic_store(&lane->signals.is_elsewhere, is_elsewhere);
}

void lane_drain(struct lane *lane)
{
    atomic_store(&lane->signals.drain_wanted, true);
    wake_up(&lane->wake);
}

void lane_stop(struct lane *lane)
{
    atomic_store(&lane->signals.stop_wanted, true);
    wake_up(&lane->wake);
}

const char *lane_source(const struct lane *lane)
{
    return lane->opts.source;
}

const char *lane_outbox(const struct lane *lane)
{
    return lane->opts.outbox;
}

void lane_get_stats(struct lane *lane, struct lane_stats *out)
{
    (void)pthread_mutex_lock(&lane->stats_lock);
    *out = lane->shared;
    (void)pthread_mutex_unlock(&lane->stats_lock);
}

const struct hist *lane_hist_commit_to_confirm(const struct lane *lane)
{
    return &lane->commit_to_confirm;
}

const struct hist *lane_hist_publish_to_confirm(const struct lane *lane)
{
    return &lane->publish_to_confirm;
}
