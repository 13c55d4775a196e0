/*
 * The simulated broker: it decides about messages in the order in which they were sent, answers in
 * any order, and may vanish at any moment, with what it had decided known to nobody. See
 * lane_sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "bridge/pack.h"
#include "lane_sim.h"
#include "message_header.h"

enum {
    HASTY_MAX = 100,
    RETRY_MIN_US = 8000,
    RECONNECT_US = 30000,
    BLOCK_US = 400000,
    REPLY_REFUSED = 403,
    REPLY_NOT_FOUND = 404,
    WHY_SIZE = 100
};

static const char denied_text[] = "403 ACCESS_REFUSED - write access to topic";
static const char missing_text[] = "404 NOT_FOUND - no exchange";

static struct bridge_publisher *create(const struct bridge_publisher_opts *opts)
{
    struct bridge_publisher *pub = calloc(1, sizeof(*pub));

    if (pub == NULL)
        abort();
    pub->opts = *opts;
    pub->up_at_us = sim->now_us;
    return pub;
}

enum obx_code sim_pub_create(const struct bridge_publisher_opts *opts,
                             struct bridge_publisher **out, struct obx_err *err)
    WRAPS(bridge_publisher_create);
enum obx_code sim_pub_create(const struct bridge_publisher_opts *opts,
                             struct bridge_publisher **out, struct obx_err *err)
{
    (void)err;
    *out = create(opts);
    return OBX_OK;
}

/* ---- what the broker does with a message ---- */

static struct sim_topic *topic_of(const struct sim_message *message)
{
    return &sim->topics[sim->rows[message->rows[0]].topic];
}

static void store(struct sim_message *message)
{
    for (size_t i = 0; i < message->count; i++) {
        sim->rows[message->rows[i]].stored++;
        sim_delivered(&sim->rows[message->rows[i]]);
    }
    message->outcome = PUB_CONFIRMED;
}

static void decide(struct sim_message *message)
{
    const struct sim_topic *topic = topic_of(message);

    message->is_done = true;
    if (topic->is_unbound)
        message->outcome = PUB_RETURNED;
    else if (message->is_too_large)
        message->outcome = PUB_NACKED;
    else if (topic->is_full || (!sim->is_calm && sim_chance(60)))
        message->outcome = PUB_NACKED;
    else
        store(message);
}

/* The messages in flight go down with the connection or the channel; what the broker had not seen
 * is not stored. */
static void fail_all(struct bridge_publisher *pub, const struct sim_topic *culprit,
                     enum pub_outcome outcome, const char *why)
{
    struct sim_message lost[SIM_FLIGHT];
    size_t count = pub->flight_count;

    memcpy(lost, pub->flight, count * sizeof(lost[0]));
    pub->flight_count = 0;
    sim->losses += count > 0;
    for (size_t i = 0; i < count; i++) {
        bool is_culprit = culprit != NULL && topic_of(&lost[i]) == culprit && !lost[i].is_done;

        sim->work++;
        for (size_t k = 0; k < lost[i].count; k++)
            sim->rows[lost[i].rows[k]].refused += is_culprit;
        pub->opts.on_result(lost[i].token, is_culprit ? outcome : PUB_UNKNOWN, why, pub->opts.ctx);
    }
}

/* The broker works off a part of what is before it. */
static void work_off(struct bridge_publisher *pub, size_t count)
{
    for (size_t i = 0; i < pub->flight_count && count > 0; i++) {
        struct sim_message *message = &pub->flight[i];

        if (message->is_done)
            continue;
        count--;
        if (topic_of(message)->is_missing) {
            (void)obx_fail_sys(&pub->trouble, OBX_E_MQ_TOPOLOGY, REPLY_NOT_FOUND, "channel");
            fail_all(pub, topic_of(message), PUB_RETURNED, missing_text);
            return;
        }
        if (topic_of(message)->is_denied) {
            (void)obx_fail_sys(&pub->trouble, OBX_E_MQ_DENIED, REPLY_REFUSED, "channel");
            fail_all(pub, topic_of(message), PUB_DENIED, denied_text);
            return;
        }
        decide(message);
    }
}

