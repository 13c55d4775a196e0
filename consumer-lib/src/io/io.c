/*
 * The I/O thread's loop. A turn takes what the workers have sent back, acknowledges, services the
 * two connections, hands out what came, and sleeps in poll(2) until something happens or is due.
 * Nothing in it waits for a worker or the database; it blocks only in a connect, which has a
 * deadline.
 *
 * Phases, in one direction only (set_phase):
 *
 * - RUNNING to DRAINING on the first stop or a drain: nothing more is read, the workers finish what
 *   they have;
 * - DRAINING to STOPPING when nothing is left, at the deadline, or on a second stop;
 * - STOPPING to STOPPED when all workers have ended and what they finished is acknowledged.
 */
#include "io.h"

#include <limits.h>
#include <poll.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "bridge/pack.h"
#include "packs.h"
#include "topology.h"

enum {
    PREPARE_MIN_MS = 100,
    PREPARE_CAP_MS = 5000,
    ACK_WAIT_MS = 10, /* how long the acknowledgement of a delivery waits for those before it */
    ACK_SHARE = 8,    /* and no longer when they are this part of the prefetch window */
    UNMADE_WAIT_MS = 50
};

/* ------------------------------------------------------------------ items that come back */

/* What stands for a pack was given to no worker. */
static void free_item(struct io *io, struct item *item)
{
    acks_forget(&io->acks, item);
    if (item->messages == 0)
        dispatch_returned(&io->dispatch, item);
    item_free(item, &io->shared->counters);
}

/* A message of a pack is not answered by itself; *item becomes the pack when it was the last one.
 * False: the others are still to come. */
static bool leave_pack(struct io *io, struct item **item, bool is_dealt_with)
{
    struct item *message = *item;

    if (message->pack == NULL)
        return true;
    *item = packs_leave(message, is_dealt_with);
    free_item(io, message);
    if (*item == NULL)
        OBX_CRASH_POINT("consumer-pack-in-part");
    return *item != NULL;
}

/* Forgotten without an answer. */
static void drop(struct io *io, struct item *item)
{
    if (leave_pack(io, &item, false))
        free_item(io, item);
}

/* Linked means: its delivery is of the present epoch and can be answered. */
static void finish(struct io *io, struct item *item)
{
    if (!leave_pack(io, &item, true))
        return;
    if (item->ack.state != ACK_UNLINKED && !item->is_incomplete)
        acks_done(&io->acks, item);
    else
        free_item(io, item);
}

/* What became of an item is committed. The place for whatever has to be done about it before the
 * acknowledgement. */
static void take_back(struct io *io, struct item *item)
{
    switch (item->state) {
    case ITEM_DONE:
    case ITEM_DEAD:
        if (!receipts_take(&io->receipts, item))
            finish(io, item);
        break;
    case ITEM_PARKED:
        finish(io, item);
        break;
    case ITEM_LETTER:
        dead_letters_add(&io->dead, item);
        break;
    case ITEM_READY:
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
    case ITEM_WAS_REJECTED:
    case ITEM_FAILED:
    case ITEM_EXHAUSTED:
    case ITEM_REJECTED:
    case ITEM_BLOCKED:
    case ITEM_SUSPECT:
    case ITEM_STALLED:
    case ITEM_HELD:
    case ITEM_HAS_ROW:
    case ITEM_LEFT:
    case ITEM_DROPPED:
    case ITEM_CONFIRMED:
        drop(io, item);
        break;
    }
}

/* Runs inside receipts_flush, outgoing_service and outgoing_fini: the item's receipt has gone out. */
static void receipt_done(struct item *item, bool is_reported, void *ctx)
{
    struct io *io = ctx;

    if (is_reported)
        finish(io, item);
    else
        drop(io, item);
}

/* Runs inside outgoing_service and the like. Its row is its worker's. */
static void dead_letter_done(struct item *item, void *ctx)
{
    struct io *io = ctx;

    OBX_CRASH_POINT("consumer-dead-letter-confirmed");
    mailbox_post_one(io->dispatch.lanes[item->worker].box, item);
}

/* ------------------------------------------------------------------ acknowledging */

static void acknowledge(struct io *io, uint64_t tag, bool multiple, uint32_t epoch,
                        struct item_list *finished)
{
    struct item *item = NULL;
    enum obx_code rc = bridge_consumer_ack(io->consumer, epoch, tag, multiple, NULL);

