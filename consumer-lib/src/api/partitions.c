/*
 * The thread that keeps the open partitions the same as the ones that are ours.
 *
 * Once a second it says that this process is there and reads who else is (members.c); from that
 * follows what is ours (share.c). A partition that is ours and closed is opened, one that is open and
 * not ours is drained, and closed when that has ended. It may be open in two processes for a while:
 * the queue's single active consumer excludes that both work, and the order of a key rests on that
 * alone.
 *
 * Invariants: a partition's consumer is opened, stopped and closed by this thread only; the lock
 * guards the pointers, for those that read numbers. A slot is never opened while its last consumer
 * drains.
 */
#include "partitions.h"

#include <poll.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "io/topology.h"
#include "store/members.h"

enum { LEAVING_TICK_MS = 20, LIST_SIZE = 256 };

struct slot {
    struct obx_consumer *consumer; /* NULL: closed */
    bool is_leaving;
    bool is_ours;
};

struct partitions {
    struct obx_consumer *outer; /* borrowed */
    struct thread thread;
    pthread_mutex_t lock; /* guards the consumers of slots, and past */
    struct slot *slots;
    unsigned count;
    uint64_t past[CNT_COUNT]; /* the counters of consumers that were closed */
    struct last_error error;  /* of the members */

    /* The thread's own. */
    struct members members;
    size_t *owner;
    uint64_t beat_due_ms;
    uint64_t heard_ms; /* when the last beat that worked began; 0: none has */
    size_t others_said;
    uint64_t stops;
    _Atomic bool is_connected;
};

/* ------------------------------------------------------------------ one partition */

static void open_slot(struct partitions *all, unsigned index)
{
    const struct shared *outer = &all->outer->shared;
    struct obx_consumer *consumer = NULL;
    struct settings settings;
    struct obx_err err = {0};
    enum obx_code rc = settings_partition(&outer->settings, index, &settings, &err);

    if (rc == OBX_OK)
        rc = consumer_make_take(&settings, &consumer, &err);
    if (rc == OBX_OK) {
        consumer->shared.handler = outer->handler;
        consumer->shared.batch_handler = outer->batch_handler;
        consumer->shared.handler_ctx = outer->handler_ctx;
        rc = obx_consumer_start(consumer, &err);
    }
    if (rc != OBX_OK) { /* no memory, no thread, no descriptor: again with the next beat */
        OBX_LOG(LOG_LVL_WARN, "consumer", "partition.failed",
                KV_STR("group", outer->settings.group), KV_STR("queue", outer->settings.queue),
                KV_U64("partition", index), KV_ERR(&err));
        obx_consumer_close(consumer);
        return;
    }
    pthread_mutex_lock(&all->lock);
    all->slots[index].consumer = consumer;
    pthread_mutex_unlock(&all->lock);
}

static void leave_slot(struct partitions *all, struct slot *slot)
{
    if (slot->consumer == NULL || slot->is_leaving)
        return;
    slot->is_leaving = true;
    atomic_store(&slot->consumer->shared.drain_ms, atomic_load(&all->outer->shared.drain_ms));
    obx_consumer_stop(slot->consumer);
}

/* One that has ended, whether it was asked to or not. */
static void close_slot(struct partitions *all, struct slot *slot)
{
    struct obx_consumer *consumer = slot->consumer;
    struct shared *shared = &all->outer->shared;
    bool timed_out = false;

    pthread_mutex_lock(&consumer->shared.end_lock);
    timed_out = consumer->shared.timed_out;
    pthread_mutex_unlock(&consumer->shared.end_lock);
    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < CNT_IN_FLIGHT; i++)
        all->past[i] += counters_get(&consumer->shared.counters, (enum counter)i);
    slot->consumer = NULL;
    pthread_mutex_unlock(&all->lock);
    slot->is_leaving = false;
    pthread_mutex_lock(&shared->end_lock);
    shared->timed_out =
        shared->timed_out || (timed_out && shared_phase(shared) != OBX_CONSUMER_RUNNING);
    pthread_mutex_unlock(&shared->end_lock);
    obx_consumer_close(consumer);
}

/* ------------------------------------------------------------------ whose is what */

static void say_what_is_ours(const struct partitions *all)
{
    const struct settings *settings = &all->outer->shared.settings;
    char list[LIST_SIZE] = "";
    size_t used = 0, ours = 0;

    for (unsigned i = 0; i < all->count; i++) {
        int n = 0;

        if (!all->slots[i].is_ours)
            continue;
        n = snprintf(list + used, sizeof(list) - used, "%s%u", ours++ == 0 ? "" : ",", i);
        used += n > 0 && (size_t)n < sizeof(list) - used ? (size_t)n : 0;
    }
    OBX_LOG(LOG_LVL_INFO, "consumer", "partitions.ours", KV_STR("group", settings->group),
            KV_STR("queue", settings->queue), KV_U64("members", all->members.count),
            KV_U64("count", ours), KV_STR("partitions", list));
}