static void lose_connection(struct bridge_publisher *pub)
{
    work_off(pub, sim_below(SIM_FLIGHT));
    if (!pub->is_up)
        return;
    pub->is_up = false;
    pub->is_blocked = false;
    pub->up_at_us = sim->now_us + sim_below(RECONNECT_US) + (sim_chance(10) ? 3000000 : 0);
    (void)obx_fail_sys(&pub->trouble, OBX_E_MQ_GONE, 104, "simulated");
    fail_all(pub, NULL, PUB_UNKNOWN, "simulated");
}

static const char *why_of(const struct sim_message *message, char text[WHY_SIZE])
{
    if (message->outcome == PUB_RETURNED)
        return "312 NO_ROUTE: no queue is bound";
    if (message->outcome != PUB_NACKED)
        return NULL;
    (void)snprintf(text, WHY_SIZE, "message size is larger than configured max size %u",
                   (unsigned)sim->pack_limit);
    return message->is_too_large ? text : "basic.nack";
}

static void note_answer(const struct sim_message *message)
{
    for (size_t i = 0; i < message->count && !message->is_too_large; i++) {
        struct sim_row *row = &sim->rows[message->rows[i]];

        row->refused_us = message->outcome == PUB_CONFIRMED ? 0 : sim->now_us;
        row->refused_at = sim->losses;
        row->refused += message->outcome != PUB_CONFIRMED && message->outcome != PUB_UNKNOWN;
    }
    if (message->outcome == PUB_CONFIRMED)
        topic_of(message)->confirmed_us = sim->now_us;
}

/* Answers for some of what is decided, in any order. */
static void answer(struct bridge_publisher *pub)
{
    size_t i = 0;

    while (i < pub->flight_count) {
        struct sim_message message = pub->flight[i];
        char why[WHY_SIZE];

        if (!message.is_done || sim_chance(4)) {
            i++;
            continue;
        }
        pub->flight_count--;
        memmove(&pub->flight[i], &pub->flight[i + 1],
                (pub->flight_count - i) * sizeof(pub->flight[0]));
        sim->work++;
        note_answer(&message);
        pub->opts.on_result(message.token, message.outcome, why_of(&message, why), pub->opts.ctx);
    }
}

void sim_broker_kill(struct bridge_publisher *pub)
{
    if (pub == NULL)
        return;
    work_off(pub, sim_below(SIM_FLIGHT));
}

bool sim_broker_readable(const struct bridge_publisher *pub)
{
    return pub != NULL && pub->flight_count > 0;
}

/* ---- in the place of the bridge ---- */

void sim_pub_destroy(struct bridge_publisher *pub) WRAPS(bridge_publisher_destroy);
void sim_pub_destroy(struct bridge_publisher *pub)
{
    if (pub == NULL)
        return;
    work_off(pub, sim_below(SIM_FLIGHT));
    fail_all(pub, NULL, PUB_UNKNOWN, "closed");
    free(pub);
}

/* What is not on its way yet stays here; of that the model has nothing. */
void sim_pub_drop(struct bridge_publisher *pub) WRAPS(bridge_publisher_drop);
void sim_pub_drop(struct bridge_publisher *pub)
{
    sim_pub_destroy(pub);
}

void sim_pub_service(struct bridge_publisher *pub) WRAPS(bridge_publisher_service);
void sim_pub_service(struct bridge_publisher *pub)
{
    if (!pub->is_up) {
        if (sim->now_us < pub->up_at_us)
            return;
        pub->is_up = true;
        sim->work++;
        obx_err_clear(&pub->trouble);
    }
    if (!sim->is_calm && sim_chance(sim->chaos.broker_loss)) {
        lose_connection(pub);
        return;
    }
    if (pub->is_blocked && (sim->is_calm || sim->now_us >= pub->unblock_us))
        pub->is_blocked = false;
    else if (!sim->is_calm && sim_chance(sim->chaos.broker_loss)) {
        pub->is_blocked = true;
        pub->unblock_us = sim->now_us + BLOCK_US;
    }
    work_off(pub, sim_below(SIM_FLIGHT));
    answer(pub);
}