    /* When it could not be sent they come again, and the dedup rows are there. */
    counters_add(&io->shared->counters, rc == OBX_OK ? CNT_ACKED : CNT_DROPPED, finished->count);
    while ((item = item_list_pop(finished)) != NULL)
        free_item(io, item);
}

static void ack_run(struct io *io)
{
    struct item_list finished = {0};
    uint64_t tag = acks_take_run(&io->acks, &finished);

    if (tag != 0)
        acknowledge(io, tag, true, atomic_load(&io->shared->epoch), &finished);
}

static void ack_each(struct io *io)
{
    struct item_list finished = {0};
    struct item *item = NULL;

    acks_take_each(&io->acks, &finished);
    while ((item = item_list_pop(&finished)) != NULL) {
        struct item_list one = {0};

        item_list_push(&one, item);
        acknowledge(io, item->delivery->tag, false, item->delivery->epoch, &one);
    }
}

/*
 * One frame for the finished run at the head. What is finished behind an unfinished delivery waits
 * a little, since the run usually gets there at once, but not so long that the prefetch window
 * would fill with it.
 */
static void acknowledge_finished(struct io *io)
{
    size_t most = io->shared->settings.prefetch / ACK_SHARE;

    OBX_CRASH_POINT("consumer-before-ack");
    ack_run(io);
    if (io->acks.done_count == 0) {
        io->acks_due_ms = UINT64_MAX;
    } else if (io->acks.done_count > most || clock_now_ms() >= io->acks_due_ms) {
        ack_each(io);
        io->acks_due_ms = UINT64_MAX;
    } else if (io->acks_due_ms == UINT64_MAX) {
        io->acks_due_ms = clock_now_ms() + ACK_WAIT_MS;
    }
}

/* ------------------------------------------------------------------ deliveries */

static enum obx_code make_messages(struct io *io, struct bridge_delivery *delivery,
                                   struct obx_err *err)
{
    struct item_list messages;
    struct item *item = NULL;
    enum obx_code rc = packs_open(delivery, &io->shared->counters, &item, &messages, err);

    if (rc != OBX_OK)
        return rc;
    acks_add(&io->acks, item);
    while ((item = item_list_pop(&messages)) != NULL)
        dispatch_give(&io->dispatch, item);
    return OBX_OK;
}

/* A pack that cannot be taken apart is one item, to be refused for why. False: there was no memory. */
static bool make_item(struct io *io, struct bridge_delivery *delivery)
{
    struct item *item = NULL;
    struct obx_err why = {0};
    enum obx_code rc = OBX_OK;

    if (pack_is(&delivery->msg)) {
        rc = make_messages(io, delivery, &why);
        if (rc == OBX_OK || rc == OBX_E_NOMEM)
            return rc == OBX_OK;
        OBX_LOG(LOG_LVL_WARN, "consumer", "pack.unreadable",
                KV_STR("group", io->shared->settings.group), KV_U64("tag", delivery->tag),
                KV_U64("bytes", delivery->msg.body.len), KV_ERR(&why));
    }
    if (item_create(delivery, &io->shared->counters, &item) != OBX_OK)
        return false;
    item->why = why;
    acks_add(&io->acks, item);
    dispatch_give(&io->dispatch, item);
    return true;
}

static size_t unmade_index(const struct io *io, size_t i)
{
    return (io->unmade_head + i) % io->shared->settings.prefetch;
}

static void forget_unmade(struct io *io)
{
    for (; io->unmade_count > 0; io->unmade_count--) {
        bridge_delivery_free(io->unmade[io->unmade_head]);
        io->unmade_head = unmade_index(io, 1);
        counters_add(&io->shared->counters, CNT_DROPPED, 1);
    }
}

/* The broker's window counts messages; this counts their bytes. */
static void pause_reading(struct io *io, bool pause)
{
    if (pause == io->is_paused)
        return;
    io->is_paused = pause;
    bridge_consumer_pause(io->consumer, pause);
    OBX_LOG(LOG_LVL_DEBUG, "consumer", pause ? "reading.paused" : "reading.resumed",
            KV_STR("group", io->shared->settings.group),
            KV_U64("bytes", counters_get(&io->shared->counters, CNT_IN_FLIGHT_BYTES)));
}

static void limit_memory(struct io *io)
{
    uint64_t bytes = counters_get(&io->shared->counters, CNT_IN_FLIGHT_BYTES);
    uint64_t most = io->shared->settings.max_memory_bytes;

    /* A drain has stopped reading for good. */
    if (shared_phase(io->shared) != OBX_CONSUMER_RUNNING)
        return;
    pause_reading(io, io->is_paused ? bytes > most / 2 : bytes >= most);
}

