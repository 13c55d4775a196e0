/*
 * The lanes and their slots. A slot is one (source, outbox) for as long as the relay has to do with
 * it; the lane in it comes and goes. Wanted and live are kept apart: wanted is what the newest
 * configuration says (NULL: away with it), live is what the running lane was made from, and
 * relay_turn moves the one towards the other. Called by daemon.c only.
 */
#include "relay.h"

#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"

enum {
    RESTART_MIN_MS = 500,
    RESTART_CAP_MS = 30000,
    SOUND_AFTER_MS = 60000, /* a lane that lived this long starts again without a wait */
    DRAIN_GRACE_MS = 1000,  /* beyond the lane's own drain time, for its last settle */
    TURN_IDLE_MS = 1000,
    TURN_BUSY_MS = 20,
    RING_GAP_MS = 1,
    HEIR_MAX = 64,
};

struct slot {
    enum slot_state state;
    char *source; /* owned, as outbox: configurations come and go */
    char *outbox;
    struct relay_config *wanted; /* reference; NULL: the lane is to go */
    struct relay_config *live;   /* reference; NULL: there is no lane */
    struct lane *lane;           /* NULL in SLOT_WAITING */
    struct backoff backoff;
    uint64_t due_ms; /* WAITING: when to start. DRAINING: when to give up waiting */
    uint64_t started_ms;
    uint64_t starts;
    struct broker_counts before; /* of this slot's earlier lanes */
    struct obx_err trouble;
    bool is_elsewhere;   /* another relay is to have the lane, see fleet_role.h */
    bool is_given;       /* drained for that, and the other one is to be told */
    char heir[HEIR_MAX]; /* where that one hears doorbells; "" nowhere */
    bool is_rung;
    bool may_pass_on; /* the ring came from an application, not from another relay */
    uint64_t ring_due_ms;
};

struct relay {
    struct relay_opts opts;
    struct slot **slots;
    size_t slot_count;
    struct lane_view *views; /* as many as slots */
    bool is_gate_open;
    uint64_t passed_on;
    uint64_t pass_failed;
    uint64_t given; /* lanes handed over to other relays */
};

enum obx_code relay_create(const struct relay_opts *opts, struct relay **out, struct obx_err *err)
{
    struct relay *relay = obx_calloc(1, sizeof(*relay));

    *out = relay;
    if (relay == NULL)
        return obx_fail(err, OBX_E_NOMEM, "relay");
    relay->opts = *opts;
    return OBX_OK;
}

static void free_slot(struct slot *slot)
{
    if (slot == NULL)
        return;
    OBX_ASSERT(slot->lane == NULL);
    obx_free(slot->source);
    obx_free(slot->outbox);
    relay_config_unref(slot->live);
    relay_config_unref(slot->wanted);
    obx_free(slot);
}

void relay_destroy(struct relay *relay)
{
    if (relay == NULL)
        return;
    for (size_t i = 0; i < relay->slot_count; i++)
        free_slot(relay->slots[i]);
    obx_free(relay->slots);
    obx_free(relay->views);
    obx_free(relay);
}

static void set_state(struct slot *slot, enum slot_state state)
{
    OBX_LOG(LOG_LVL_DEBUG, "relay", "slot.state", KV_STR("source", slot->source),
            KV_STR("outbox", slot->outbox), KV_STR("from", slot_state_name(slot->state)),
            KV_STR("to", slot_state_name(state)));
    slot->state = state;
}

static struct slot *find_slot(const struct relay *relay, const char *source, const char *outbox)
{
    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        if (strcmp(slot->source, source) == 0 && strcmp(slot->outbox, outbox) == 0)
            return slot;
    }
    return NULL;
}

/* Room for `extra` more slots, and for a view of each. */
static enum obx_code reserve_slots(struct relay *relay, size_t extra)
{
    size_t count = relay->slot_count + extra;
    struct slot **slots = obx_realloc(relay->slots, count * sizeof(struct slot *));
    struct lane_view *views;

    if (slots == NULL)
        return OBX_E_NOMEM;
    relay->slots = slots;
    views = obx_realloc(relay->views, count * sizeof(*views));
    if (views == NULL)
        return OBX_E_NOMEM;
    relay->views = views;
    return OBX_OK;
}

static enum obx_code add_slot(struct relay *relay, const char *source, const char *outbox)
{
    struct slot *slot = obx_calloc(1, sizeof(*slot));

