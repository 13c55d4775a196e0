/*
 * The kill switch of one worker: whether most of its attempts of late have failed for causes that
 * are not the messages', and for how long it takes nothing then. No clock and no I/O in here; the
 * reasons for every number are in docs/adr/0031-consumer-circuit.md.
 *
 * It takes several different messages that fail and have not been applied since: so a few poison
 * messages never open it, however often they are tried. Proved by tests/unit/circuit_test.c and tests/unit/consumer_worker_test.c.
 */
#ifndef CONSUMER_CIRCUIT_H
#define CONSUMER_CIRCUIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/backoff.h"

enum circuit_state {
    CIRCUIT_CLOSED, /* attempts count.                                          next: OPEN */
    CIRCUIT_OPEN,   /* nothing is taken until due_ms.                           next: PROBING */
    CIRCUIT_PROBING /* a few are tried, and what fails is not charged.          next: CLOSED, OPEN */
};

/* What circuit_judge has done. */
enum circuit_event { CIRCUIT_NOTHING, CIRCUIT_BEGUN, CIRCUIT_LASTS, CIRCUIT_ENDED };

enum {
    CIRCUIT_KNOWN = 64, /* messages that are remembered as failing */
    CIRCUIT_PROBE = 8   /* messages that a probe tries at most */
};

struct circuit {
    enum circuit_state state;
    uint32_t messages; /* so many different ones have to fail */
    uint32_t good;     /* since the last judgements, halved by time and by number */
    uint32_t bad;
    bool is_good; /* in the present batch something was */
    bool is_bad;
    bool is_by_handlers; /* why it opened: their answers; else batches were undone */
    uint64_t halved_ms;
    uint64_t begun_ms; /* OPEN, PROBING: since when */
    uint64_t ended_ms; /* CLOSED: since when */
    uint64_t due_ms;
    struct backoff pause;
    uint32_t pause_ms;
    uint32_t probes; /* of the present outage */
    uint32_t undone; /* batches for no message in particular, since the last commit */
    /* The messages that failed last and have neither been applied nor died since. */
    struct {
        uint64_t hash; /* 0: free */
        uint64_t at_ms;
    } failing[CIRCUIT_KNOWN];
    size_t failing_next;
};

void circuit_init(struct circuit *circuit, uint32_t messages, uint32_t pause_max_ms);
/** An attempt at the message with this hash has succeeded, or was rejected. */
void circuit_good(struct circuit *circuit, uint64_t hash);
/** The handler asks for a retry. */
void circuit_retry(struct circuit *circuit, uint64_t hash, bool is_dead, uint64_t now_ms);
/** A batch was undone; hash 0: for no message in particular. */
void circuit_undone(struct circuit *circuit, uint64_t hash, uint64_t now_ms);
/** A batch has ended, with what was noted since the last call. */
enum circuit_event circuit_judge(struct circuit *circuit, bool is_committed, uint64_t now_ms);
/** Whether anything may be taken; an OPEN one is PROBING from due_ms on. */
bool circuit_admits(struct circuit *circuit, uint64_t now_ms);
/** There is nothing left that could be tried: PROBING ends. False: it was not. */
bool circuit_has_nothing_left(struct circuit *circuit, uint64_t now_ms);

#endif
