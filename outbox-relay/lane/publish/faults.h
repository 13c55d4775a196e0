/*
 * Whose fault a refusal was, and how to keep one culprit from holding up the others. Pure logic,
 * times are given.
 *
 * An exchange that is missing or forbidden, or a topic that the user may not write (RabbitMQ's
 * topic permissions), makes the broker close the channel, which costs every message in flight
 * another publish. So while one is known to be at fault, one message of it is sent as a probe after
 * each backoff, and the others are refused here. What is said of exchanges below holds for topics
 * too, which are given by a name of their own (publish.c). When the broker closes
 * the channel and names nothing we know, messages are sent one at a time, then in growing bursts,
 * until the culprit was alone in flight. Used by publish.c. Proved by
 * tests/unit/faults_test.c.
 */
#ifndef RELAY_FAULTS_H
#define RELAY_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/publisher.h"

enum { FAULTS_MAX = 16 };

struct exchange_fault {
    uint64_t exchange_hash; /* 0: place is free */
    uint64_t probe_due_ms;
    uint64_t probe_token; /* the message in progress; UINT64_MAX none */
    uint32_t fails;
    char why[OBX_ERR_TEXT_MAX];
};

struct faults {
    struct exchange_fault exchanges[FAULTS_MAX];
    uint32_t retry_min_ms, retry_cap_ms;
    uint32_t window;
    uint32_t limit;           /* messages in flight allowed for now; window when all is well */
    uint64_t isolated_at;     /* how many had been published when the limit was set to 1 */
    uint64_t broker_max_body; /* learnt from a refusal; UINT64_MAX: not known */
};

void faults_init(struct faults *faults, uint32_t window, uint32_t retry_min_ms,
                 uint32_t retry_cap_ms);
/** The broker connection is new: what was learnt about it counts no more, what was learnt about
 * exchanges does. */
void faults_reset(struct faults *faults);

/** The connection is new, nothing else is: a broker that was set up again may take larger
 * messages. */
void faults_connected(struct faults *faults);

enum fault_verdict {
    FAULT_NONE,  /* send it */
    FAULT_PROBE, /* send it, and call faults_probe_sent */
    FAULT_REFUSE /* do not: the exchange is at fault; *why says so */
};
enum fault_verdict faults_ask(const struct faults *faults, struct obx_bytes exchange,
                              uint64_t now_ms, const char **why);
void faults_probe_sent(struct faults *faults, struct obx_bytes exchange, uint64_t token);

/** Whether a return came from a closed channel (exchange missing or forbidden) rather than from a
 * missing binding. */
bool faults_is_of_exchange(enum pub_outcome outcome, const char *why);
/** A message of the exchange made the broker close the channel. */
void faults_exchange_failed(struct faults *faults, struct obx_bytes exchange, uint64_t now_ms,
                            const char *why);
/** A message of the exchange got an ordinary answer. Also lets more messages into flight. */
void faults_answered(struct faults *faults, struct obx_bytes exchange);
/** The exchange or topic is at fault no longer, if it was. */
void faults_cleared(struct faults *faults, struct obx_bytes exchange);
/** A message came back, whatever its fate: if it was a probe, another one may be sent. To be called
 * before what the answer says. */
void faults_probe_ended(struct faults *faults, uint64_t token);

/** Whether trouble means that the broker objected to something that was sent, rather than went
 * away. */
bool faults_is_objection(const struct obx_err *trouble);
/**
 * The broker objected and named nobody; one of the messages in flight (inflight of them, this one
 * included) came back unknown. published: how many were published so far. True: it was alone, so it
 * is the culprit. From now on one at a time.
 */
bool faults_isolate(struct faults *faults, uint64_t published, size_t inflight);
/** A nack because of the message's size: remember the broker's limit if the text has it. True if it
 * was about size. */
bool faults_learn_size(struct faults *faults, const char *why);

#endif