    if (slot == NULL)
        return OBX_E_NOMEM;
    slot->source = obx_strdup(source);
    slot->outbox = obx_strdup(outbox);
    if (slot->source == NULL || slot->outbox == NULL) {
        free_slot(slot);
        return OBX_E_NOMEM;
    }
    slot->state = SLOT_WAITING;
    backoff_init(&slot->backoff, RESTART_MIN_MS, RESTART_CAP_MS);
    relay->slots[relay->slot_count++] = slot;
    return OBX_OK;
}

/* Makes the slots that are missing. Those that were made before memory ran out are unwanted and go
 * with the next turn. */
static enum obx_code add_missing_slots(struct relay *relay, const struct relay_config *config)
{
    enum obx_code rc = reserve_slots(relay, relay_config_lane_count(config));

    for (size_t i = 0; i < config->source_count; i++) {
        const struct source_config *source = &config->sources[i];

        for (size_t k = 0; k < source->outbox_count && rc == OBX_OK; k++) {
            if (find_slot(relay, source->name, source->outboxes[k]) == NULL)
                rc = add_slot(relay, source->name, source->outboxes[k]);
        }
    }
    return rc;
}

static bool has_outbox(const struct source_config *source, const char *outbox)
{
    for (size_t i = 0; source != NULL && i < source->outbox_count; i++) {
        if (strcmp(source->outboxes[i], outbox) == 0)
            return true;
    }
    return false;
}

/* What config wants of a slot: nothing, the lane that runs already, or another one. */
static struct relay_config *wanted_of(const struct slot *slot, struct relay_config *config)
{
    const struct source_config *after = relay_config_source(config, slot->source);

    if (!has_outbox(after, slot->outbox))
        return NULL;
    if (slot->live != NULL && relay_config_is_same(slot->live, config, RESTARTS_LANE, slot->source))
        return slot->live;
    return config;
}

static void set_wanted(struct slot *slot, struct relay_config *wanted)
{
    struct relay_config *old = slot->wanted;

    slot->wanted = wanted == NULL ? NULL : relay_config_ref(wanted);
    relay_config_unref(old);
    if (slot->state == SLOT_WAITING)
        slot->due_ms = 0;
}

enum obx_code relay_apply(struct relay *relay, struct relay_config *config, struct obx_err *err)
{
    if (add_missing_slots(relay, config) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "lanes");
    for (size_t i = 0; i < relay->slot_count; i++)
        set_wanted(relay->slots[i], wanted_of(relay->slots[i], config));
    return OBX_OK;
}

void relay_set_gate(struct relay *relay, bool is_open)
{
    relay->is_gate_open = is_open;
    for (size_t i = 0; is_open && i < relay->slot_count; i++) {
        if (relay->slots[i]->lane != NULL)
            lane_open_gate(relay->slots[i]->lane);
    }
}

static enum obx_code start_lane(struct relay *relay, struct slot *slot, struct obx_err *err)
{
    const struct source_config *source = relay_config_source(slot->wanted, slot->source);
    struct lane_opts opts = source->lane;
    enum obx_code rc;

    opts.outbox = slot->outbox;
    opts.owner = relay->opts.owner;
    opts.address = slot->wanted->advertise_address;
    opts.gated = !relay->is_gate_open;
    opts.is_elsewhere = slot->is_elsewhere;
    rc = lane_create(&opts, &slot->lane, err);
    if (rc != OBX_OK)
        return rc;
    rc = lane_start(slot->lane, err);
    if (rc != OBX_OK) {
        lane_destroy(slot->lane);
        slot->lane = NULL;
    }
    return rc;
}

static void log_slot(enum log_level level, const char *event, const struct slot *slot)
{
    OBX_LOG(level, "relay", event, KV_STR("source", slot->source), KV_STR("outbox", slot->outbox),
            KV_U64("starts", slot->starts));
}

static void try_start(struct relay *relay, struct slot *slot, uint64_t now_ms)
{
    if (start_lane(relay, slot, &slot->trouble) == OBX_OK) {
        slot->live = relay_config_ref(slot->wanted);
        slot->started_ms = now_ms;
        slot->starts++;
        obx_err_clear(&slot->trouble);
        set_state(slot, SLOT_RUNNING);
        log_slot(LOG_LVL_INFO, "lane.started", slot);
        return;
    }
    slot->due_ms = now_ms + backoff_next_ms(&slot->backoff);
    OBX_LOG(LOG_LVL_ERROR, "relay", "lane.start_failed", KV_STR("source", slot->source),
            KV_STR("outbox", slot->outbox), KV_ERR(&slot->trouble));
}