/* The ring has room for as many deliveries as can be unanswered, and those unmade are. A broker
 * that sends more is not believed any further; what it sent comes again. */
static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct io *io = ctx;

    counters_add(&io->shared->counters, CNT_DELIVERED, 1);
    if (io->unmade_count == 0 && make_item(io, delivery)) {
        limit_memory(io);
    } else if (io->unmade_count < io->shared->settings.prefetch) {
        io->unmade[unmade_index(io, io->unmade_count++)] = delivery;
        limit_memory(io);
    } else {
        bridge_delivery_free(delivery);
        counters_add(&io->shared->counters, CNT_DROPPED, 1);
        bridge_consumer_distrust(io->consumer, "more deliveries than the prefetch allows");
    }
}

/* ------------------------------------------------------------------ the broker connection */

static void wake_workers(struct io *io)
{
    for (unsigned i = 0; i < io->dispatch.count; i++)
        wake_up(&io->dispatch.lanes[i].box->wake);
}

/* Everything unanswered will be delivered again. What a worker has begun it finishes; the rest it
 * drops. */
static void begin_epoch(struct io *io, uint32_t epoch)
{
    struct item_list finished = {0};
    struct item *item = NULL;

    if (epoch == atomic_load(&io->shared->epoch))
        return;
    atomic_store(&io->shared->epoch, epoch);
    acks_reset(&io->acks, &finished);
    while ((item = item_list_pop(&finished)) != NULL) {
        counters_add(&io->shared->counters, CNT_DROPPED, 1);
        free_item(io, item);
    }
    forget_unmade(io);
    wake_workers(io);
}

static void on_state(enum bridge_state state, uint32_t epoch, const struct obx_err *why, void *ctx)
{
    struct io *io = ctx;
    struct shared *shared = io->shared;
    const bool is_topology =
        why != NULL && (why->code == OBX_E_MQ_CANCELLED || why->code == OBX_E_MQ_TOPOLOGY);

    /* What the broker answers has to be heard; the next delivery counts again. */
    if (shared_phase(shared) == OBX_CONSUMER_RUNNING)
        pause_reading(io, false);
    begin_epoch(io, epoch);
    atomic_store(&shared->broker_up, state == BRIDGE_UP);
    if (state == BRIDGE_UP) {
        counters_add(&shared->counters, CNT_BROKER_CONNECTS, 1);
        last_error_set(&shared->broker, NULL);
        OBX_LOG(LOG_LVL_INFO, "consumer", "broker.up", KV_STR("group", shared->settings.group),
                KV_STR("queue", shared->settings.queue), KV_U64("epoch", epoch));
    } else if (state == BRIDGE_DOWN && why != NULL) {
        last_error_set(&shared->broker, why);
        /* The queue may be gone: declaring it again is ours to do, if anybody's. */
        if (is_topology && shared->settings.declare_topology && io->prepare_due_ms == UINT64_MAX)
            io->prepare_due_ms = clock_now_ms();
        OBX_LOG(LOG_LVL_WARN, "consumer", "broker.down", KV_STR("group", shared->settings.group),
                KV_STR("queue", shared->settings.queue), KV_ERR(why));
    }
}

/* Declare or verify when due. Only when declaring it must have worked before anything is consumed.
 */
static void prepare(struct io *io)
{
    const struct settings *settings = &io->shared->settings;
    struct obx_err err = {0};
    uint32_t wait_ms = 0;

    if (clock_now_ms() < io->prepare_due_ms)
        return;
    if (topology_prepare(settings, &err) == OBX_OK) {
        io->prepare_due_ms = UINT64_MAX;
        io->was_prepared = true;
        backoff_reset(&io->prepare_wait);
        return;
    }
    wait_ms = backoff_next_ms(&io->prepare_wait);
    io->prepare_due_ms = clock_now_ms() + wait_ms;
    last_error_set(&io->shared->broker, &err);
    OBX_LOG(LOG_LVL_WARN, "consumer", "topology.failed", KV_STR("group", settings->group),
            KV_STR("queue", settings->queue), KV_U64("retry_ms", wait_ms), KV_ERR(&err));
}

/* ------------------------------------------------------------------ phases */

