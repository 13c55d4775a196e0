/*
 * What a consumer publishes, receipts and dead letters, over one connection with confirms. A post is
 * due at some time, is sent, and gets one result; what either means is its kind's to say. Owned by
 * the I/O thread. The connection is made when there is something to send.
 *
 * Invariant: a post is in one of the queues or in sent, or it is its kind's again.
 */
#ifndef CONSUMER_OUTGOING_H
#define CONSUMER_OUTGOING_H

#include "bridge/publisher.h"
#include "core/settings.h"

struct outgoing;
struct post;

struct post_kind {
    /* Hand it to the publisher, under post->number. Any failure: it was not sent. */
    enum obx_code (*send)(struct post *post, struct bridge_publisher *publisher,
                          struct obx_err *err);
    /* It is the kind's again: sent, with this outcome; or not sent, for failed (then outcome is
     * PUB_UNKNOWN). why may be NULL. */
    void (*on_result)(struct post *post, enum pub_outcome outcome, enum obx_code failed,
                      const char *why);
    /* An acknowledgement waits for it: it goes first, and hears of it when the publisher takes
     * nothing. What is not urgent waits then. */
    bool is_urgent;
};

/* The head of what a kind publishes. */
struct post {
    const struct post_kind *kind;
    void *ctx; /* the kind's */
    struct post *next;
    uint64_t number; /* the publisher's token */
    uint64_t due_ms;
    uint32_t tries;
};

/* Posts in the order in which they were added. */
struct post_queue {
    struct post *head;
    struct post *tail;
    uint64_t next_due_ms; /* UINT64_MAX: nothing is */
};

struct outgoing {
    struct bridge_publisher *publisher;
    struct post_queue urgent;
    struct post_queue others;
    struct post *sent;
    uint64_t last_number;
};

/** On failure there is nothing to free. OBX_E_NOMEM, OBX_E_INVALID, OBX_E_CONFIG. */
OBX_NODISCARD enum obx_code outgoing_init(struct outgoing *outgoing,
                                          const struct settings *settings, struct obx_err *err);
/** Everything gets its result, PUB_UNKNOWN: the kinds must not add any of it again. */
void outgoing_fini(struct outgoing *outgoing);
/** Take a post, to be sent at due_ms (monotonic). */
void outgoing_add(struct outgoing *outgoing, struct post *post, uint64_t due_ms);
/** Give what is not urgent and not in flight back, with the same result. */
void outgoing_drop_others(struct outgoing *outgoing);
/** Read confirms, send what is due. Runs on_result. */
void outgoing_service(struct outgoing *outgoing);
/** For poll(2); -1 when not connected. */
int outgoing_fd(const struct outgoing *outgoing);
uint64_t outgoing_next_due_ms(const struct outgoing *outgoing);

#endif