static bool has_ended(const struct slot *slot)
{
    struct lane_stats stats;

    lane_get_stats(slot->lane, &stats);
    return stats.state == LANE_STOPPED;
}

/* The lane's thread has ended: put it away. */
static void reap(struct slot *slot)
{
    struct lane_stats stats;

    lane_get_stats(slot->lane, &stats);
    slot->before.connects += stats.broker_connects;
    slot->before.exchange_faults += stats.exchange_faults;
    lane_join(slot->lane);
    lane_destroy(slot->lane);
    slot->lane = NULL;
    relay_config_unref(slot->live);
    slot->live = NULL;
    slot->due_ms = 0;
    set_state(slot, SLOT_WAITING);
}

/* A lane that ended without being asked. */
static void reap_failed(struct slot *slot, uint64_t now_ms)
{
    struct lane_stats stats;

    lane_get_stats(slot->lane, &stats);
    if (now_ms - slot->started_ms >= SOUND_AFTER_MS)
        backoff_reset(&slot->backoff);
    (void)obx_fail(&slot->trouble, OBX_E_CLOSED, "lane ended: %s", stats.trouble);
    OBX_LOG(LOG_LVL_ERROR, "relay", "lane.failed", KV_STR("source", slot->source),
            KV_STR("outbox", slot->outbox), KV_STR("why", stats.trouble));
    reap(slot);
    slot->due_ms = now_ms + backoff_next_ms(&slot->backoff);
}

static void begin_drain(struct slot *slot, uint64_t now_ms)
{
    log_slot(LOG_LVL_INFO, "lane.draining", slot);
    slot->due_ms = now_ms + slot->live->drain_ms + DRAIN_GRACE_MS;
    set_state(slot, SLOT_DRAINING);
    lane_drain(slot->lane);
}

static void begin_stop(struct slot *slot)
{
    log_slot(LOG_LVL_WARN, "lane.drain_overdue", slot);
    set_state(slot, SLOT_STOPPING);
    lane_stop(slot->lane);
}

static void ring_elsewhere(struct relay *relay, const struct slot *slot, const char *address)
{
    if (relay->opts.pass_on(address, slot->source, slot->outbox, relay->opts.ctx))
        relay->passed_on++;
    else
        relay->pass_failed++;
}

/* An owner whose lane another relay is to have drains it and gives the lease back; the lane starts
 * again as a standby. */
static bool is_to_give(const struct slot *slot)
{
    struct lane_stats stats;

    if (!slot->is_elsewhere)
        return false;
    lane_get_stats(slot->lane, &stats);
    return stats.state == LANE_OWNER;
}

static void turn_slot(struct relay *relay, struct slot *slot, uint64_t now_ms)
{
    switch (slot->state) {
    case SLOT_WAITING:
        if (slot->wanted != NULL && now_ms >= slot->due_ms)
            try_start(relay, slot, now_ms);
        return;
    case SLOT_RUNNING:
        if (has_ended(slot))
            reap_failed(slot, now_ms);
        else if (slot->wanted != slot->live)
            begin_drain(slot, now_ms);
        else if (is_to_give(slot)) {
            relay->given++;
            slot->is_given = true;
            begin_drain(slot, now_ms);
        }
        return;
    case SLOT_DRAINING:
    case SLOT_STOPPING:
        if (has_ended(slot)) {
            log_slot(LOG_LVL_INFO, "lane.ended", slot);
            reap(slot);
            if (slot->is_given && slot->heir[0] != '\0')
                ring_elsewhere(relay, slot, slot->heir);
            slot->is_given = false;
        } else if (slot->state == SLOT_DRAINING && now_ms >= slot->due_ms) {
            begin_stop(slot);
        }
        return;
    }
}

static void drop_unwanted_slots(struct relay *relay)
{
    size_t kept = 0;

    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        if (slot->state == SLOT_WAITING && slot->wanted == NULL)
            free_slot(slot);
        else
            relay->slots[kept++] = slot;
    }
    relay->slot_count = kept;
}

static bool is_settled(const struct slot *slot)
{
    return slot->state == SLOT_RUNNING && slot->wanted == slot->live;
}