static void check_order(const struct sim_row *row)
{
    for (const struct sim_row *other = sim->rows; other < &sim->rows[sim->row_count]; other++) {
        if (other->key != row->key || other == row)
            continue;
        /* Before it in the same message. */
        if (row->pack != 0 && other->pack == row->pack && row->pack == sim->pack)
            continue;
        if (other->state == SIM_PARKED && other->holds_key && other->id < row->id)
            sim_fail("row %llu is sent, and its key is frozen by row %llu",
                     (unsigned long long)row->id, (unsigned long long)other->id);
        /* A copy of what was delivered before, in its order, may come at any time. */
        if (!row->is_awaiting && other->id < row->id && other->state == SIM_LIVE &&
            other->stored == 0 && other->commit_seq < row->commit_seq)
            sim_fail("row %llu of key %d is sent before row %llu, which was committed before",
                     (unsigned long long)row->id, row->key, (unsigned long long)other->id);
    }
}

static void check_send(struct sim_row *row, struct sim_slot *slot, uint64_t token)
{
    bool is_stale = strcmp(sim->lease.owner, slot->owner) != 0;

    if (row->state == SIM_OPEN || row->state == SIM_GHOST)
        sim_fail("row %llu is sent and not committed", (unsigned long long)row->id);
    if (is_stale && ++slot->stale_sends > 1)
        sim_fail("%u messages were sent without the lease", slot->stale_sends);
    if (!is_stale && row->state != SIM_LIVE)
        sim_fail("row %llu is sent and not in the outbox", (unsigned long long)row->id);
    if (row->is_bad)
        sim_fail("row %llu has no headers and is sent", (unsigned long long)row->id);
    if (!is_stale && row->key >= 0 && sim->opts.key_window == 1)
        check_order(row);
    /* Where topics share a hash, what gets through in one is news for the others. */
    if (!sim->has_poor_hash && row->refused_us != 0 && row->refused_at == sim->losses &&
        sim->topics[row->topic].confirmed_us < row->refused_us &&
        sim->now_us < row->refused_us + RETRY_MIN_US && ++sim->hasty_sends > HASTY_MAX)
        sim_fail("%u messages were sent again at once after a refusal", sim->hasty_sends);
    if (row->pack == 0 && flight_by_token(slot->turn->parts.flight, token) == NULL)
        sim_fail("row %llu is sent with a token of nobody", (unsigned long long)row->id);
    row->sent++;
}

static struct sim_row *row_of(const struct bridge_message *msg)
{
    const struct obx_header *id = message_header(msg, "x-obx-outbox-id");
    struct sim_row *row = id == NULL ? NULL : sim_find((uint64_t)id->v.i64);

    if (row == NULL || msg->body.len != row->body_len || !bytes_is(msg->message_id, row->name))
        sim_fail("a message of no row is sent");
    return row;
}

/* A row is marked when it is looked at: those before it in the pack are, those after it are not. */
static void take_pack(const struct bridge_message *msg, struct sim_slot *slot, uint64_t token,
                      struct sim_message *message)
{
    const struct bridge_delivery delivery = {.msg = *msg};
    struct bridge_delivery **events = NULL;
    struct obx_err err = {0};
    size_t count = 0;