static void follow_members(struct partitions *all)
{
    struct members *members = &all->members;
    const struct obx_bytes me = bytes_of(members->name);
    bool has_changed = false;

    if (members->count > 0)
        share_out(members->list, members->count, all->count, all->owner);
    for (unsigned i = 0; i < all->count; i++) {
        const bool is_ours =
            members->count > 0 && bytes_equal(members->list[all->owner[i]].name, me);

        has_changed = has_changed || is_ours != all->slots[i].is_ours;
        all->slots[i].is_ours = is_ours;
    }
    if (has_changed)
        say_what_is_ours(all);
    if (members->others != all->others_said && members->others > 0)
        OBX_LOG(LOG_LVL_WARN, "consumer", "partitions.differ",
                KV_STR("group", members->settings->group),
                KV_STR("queue", members->settings->queue), KV_U64("partitions", all->count),
                KV_U64("members_with_another_number", members->others));
    all->others_said = members->others;
}

/* What is not known for so long is others' by now. */
static void forget_ours(struct partitions *all)
{
    for (unsigned i = 0; i < all->count; i++)
        all->slots[i].is_ours = false;
    say_what_is_ours(all);
}

static void beat(struct partitions *all)
{
    const uint64_t now = clock_now_ms();
    struct obx_err err = {0}, before = {0};

    if (now < all->beat_due_ms)
        return;
    all->beat_due_ms = now + MEMBERS_BEAT_MS;
    if (members_beat(&all->members, &err) == OBX_OK) {
        atomic_store(&all->is_connected, true);
        last_error_set(&all->error, NULL);
        all->heard_ms = now;
        follow_members(all);
        return;
    }
    last_error_get(&all->error, &before);
    atomic_store(&all->is_connected, false);
    if (before.code != err.code)
        OBX_LOG(LOG_LVL_WARN, "consumer", "members.failed",
                KV_STR("group", all->members.settings->group), KV_ERR(&err));
    last_error_set(&all->error, &err);
    if (all->heard_ms != 0 && clock_now_ms() - all->heard_ms >= MEMBERS_GONE_MS) {
        all->heard_ms = 0;
        forget_ours(all);
    }
}

/* ------------------------------------------------------------------ the thread */

/* How many are open still. */
static unsigned match_slots(struct partitions *all)
{
    const bool is_running = shared_phase(&all->outer->shared) == OBX_CONSUMER_RUNNING;
    unsigned open = 0;

    for (unsigned i = 0; i < all->count; i++) {
        struct slot *slot = &all->slots[i];

        if (slot->consumer != NULL && shared_phase(&slot->consumer->shared) == OBX_CONSUMER_STOPPED)
            close_slot(all, slot);
        if (slot->consumer == NULL && slot->is_ours && is_running)
            open_slot(all, i);
        else if (!slot->is_ours || !is_running)
            leave_slot(all, slot);
        open += slot->consumer != NULL;
    }
    return open;
}

static void set_phase(struct partitions *all, enum obx_consumer_state phase)
{
    OBX_LOG(LOG_LVL_INFO, "consumer", "state", KV_STR("group", all->outer->shared.settings.group),
            KV_STR("from", obx_consumer_state_name(shared_phase(&all->outer->shared))),
            KV_STR("to", obx_consumer_state_name(phase)));
    atomic_store(&all->outer->shared.phase, (int)phase);
}

static void follow_requests(struct partitions *all)
{
    struct shared *shared = &all->outer->shared;

    all->stops += wake_clear(&shared->stop);
    (void)wake_clear(&shared->to_io.wake);
    if (shared_phase(shared) == OBX_CONSUMER_RUNNING &&
        (all->stops > 0 || atomic_load(&shared->drain_wanted))) {
        set_phase(all, OBX_CONSUMER_DRAINING);
        members_leave(&all->members);
        forget_ours(all);
    }
    if (shared_phase(shared) == OBX_CONSUMER_DRAINING && all->stops > 1) {
        set_phase(all, OBX_CONSUMER_STOPPING);
        for (unsigned i = 0; i < all->count; i++) {
            leave_slot(all, &all->slots[i]);
            obx_consumer_stop(all->slots[i].consumer); /* the second time */
        }
    }
}

/* Whether one is draining: its end is looked for soon. */
static bool is_leaving(const struct partitions *all)
{
    for (unsigned i = 0; i < all->count; i++) {
        if (all->slots[i].is_leaving)
            return true;
    }
    return false;
}

static void sleep_until_needed(const struct partitions *all)
{
    struct shared *shared = &all->outer->shared;
    struct pollfd fds[] = {{.fd = shared->stop.fd, .events = POLLIN},
                           {.fd = shared->to_io.wake.fd, .events = POLLIN}};

    /* An interrupted poll is a turn for nothing. */
    (void)poll(fds, sizeof(fds) / sizeof(fds[0]),
               is_leaving(all) ? LEAVING_TICK_MS : clock_left_ms(all->beat_due_ms));
}