static void set_phase(struct io *io, enum obx_consumer_state phase)
{
    enum obx_consumer_state from = shared_phase(io->shared);

    OBX_ASSERT(phase > from);
    OBX_LOG(LOG_LVL_INFO, "consumer", "state", KV_STR("group", io->shared->settings.group),
            KV_STR("from", obx_consumer_state_name(from)),
            KV_STR("to", obx_consumer_state_name(phase)));
    atomic_store(&io->shared->phase, (int)phase);
    wake_workers(io);
}

/*
 * The subscription stays, and nothing more is read of it. A basic.cancel would make RabbitMQ give the
 * queue to the next consumer at once, while what we are applying is unacknowledged: it would apply a
 * key's later messages before our earlier ones. What the broker has sent and we have not read goes
 * back when the connection ends, after our acknowledgements.
 */
static void stop_taking(struct io *io)
{
    if (bridge_consumer_state(io->consumer) == BRIDGE_UP)
        pause_reading(io, true);
    else
        bridge_consumer_cancel(io->consumer);
}

static void follow_requests(struct io *io)
{
    struct shared *shared = io->shared;
    bool is_drained = false;

    io->stops += wake_clear(&shared->stop);
    if (shared_phase(shared) == OBX_CONSUMER_RUNNING &&
        (io->stops > 0 || atomic_load(&shared->drain_wanted))) {
        io->drain_due_ms = clock_now_ms() + atomic_load(&shared->drain_ms);
        set_phase(io, OBX_CONSUMER_DRAINING);
        dead_letters_drain(&io->dead);
        stop_taking(io);
    }
    if (shared_phase(shared) != OBX_CONSUMER_DRAINING)
        return;
    /* Without a connection there is nothing to hold: none is made any more. */
    if (bridge_consumer_state(io->consumer) != BRIDGE_UP)
        bridge_consumer_cancel(io->consumer);
    /* What waits for a retry is a row and not in memory: it is not waited for. */
    is_drained = io->unmade_count == 0 && counters_get(&shared->counters, CNT_IN_FLIGHT) == 0;
    if (io->stops > 1 || is_drained) {
        set_phase(io, OBX_CONSUMER_STOPPING);
    } else if (clock_now_ms() >= io->drain_due_ms) {
        OBX_LOG(LOG_LVL_WARN, "consumer", "drain.timeout", KV_STR("group", shared->settings.group),
                KV_U64("in_flight", counters_get(&shared->counters, CNT_IN_FLIGHT)));
        pthread_mutex_lock(&shared->end_lock);
        shared->timed_out = true;
        pthread_mutex_unlock(&shared->end_lock);
        set_phase(io, OBX_CONSUMER_STOPPING);
    }
}

/* All workers have ended: what they finished is acknowledged, everything else goes back to the
 * broker. */
static void end(struct io *io)
{
    struct item_list left = {0};
    struct item *item = NULL;

    io->dead.is_ending = true;
    io->receipts.is_ending = true;
    outgoing_fini(&io->outgoing);
    for (unsigned i = 0; i < io->dispatch.count; i++)
        mailbox_take(io->dispatch.lanes[i].box, &left);
    while ((item = item_list_pop(&left)) != NULL)
        take_back(io, item);
    receipts_flush(&io->receipts);
    ack_run(io);
    ack_each(io);
    forget_unmade(io);
    if (io->was_prepared)
        bridge_consumer_service(io->consumer); /* writes the acknowledgements */
    bridge_consumer_destroy(io->consumer);
    io->consumer = NULL;
    atomic_store(&io->shared->broker_up, false);
}

/* ------------------------------------------------------------------ the loop */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_due_ms(const struct io *io)
{
    enum obx_consumer_state phase = shared_phase(io->shared);
    uint64_t due = earlier(outgoing_next_due_ms(&io->outgoing), io->acks_due_ms);

    if (io->was_prepared)
        due = earlier(due, bridge_consumer_next_due_ms(io->consumer));
    if (phase == OBX_CONSUMER_RUNNING)
        due = earlier(due, io->prepare_due_ms);
    if (phase == OBX_CONSUMER_DRAINING)
        due = earlier(due, io->drain_due_ms);
    if (io->unmade_count > 0)
        due = earlier(due, clock_now_ms() + UNMADE_WAIT_MS);
    return due;
}

