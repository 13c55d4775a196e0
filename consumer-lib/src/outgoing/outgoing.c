/* See outgoing.h. The lists are short: what waits for its turn, and no more than a window on its way. */
#include "outgoing.h"

#include "base/clock.h"
#include "base/crash.h"

enum { WINDOW = 200 };

/* Out of a list, by its number; NULL when it is not there. */
static struct post *take(struct post **list, uint64_t number)
{
    struct post *post = NULL;

    while (*list != NULL && (*list)->number != number)
        list = &(*list)->next;
    post = *list;
    if (post != NULL)
        *list = post->next;
    return post;
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct outgoing *outgoing = ctx;
    struct post *post = take(&outgoing->sent, token);

    OBX_ASSERT(post != NULL);
    post->kind->on_result(post, outcome, OBX_OK, why);
}

enum obx_code outgoing_init(struct outgoing *outgoing, const struct settings *settings,
                            struct obx_err *err)
{
    const struct bridge_publisher_opts opts = {
        .bridge = settings->bridge,
        .window = WINDOW,
        .max_body_bytes = UINT32_MAX, /* a dead letter: what has come in may go out */
        .on_result = on_result,
        .ctx = outgoing,
    };

    *outgoing = (struct outgoing){.urgent = {.next_due_ms = UINT64_MAX},
                                  .others = {.next_due_ms = UINT64_MAX}};
    return bridge_publisher_create(&opts, &outgoing->publisher, err);
}

static void push(struct post_queue *queue, struct post *post)
{
    post->next = NULL;
    if (queue->tail == NULL)
        queue->head = post;
    else
        queue->tail->next = post;
    queue->tail = post;
    if (post->due_ms < queue->next_due_ms)
        queue->next_due_ms = post->due_ms;
}

/* All of it, as a list: what a kind adds again from within its result goes into the emptied queue. */
static struct post *take_all(struct post_queue *queue)
{
    struct post *all = queue->head;

    *queue = (struct post_queue){.next_due_ms = UINT64_MAX};
    return all;
}

void outgoing_add(struct outgoing *outgoing, struct post *post, uint64_t due_ms)
{
    post->due_ms = due_ms;
    post->number = ++outgoing->last_number;
    push(post->kind->is_urgent ? &outgoing->urgent : &outgoing->others, post);
}

static void drop_all(struct post_queue *queue)
{
    struct post *all = take_all(queue);

    while (all != NULL) {
        struct post *post = all;

        all = post->next;
        post->kind->on_result(post, PUB_UNKNOWN, OBX_E_MQ_GONE, NULL);
    }
}

void outgoing_drop_others(struct outgoing *outgoing)
{
    drop_all(&outgoing->others);
}

void outgoing_fini(struct outgoing *outgoing)
{
    bridge_publisher_destroy(outgoing->publisher); /* gives what is in flight its results */
    outgoing->publisher = NULL;
    drop_all(&outgoing->urgent);
    drop_all(&outgoing->others);
}

static void send_one(struct outgoing *outgoing, struct post *post)
{
    struct obx_err err = {0};
    const enum obx_code rc = post->kind->send(post, outgoing->publisher, &err);

    if (rc == OBX_OK) {
        post->next = outgoing->sent;
        outgoing->sent = post;
    } else {
        post->kind->on_result(post, PUB_UNKNOWN, rc, err.text);
    }
}

static void send_due(struct outgoing *outgoing, struct post_queue *queue)
{
    const uint64_t now_ms = clock_now_ms();
    struct post *all = NULL;

    if (queue->next_due_ms > now_ms)
        return;
    all = take_all(queue);
    while (all != NULL) {
        struct post *post = all;

        all = post->next;
        if (post->due_ms > now_ms ||
            (!post->kind->is_urgent && bridge_publisher_room(outgoing->publisher) == 0))
            push(queue, post);
        else
            send_one(outgoing, post);
    }
}

static bool is_in_use(const struct outgoing *outgoing)
{
    return outgoing->urgent.head != NULL || outgoing->others.head != NULL ||
           bridge_publisher_state(outgoing->publisher) != BRIDGE_DOWN ||
           bridge_publisher_inflight(outgoing->publisher) > 0;
}

void outgoing_service(struct outgoing *outgoing)
{
    if (!is_in_use(outgoing))
        return;
    bridge_publisher_service(outgoing->publisher);
    send_due(outgoing, &outgoing->urgent);
    if (bridge_publisher_room(outgoing->publisher) > 0)
        send_due(outgoing, &outgoing->others);
}

int outgoing_fd(const struct outgoing *outgoing)
{
    return bridge_publisher_fd(outgoing->publisher);
}

uint64_t outgoing_next_due_ms(const struct outgoing *outgoing)
{
    uint64_t due = UINT64_MAX;

    if (!is_in_use(outgoing))
        return UINT64_MAX;
    due = bridge_publisher_next_due_ms(outgoing->publisher);
    if (outgoing->urgent.next_due_ms < due)
        due = outgoing->urgent.next_due_ms;
    /* Without room it is the publisher's own event that says when to go on. */
    if (bridge_publisher_room(outgoing->publisher) > 0 && outgoing->others.next_due_ms < due)
        due = outgoing->others.next_due_ms;
    return due;
}