    if (pack_read(&delivery, &events, &count, &err) != OBX_OK || count < 2 || count > SIM_PACK)
        sim_fail("a pack of %zu rows is sent: %s", count, err.text);
    sim->pack++;
    sim->packed += count;
    for (size_t i = 0; i < count; i++) {
        struct sim_row *row = row_of(&events[i]->msg);

        if (row->topic !=
            sim->rows[message->count == 0 ? (size_t)(row - sim->rows) : message->rows[0]].topic)
            sim_fail("a pack has rows of two routes");
        if (row->pack == sim->pack)
            sim_fail("row %llu is twice in a pack", (unsigned long long)row->id);
        row->pack = sim->pack;
        slot->stale_sends -= i > 0 && slot->stale_sends > 0; /* all of it is one message */
        check_send(row, slot, token);
        message->rows[message->count++] = (size_t)(row - sim->rows);
        bridge_delivery_free(events[i]);
    }
    obx_free(events);
    message->is_too_large = sim->pack_limit != 0 && msg->body.len > sim->pack_limit;
}

enum obx_code sim_pub_publish(struct bridge_publisher *pub, const struct bridge_message *msg,
                              uint64_t token, struct obx_err *err) WRAPS(bridge_publisher_publish);
enum obx_code sim_pub_publish(struct bridge_publisher *pub, const struct bridge_message *msg,
                              uint64_t token, struct obx_err *err)
{
    struct sim_slot *slot = sim_slot_of(pub->opts.ctx);
    struct sim_message message = {.token = token};

    if (!pub->is_up || pub->is_blocked)
        return obx_fail(err, OBX_E_MQ_GONE, "down");
    if (pub->flight_count == pub->opts.window)
        sim_fail("more is sent than the window has room for");
    if (!sim->is_calm && sim_chance(sim->chaos.pause * 4))
        sim_freeze(slot);
    if (pack_is(msg)) {
        take_pack(msg, slot, token, &message);
    } else {
        struct sim_row *row = row_of(msg);

        row->pack = 0;
        check_send(row, slot, token);
        message.rows[message.count++] = (size_t)(row - sim->rows);
    }
    sim->sends++;
    sim->work++;
    pub->flight[pub->flight_count++] = message;
    sim->now_us += 2 + sim_below(30);
    return OBX_OK;
}

uint32_t sim_pub_room(const struct bridge_publisher *pub) WRAPS(bridge_publisher_room);
uint32_t sim_pub_room(const struct bridge_publisher *pub)
{
    return pub->is_up && !pub->is_blocked ? pub->opts.window - (uint32_t)pub->flight_count : 0;
}

uint32_t sim_pub_inflight(const struct bridge_publisher *pub) WRAPS(bridge_publisher_inflight);
uint32_t sim_pub_inflight(const struct bridge_publisher *pub)
{
    return (uint32_t)pub->flight_count;
}

int sim_pub_fd(const struct bridge_publisher *pub) WRAPS(bridge_publisher_fd);
int sim_pub_fd(const struct bridge_publisher *pub)
{
    (void)pub;
    return -1;
}

uint64_t sim_pub_due(const struct bridge_publisher *pub) WRAPS(bridge_publisher_next_due_ms);
uint64_t sim_pub_due(const struct bridge_publisher *pub)
{
    if (!pub->is_up)
        return pub->up_at_us / 1000 + 1;
    return pub->is_blocked ? pub->unblock_us / 1000 + 1 : UINT64_MAX;
}

enum bridge_state sim_pub_state(const struct bridge_publisher *pub) WRAPS(bridge_publisher_state);
enum bridge_state sim_pub_state(const struct bridge_publisher *pub)
{
    return pub->is_up ? BRIDGE_UP : BRIDGE_DOWN;
}

const struct obx_err *sim_pub_trouble(const struct bridge_publisher *pub)
    WRAPS(bridge_publisher_trouble);
const struct obx_err *sim_pub_trouble(const struct bridge_publisher *pub)
{
    return &pub->trouble;
}

void sim_pub_stats(const struct bridge_publisher *pub, struct bridge_publisher_stats *out)
    WRAPS(bridge_publisher_get_stats);
void sim_pub_stats(const struct bridge_publisher *pub, struct bridge_publisher_stats *out)
{
    (void)pub;
    memset(out, 0, sizeof(*out));
}
