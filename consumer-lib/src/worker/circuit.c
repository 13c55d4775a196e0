/* See circuit.h. Called by the worker after each batch and before each turn. */
#include "circuit.h"

#include "base/crash.h"

enum {
    PAUSE_MIN_MS = 1000,
    HALVE_MS = 5000,
    HALVE_COUNT = 100,      /* a busy queue must not need seconds to see what has changed */
    KNOWN_MS = 3600 * 1000, /* longer than the longest wait between two attempts by default */
    CALM_MS = 30000         /* an outage that begins later than this is another one */
};

void circuit_init(struct circuit *circuit, uint32_t messages, uint32_t pause_max_ms)
{
    *circuit = (struct circuit){.messages = messages};
    backoff_init(&circuit->pause, pause_max_ms < PAUSE_MIN_MS ? pause_max_ms : PAUSE_MIN_MS,
                 pause_max_ms);
}

/* Where a message is remembered; CIRCUIT_KNOWN: nowhere. */
static size_t find(const struct circuit *circuit, uint64_t hash)
{
    size_t at = 0;

    while (at < CIRCUIT_KNOWN && circuit->failing[at].hash != hash)
        at++;
    return at;
}

static void forget_message(struct circuit *circuit, uint64_t hash)
{
    const size_t at = find(circuit, hash);

    if (at < CIRCUIT_KNOWN)
        circuit->failing[at].hash = 0;
}

void circuit_good(struct circuit *circuit, uint64_t hash)
{
    forget_message(circuit, hash);
    circuit->good++;
    circuit->is_good = true;
}

static void bad(struct circuit *circuit, uint64_t hash, uint64_t now_ms)
{
    size_t at = find(circuit, hash);

    circuit->bad++;
    circuit->is_bad = true;
    if (at == CIRCUIT_KNOWN)
        at = circuit->failing_next++ % CIRCUIT_KNOWN;
    circuit->failing[at].hash = hash;
    circuit->failing[at].at_ms = now_ms;
}

void circuit_retry(struct circuit *circuit, uint64_t hash, bool is_dead, uint64_t now_ms)
{
    bad(circuit, hash, now_ms);
    circuit->is_by_handlers = true;
    if (is_dead) /* it fails no more */
        forget_message(circuit, hash);
}

void circuit_undone(struct circuit *circuit, uint64_t hash, uint64_t now_ms)
{
    /* One batch that is undone in an outage of the handlers does not make it one of the database, which
     * a commit would end. */
    if (circuit->state == CIRCUIT_CLOSED)
        circuit->is_by_handlers = false;
    if (hash != 0) {
        bad(circuit, hash, now_ms);
    } else {
        circuit->bad++;
        circuit->is_bad = true;
        circuit->undone++;
    }
}

/* What another process has applied meanwhile is not known here: so they are forgotten in time. */
static bool do_many_fail(const struct circuit *circuit, uint64_t now_ms)
{
    uint32_t count = circuit->undone;

    for (size_t i = 0; i < CIRCUIT_KNOWN; i++)
        count += circuit->failing[i].hash != 0 && now_ms - circuit->failing[i].at_ms < KNOWN_MS;
    return count >= circuit->messages;
}

/* Old successes prove nothing. Failures are forgotten with them only: where nothing succeeds, a few
 * in an hour are an outage too. */
static void forget(struct circuit *circuit, uint64_t now_ms)
{
    if (circuit->good + circuit->bad > HALVE_COUNT) {
        circuit->good /= 2;
        circuit->bad /= 2;
    }
    if (circuit->good == 0 || circuit->halved_ms == 0)
        circuit->halved_ms = now_ms;
    while (circuit->good > 0 && now_ms - circuit->halved_ms >= HALVE_MS) {
        circuit->good /= 2;
        circuit->bad /= 2;
        circuit->halved_ms += HALVE_MS;
    }
}

static void pause_again(struct circuit *circuit, uint64_t now_ms)
{
    circuit->pause_ms = backoff_next_ms(&circuit->pause);
    circuit->due_ms = now_ms + circuit->pause_ms;
    circuit->state = CIRCUIT_OPEN;
}

static void end_outage(struct circuit *circuit, uint64_t now_ms)
{
    circuit->state = CIRCUIT_CLOSED;
    circuit->ended_ms = now_ms;
    circuit->good = circuit->bad = 0;
}

/* A commit shows that the database works again, not that the handlers' services do. */
static enum circuit_event judge_probe(struct circuit *circuit, bool is_good, bool is_bad,
                                      bool is_committed, uint64_t now_ms)
{
    if (is_good || (is_committed && !is_bad && !circuit->is_by_handlers)) {
        end_outage(circuit, now_ms);
        return CIRCUIT_ENDED;
    }
    /* Copies, and what waits behind its key, say nothing: the next ones are tried at once. */
    if (!is_bad)
        return CIRCUIT_NOTHING;
    pause_again(circuit, now_ms);
    return CIRCUIT_LASTS;
}

enum circuit_event circuit_judge(struct circuit *circuit, bool is_committed, uint64_t now_ms)
{
    const bool is_good = circuit->is_good;
    const bool is_bad = circuit->is_bad;

    circuit->is_good = circuit->is_bad = false;
    if (is_committed)
        circuit->undone = 0;
    OBX_ASSERT(circuit->state != CIRCUIT_OPEN);
    if (circuit->state == CIRCUIT_PROBING)
        return judge_probe(circuit, is_good, is_bad, is_committed, now_ms);
    /* Looked at before anything is forgotten: what one batch has brought counts whole. */
    if (is_bad && circuit->bad >= circuit->messages && circuit->bad > circuit->good &&
        do_many_fail(circuit, now_ms)) {
        if (circuit->ended_ms != 0 && now_ms - circuit->ended_ms > CALM_MS)
            backoff_reset(&circuit->pause);
        circuit->begun_ms = now_ms;
        circuit->probes = 0;
        pause_again(circuit, now_ms);
        return CIRCUIT_BEGUN;
    }
    forget(circuit, now_ms);
    return CIRCUIT_NOTHING;
}

bool circuit_admits(struct circuit *circuit, uint64_t now_ms)
{
    if (circuit->state == CIRCUIT_OPEN && now_ms >= circuit->due_ms) {
        circuit->state = CIRCUIT_PROBING;
        circuit->probes++;
    }
    return circuit->state != CIRCUIT_OPEN;
}

bool circuit_has_nothing_left(struct circuit *circuit, uint64_t now_ms)
{
    if (circuit->state != CIRCUIT_PROBING)
        return false;
    end_outage(circuit, now_ms);
    return true;
}
