/*
 * The statements of check-back on the half tables. One connection, one thread.
 *
 * Every write is a transaction that begins by renewing the lease (lease_begin), so that a relay
 * which has lost it writes nothing: OBX_E_LEASE_LOST. No statement waits for a half-message that
 * somebody else holds (SKIP LOCKED): it is left for the next time. Proved by
 * tests/system/checkback_test.c.
 */
#ifndef RELAY_HALF_CHECK_SQL_H
#define RELAY_HALF_CHECK_SQL_H

#include "check_answer.h"
#include "half/half.h"
#include "tables/lease.h"

/** A due half-message. */
struct due {
    char gid[HALF_GID_MAX + 1];
    uint64_t age_s; /* since it was prepared */
};

/** Whose due half-messages to take, how many at most, and how long until the next ask about one:
 * min_ms, doubled with each, up to cap_ms. */
struct check_take {
    const char *producer;
    uint32_t max, min_ms, cap_ms;
};

/**
 * Take due half-messages of a producer into out (of take->max places): their next check is moved
 * forward and checks_asked grows, in one transaction, before anybody is asked, so that a crash only
 * delays.
 */
OBX_NODISCARD enum obx_code check_take_due(struct db *db, struct lease *lease,
                                           const struct check_take *take, struct due *out,
                                           uint32_t *count, struct obx_err *err);

/** What came of an ask, to be written down. */
struct outcome {
    char gid[HALF_GID_MAX + 1];
    enum check_answer answer;
    char why[HALF_NOTE_MAX + 1];
};
/** Received answers that decide nothing, before a half-message is parked. */
struct check_limits {
    uint32_t unknown, in_progress;
};
/**
 * Write outcomes that decided nothing: history, and for received ones the count; those at their
 * limit are parked. Rows that were decided meanwhile are left alone. *parked grows by the number
 * parked.
 */
OBX_NODISCARD enum obx_code check_write_outcomes(struct db *db, struct lease *lease,
                                                 const struct outcome *outcomes, uint32_t count,
                                                 struct check_limits limits, uint64_t *parked,
                                                 struct obx_err *err);
/** Park up to max due half-messages of a producer that cannot be asked. *parked grows. */
OBX_NODISCARD enum obx_code check_park_due(struct db *db, struct lease *lease, const char *producer,
                                           const char *note, uint32_t max, uint64_t *parked,
                                           struct obx_err *err);
/** Park these, as far as they are prepared. *parked grows. */
OBX_NODISCARD enum obx_code check_park(struct db *db, struct lease *lease, const struct due *items,
                                       uint32_t count, const char *note, uint64_t *parked,
                                       struct obx_err *err);
/**
 * The producer that comes after the name `after` among those with prepared half-messages, and
 * whether one of them is due. name is "" after the last. One dive into the index, however many
 * rows a producer has.
 */
OBX_NODISCARD enum obx_code check_next_producer(struct db *db, const char *after,
                                                char name[HALF_PRODUCER_MAX + 1], bool *is_due,
                                                struct obx_err *err);

struct check_counts {
    uint64_t prepared, parked;   /* up to the cap */
    uint64_t oldest_prepared_us; /* age of the oldest of those counted; 0 none */
};
OBX_NODISCARD enum obx_code check_count(struct db *db, uint32_t cap, struct check_counts *out,
                                        struct obx_err *err);

/**
 * How many verdicts operators have given since *seen, by the history, which has them from whatever
 * program they used; *seen moves on, some 10,000 lines at most in one call. With *seen UINT64_MAX only that: counting begins now.
 */
OBX_NODISCARD enum obx_code check_count_operators(struct db *db, uint64_t *seen, uint64_t *count,
                                                  struct obx_err *err);

/** Delete decided ones older than the retention among the next `page` gids after *after (which
 * moves on, "" at the end). */
OBX_NODISCARD enum obx_code check_clean(struct db *db, struct lease *lease, char *after,
                                        uint32_t page, uint32_t retention_s, uint64_t *cleaned,
                                        struct obx_err *err);
/** The same for history whose half-message is gone, among the next `page` ids after *after (0 at
 * the end); *removed grows. */
OBX_NODISCARD enum obx_code check_clean_history(struct db *db, struct lease *lease, uint64_t *after,
                                                uint32_t page, uint32_t retention_s,
                                                uint64_t *removed, struct obx_err *err);

#endif