uint32_t relay_turn(struct relay *relay)
{
    uint64_t now_ms = clock_now_ms();
    uint32_t next_ms = TURN_IDLE_MS;

    for (size_t i = 0; i < relay->slot_count; i++)
        turn_slot(relay, relay->slots[i], now_ms);
    drop_unwanted_slots(relay);
    for (size_t i = 0; i < relay->slot_count; i++) {
        if (!is_settled(relay->slots[i]))
            next_ms = TURN_BUSY_MS;
    }
    return next_ms;
}

bool relay_ring(struct relay *relay, const struct bell_msg *msg)
{
    bool is_known = false;

    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        if (!bell_msg_is_for(msg, slot->source, slot->outbox))
            continue;
        is_known = true;
        slot->is_rung = true;
        slot->may_pass_on = slot->may_pass_on || !msg->forwarded;
    }
    return is_known;
}

static void deliver_ring(struct relay *relay, struct slot *slot)
{
    struct lane_stats stats;

    if (slot->lane == NULL)
        return;
    lane_get_stats(slot->lane, &stats);
    /* From another relay, a standby hears so that the lane is free now. */
    if (stats.state == LANE_OWNER || !slot->may_pass_on)
        lane_ring(slot->lane);
    else if (stats.lease_address[0] != '\0')
        ring_elsewhere(relay, slot, stats.lease_address);
}

uint32_t relay_flush_rings(struct relay *relay)
{
    uint64_t now_ms = clock_now_ms();
    uint32_t next_ms = UINT32_MAX;

    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        if (!slot->is_rung)
            continue;
        if (now_ms < slot->ring_due_ms) {
            next_ms = RING_GAP_MS;
            continue;
        }
        deliver_ring(relay, slot);
        slot->is_rung = false;
        slot->may_pass_on = false;
        slot->ring_due_ms = now_ms + RING_GAP_MS;
    }
    return next_ms;
}

void relay_share(struct relay *relay, relay_elsewhere *ask, void *ctx)
{
    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        slot->is_elsewhere = ask(slot->source, slot->outbox, slot->heir, ctx);
        if (slot->lane != NULL)
            lane_set_elsewhere(slot->lane, slot->is_elsewhere);
    }
}

uint64_t relay_given(const struct relay *relay)
{
    return relay->given;
}

void relay_drain(struct relay *relay)
{
    for (size_t i = 0; i < relay->slot_count; i++)
        set_wanted(relay->slots[i], NULL);
}

void relay_stop(struct relay *relay)
{
    relay_drain(relay);
    for (size_t i = 0; i < relay->slot_count; i++) {
        struct slot *slot = relay->slots[i];

        if (slot->lane == NULL || slot->state == SLOT_STOPPING)
            continue;
        set_state(slot, SLOT_STOPPING);
        lane_stop(slot->lane);
    }
}

bool relay_is_idle(const struct relay *relay)
{
    for (size_t i = 0; i < relay->slot_count; i++) {
        if (relay->slots[i]->lane != NULL)
            return false;
    }
    return true;
}

static void fill_view(const struct slot *slot, struct lane_view *view)
{
    memset(view, 0, sizeof(*view));
    view->source = slot->source;
    view->outbox = slot->outbox;
    view->slot = slot->state;
    view->trouble = slot->trouble.text;
    view->starts = slot->starts;
    if (slot->lane == NULL)
        return;
    lane_get_stats(slot->lane, &view->stats);
    view->commit_to_confirm = lane_hist_commit_to_confirm(slot->lane);
    view->publish_to_confirm = lane_hist_publish_to_confirm(slot->lane);
}

const struct lane_view *relay_lane_views(struct relay *relay, size_t *count)
{
    for (size_t i = 0; i < relay->slot_count; i++)
        fill_view(relay->slots[i], &relay->views[i]);
    *count = relay->slot_count;
    return relay->views;
}

void relay_broker_counts(struct relay *relay, struct broker_counts *out)
{
    *out = (struct broker_counts){0};
    for (size_t i = 0; i < relay->slot_count; i++) {
        const struct slot *slot = relay->slots[i];
        struct lane_stats stats = {0};

        if (slot->lane != NULL)
            lane_get_stats(slot->lane, &stats);
        out->connects += slot->before.connects + stats.broker_connects;
        out->exchange_faults += slot->before.exchange_faults + stats.exchange_faults;
    }
}

void relay_pass_counts(const struct relay *relay, uint64_t *passed_on, uint64_t *failed)
{
    *passed_on = relay->passed_on;
    *failed = relay->pass_failed;
}
