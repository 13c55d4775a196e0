/*
 * The dead letters' publisher. Invariant: an item added is either in pending or on its way with the
 * publisher, in sent, whose one result for it brings it to on_done or back to pending. A token is
 * the id of the item's row.
 */
#include "dead_letters.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "dead_letter.h"

enum {
    WINDOW = 200,
    NOT_TAKEN_WAIT_MS = 100,
};

static void push(struct dead_letters *dead, struct item *item, uint64_t due_ms)
{
    item->due_ms = due_ms;
    item_list_push(&dead->pending, item);
    if (due_ms < dead->next_due_ms)
        dead->next_due_ms = due_ms;
}

static void done(struct dead_letters *dead, struct item *item, enum item_outcome outcome)
{
    counters_sub(dead->counters, CNT_DEAD_LETTER_PENDING, 1);
    item->outcome = outcome;
    dead->on_done(item, dead->ctx);
}

static void try_later(struct dead_letters *dead, struct item *item, const char *what,
                      const char *why)
{
    uint32_t wait_ms = backoff_nth_ms(dead->settings->retry_min_ms, dead->settings->retry_cap_ms,
                                      ++item->stalls, random_u64());

    counters_add(dead->counters, CNT_DEAD_LETTER_FAILED, 1);
    OBX_LOG(LOG_LVL_WARN, "consumer", "dead_letter.failed", KV_STR("group", dead->settings->group),
            KV_STR("queue", dead->settings->dead_letter_queue),
            KV_BYTES("message_id", item->msg.message_id), KV_STR("outcome", what),
            KV_STR("why", why != NULL ? why : ""), KV_U64("retry_ms", wait_ms));
    push(dead, item, clock_now_ms() + wait_ms);
}

/* Out of sent; the list is no longer than the publisher's window. */
static struct item *take_sent(struct dead_letters *dead, uint64_t parked_id)
{
    struct item_list others = {0};
    struct item *found = NULL;
    struct item *item = NULL;

    while ((item = item_list_pop(&dead->sent)) != NULL) {
        if (found == NULL && item->parked_id == parked_id)
            found = item;
        else
            item_list_push(&others, item);
    }
    dead->sent = others;
    return found;
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct dead_letters *dead = ctx;
    struct item *item = take_sent(dead, token);

    OBX_ASSERT(item != NULL);
    if (outcome == PUB_CONFIRMED) {
        counters_add(dead->counters, CNT_DEAD_LETTERED, 1);
        done(dead, item, ITEM_SETTLED);
    } else if (dead->is_ending) {
        done(dead, item, ITEM_DROPPED);
    } else {
        try_later(dead, item, pub_outcome_name(outcome), why);
    }
}

enum obx_code dead_letters_init(struct dead_letters *dead, const struct settings *settings,
                                struct counters *counters, dead_letter_done_fn *on_done, void *ctx,
                                struct obx_err *err)
{
    struct bridge_publisher_opts opts = {
        .bridge = settings->bridge,
        .window = WINDOW,
        .max_body_bytes = UINT32_MAX, /* what has come in may go out */
        .on_result = on_result,
        .ctx = dead,
    };

    *dead = (struct dead_letters){.settings = settings,
                                  .counters = counters,
                                  .next_due_ms = UINT64_MAX,
                                  .on_done = on_done,
                                  .ctx = ctx};
    return bridge_publisher_create(&opts, &dead->publisher, err);
}

static void drop_pending(struct dead_letters *dead)
{
    struct item *item = NULL;

    while ((item = item_list_pop(&dead->pending)) != NULL)
        done(dead, item, ITEM_DROPPED);
    dead->next_due_ms = UINT64_MAX;
}

void dead_letters_fini(struct dead_letters *dead)
{
    dead->is_ending = true;
    bridge_publisher_destroy(dead->publisher); /* brings all that is on its way back */
    dead->publisher = NULL;
    drop_pending(dead);
}

void dead_letters_add(struct dead_letters *dead, struct item *item)
{
    counters_add(dead->counters, CNT_DEAD_LETTER_PENDING, 1);
    if (dead->is_ending)
        done(dead, item, ITEM_DROPPED);
    else
        push(dead, item, clock_now_ms());
}

void dead_letters_drain(struct dead_letters *dead)
{
    dead->is_ending = true;
    drop_pending(dead);
}

static enum obx_code send(struct dead_letters *dead, struct item *item, bool bare,
                          struct obx_err *err)
{
    struct dead_letter letter;
    enum obx_code rc = dead_letter_init(&letter, item, dead->settings, bare);

    if (rc == OBX_OK)
        rc = bridge_publisher_publish(dead->publisher, &letter.msg, item->parked_id, err);
    dead_letter_fini(&letter);
    return rc;
}

/* Publish one; false when the publisher takes no more for now. The item is in no list. */
static bool publish(struct dead_letters *dead, struct item *item)
{
    struct obx_err err = {0};
    enum obx_code rc = send(dead, item, false, &err);

    /* Headers that fill a frame leave no room for ours: the body and the reason are worth more than
     * they are. */
    if (obx_code_action(rc) == OBX_DO_PARK)
        rc = send(dead, item, true, &err);
    switch (obx_code_action(rc)) {
    case OBX_DO_NOTHING:
        item_list_push(&dead->sent, item);
        return true;
    case OBX_DO_PARK:
        try_later(dead, item, obx_code_name(rc), err.text);
        return true;
    case OBX_DO_RETRY:
    case OBX_DO_RECONNECT:
    case OBX_DO_STOP:
        break;
    }
    return false;
}

static void publish_due(struct dead_letters *dead)
{
    struct item_list look = dead->pending;
    struct item *item = NULL;
    uint64_t now = clock_now_ms();

    dead->pending = (struct item_list){0};
    dead->next_due_ms = UINT64_MAX;
    while ((item = item_list_pop(&look)) != NULL) {
        if (item->due_ms > now || bridge_publisher_room(dead->publisher) == 0)
            push(dead, item, item->due_ms);
        else if (!publish(dead, item))
            push(dead, item, now + NOT_TAKEN_WAIT_MS);
    }
}

static bool is_in_use(const struct dead_letters *dead)
{
    return dead->pending.head != NULL || bridge_publisher_state(dead->publisher) != BRIDGE_DOWN ||
           bridge_publisher_inflight(dead->publisher) > 0;
}

void dead_letters_service(struct dead_letters *dead)
{
    if (!is_in_use(dead))
        return;
    bridge_publisher_service(dead->publisher);
    if (dead->next_due_ms <= clock_now_ms() && bridge_publisher_room(dead->publisher) > 0)
        publish_due(dead);
}

int dead_letters_fd(const struct dead_letters *dead)
{
    return bridge_publisher_fd(dead->publisher);
}

uint64_t dead_letters_next_due_ms(const struct dead_letters *dead)
{
    uint64_t due = UINT64_MAX;

    if (!is_in_use(dead))
        return UINT64_MAX;
    due = bridge_publisher_next_due_ms(dead->publisher);
    /* Without room it is the publisher's own event that says when to go on. */
    if (bridge_publisher_room(dead->publisher) > 0 && dead->next_due_ms < due)
        due = dead->next_due_ms;
    return due;
}