static void *partitions_main(void *arg)
{
    struct partitions *all = arg;
    struct shared *shared = &all->outer->shared;

    for (;;) {
        follow_requests(all);
        if (shared_phase(shared) == OBX_CONSUMER_RUNNING)
            beat(all);
        if (match_slots(all) == 0 && shared_phase(shared) != OBX_CONSUMER_RUNNING)
            break;
        sleep_until_needed(all);
    }
    members_end(&all->members);
    if (shared_phase(shared) == OBX_CONSUMER_DRAINING)
        set_phase(all, OBX_CONSUMER_STOPPING);
    pthread_mutex_lock(&shared->end_lock);
    set_phase(all, OBX_CONSUMER_STOPPED);
    pthread_cond_broadcast(&shared->end_signal);
    pthread_mutex_unlock(&shared->end_lock);
    return NULL;
}

/* ------------------------------------------------------------------ for the public object */

enum obx_code partitions_create(struct obx_consumer *outer, struct partitions **out,
                                struct obx_err *err)
{
    const struct settings *settings = &outer->shared.settings;
    struct partitions *all = obx_calloc(1, sizeof(*all));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (all == NULL)
        return obx_fail(err, OBX_E_NOMEM, "partitions");
    rc = last_error_init(&all->error, err);
    if (rc == OBX_OK && pthread_mutex_init(&all->lock, NULL) != 0) {
        rc = obx_fail(err, OBX_E_SYSTEM, "mutex");
        last_error_fini(&all->error);
    }
    if (rc != OBX_OK) {
        obx_free(all);
        return rc;
    }
    all->outer = outer;
    all->count = settings->partitions;
    members_init(&all->members, settings);
    all->slots = obx_calloc(all->count, sizeof(*all->slots));
    all->owner = obx_calloc(all->count, sizeof(*all->owner));
    if (all->slots == NULL || all->owner == NULL) {
        partitions_destroy(all);
        return obx_fail(err, OBX_E_NOMEM, "%u partitions", settings->partitions);
    }
    *out = all;
    return OBX_OK;
}

void partitions_destroy(struct partitions *all)
{
    if (all == NULL)
        return;
    members_fini(&all->members);
    last_error_fini(&all->error);
    pthread_mutex_destroy(&all->lock);
    obx_free(all->slots);
    obx_free(all->owner);
    obx_free(all);
}

enum obx_code partitions_start(struct partitions *all, struct obx_err *err)
{
    return thread_start(&all->thread, partitions_main, all, "the partitions", err);
}

void partitions_join(struct partitions *all)
{
    thread_join(&all->thread);
}

enum obx_code partitions_prepare(const struct settings *settings, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (unsigned i = 0; i < settings->partitions && rc == OBX_OK; i++) {
        struct settings one;

        rc = settings_partition(settings, i, &one, err);
        if (rc != OBX_OK)
            break;
        rc = topology_prepare(&one, err);
        settings_fini(&one);
    }
    return rc;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The counters of one consumer: what belongs to the group and not to the process is not summed. */
static void add_numbers(uint64_t *sums, const struct counters *counters)
{
    for (int i = 0; i < CNT_COUNT; i++) {
        const uint64_t n = counters_get(counters, (enum counter)i);

        sums[i] = i == CNT_PARKED_ROWS ? larger(sums[i], n) : sums[i] + n;
    }
}

void partitions_get_stats(struct partitions *all, struct obx_consumer_stats *out)
{
    const struct shared *outer = &all->outer->shared;
    uint64_t sums[CNT_COUNT] = {0};
    uint32_t open = 0;
    bool are_up = atomic_load(&all->is_connected);

    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < CNT_IN_FLIGHT; i++)
        sums[i] = all->past[i];
    for (unsigned i = 0; i < all->count; i++) {
        const struct obx_consumer *consumer = all->slots[i].consumer;

        if (consumer == NULL)
            continue;
        open++;
        are_up = are_up && atomic_load(&consumer->shared.broker_up);
        add_numbers(sums, &consumer->shared.counters);
    }
    pthread_mutex_unlock(&all->lock);
    consumer_fill_stats(out, sums);
    out->state = shared_phase(outer);
    out->broker_up = are_up && out->state == OBX_CONSUMER_RUNNING;
    out->partitions = open;
    out->workers = open * outer->settings.workers;
    /* One that owns nothing stands by, and is as good as its connection. */
    if (open == 0)
        out->databases_up = atomic_load(&all->is_connected) ? 1 : 0;
}

void partitions_get_last_errors(struct partitions *all, struct obx_err *broker,
                                struct obx_err *database)
{
    struct obx_err found[2] = {{0}, {0}};

    last_error_get(&all->error, &found[1]);
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < all->count; i++) {
        struct obx_err one[2] = {{0}, {0}};

        if (all->slots[i].consumer == NULL)
            continue;
        obx_consumer_get_last_errors(all->slots[i].consumer, &one[0], &one[1]);
        for (int k = 0; k < 2; k++) {
            if (found[k].code == OBX_OK)
                found[k] = one[k];
        }
    }
    pthread_mutex_unlock(&all->lock);
    if (broker != NULL)
        *broker = found[0];
    if (database != NULL)
        *database = found[1];
}