static void sleep_until_needed(struct io *io)
{
    uint64_t due = next_due_ms(io);
    struct pollfd fds[] = {
        {.fd = io->shared->to_io.wake.fd, .events = POLLIN},
        {.fd = io->shared->stop.fd, .events = POLLIN},
        {.fd = bridge_consumer_fd(io->consumer), .events = POLLIN},
        {.fd = outgoing_fd(&io->outgoing), .events = POLLIN},
    };

    /* An interrupted poll is a turn for nothing. */
    (void)poll(fds, sizeof(fds) / sizeof(fds[0]), due == UINT64_MAX ? -1 : clock_left_ms(due));
}

static bool take_turn(struct io *io)
{
    /* Read before the mailbox: then everything that the workers posted is in it. */
    bool have_ended = atomic_load(&io->shared->workers_ended) == io->shared->settings.workers;
    struct item_list back = {0};
    struct item *item = NULL;

    mailbox_take(&io->shared->to_io, &back);
    while ((item = item_list_pop(&back)) != NULL)
        take_back(io, item);
    receipts_flush(&io->receipts);
    outgoing_service(&io->outgoing);
    acknowledge_finished(io);
    if (shared_phase(io->shared) == OBX_CONSUMER_RUNNING)
        prepare(io);
    if (io->was_prepared)
        bridge_consumer_service(io->consumer);
    while (io->unmade_count > 0 && make_item(io, io->unmade[io->unmade_head])) {
        io->unmade_head = unmade_index(io, 1);
        io->unmade_count--;
    }
    dispatch_post(&io->dispatch);
    limit_memory(io);
    follow_requests(io);
    if (have_ended)
        return false;
    sleep_until_needed(io);
    return true;
}

static void *io_main(void *arg)
{
    struct io *io = arg;

    while (take_turn(io))
        ;
    end(io);
    pthread_mutex_lock(&io->shared->end_lock);
    set_phase(io, OBX_CONSUMER_STOPPED);
    pthread_cond_broadcast(&io->shared->end_signal);
    pthread_mutex_unlock(&io->shared->end_lock);
    return NULL;
}

static enum obx_code make_consumer(struct io *io, struct obx_err *err)
{
    const struct settings *settings = &io->shared->settings;
    const struct bridge_consumer_opts opts = {
        .bridge = settings->bridge,
        .queue = settings->queue,
        .prefetch = settings->prefetch,
        .on_delivery = on_delivery,
        .on_state = on_state,
        .ctx = io,
    };

    return bridge_consumer_create(&opts, &io->consumer, err);
}

enum obx_code io_init(struct io *io, struct shared *shared, struct obx_err *err)
{
    const struct settings *settings = &shared->settings;
    enum obx_code rc = OBX_OK;

    *io = (struct io){.shared = shared,
                      .acks_due_ms = UINT64_MAX,
                      .prepare_due_ms = settings->declare_topology ? 0 : UINT64_MAX,
                      .was_prepared = !settings->declare_topology,
                      .dead = {.settings = settings,
                               .counters = &shared->counters,
                               .outgoing = &io->outgoing,
                               .on_done = dead_letter_done,
                               .ctx = io},
                      .receipts = {.settings = settings,
                                   .counters = &shared->counters,
                                   .outgoing = &io->outgoing,
                                   .on_done = receipt_done,
                                   .ctx = io}};
    backoff_init(&io->prepare_wait, PREPARE_MIN_MS, PREPARE_CAP_MS);
    io->unmade = obx_calloc(settings->prefetch, sizeof(struct bridge_delivery *));
    if (io->unmade == NULL)
        return obx_fail(err, OBX_E_NOMEM, "prefetch of %u", settings->prefetch);
    rc = dispatch_init(&io->dispatch, settings->workers, err);
    if (rc == OBX_OK)
        rc = outgoing_init(&io->outgoing, settings, err);
    if (rc == OBX_OK)
        rc = make_consumer(io, err);
    if (rc != OBX_OK)
        io_fini(io);
    return rc;
}

void io_set_worker(struct io *io, unsigned index, struct mailbox *box)
{
    io->dispatch.lanes[index].box = box;
}

void io_fini(struct io *io)
{
    bridge_consumer_destroy(io->consumer);
    outgoing_fini(&io->outgoing);
    dispatch_fini(&io->dispatch);
    obx_free(io->unmade);
    io->consumer = NULL;
    io->unmade = NULL;
}

enum obx_code io_start(struct io *io, struct obx_err *err)
{
    return thread_start(&io->thread, io_main, io, "the consumer's I/O", err);
}

void io_join(struct io *io)
{
    thread_join(&io->thread);
}
