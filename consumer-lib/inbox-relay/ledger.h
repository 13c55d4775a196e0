/*
 * The statements over the tables of notifications: due rows, results, pauses, cleaning.
 * Belongs to the keeper's thread. What changes rows runs in one transaction that begins
 * with lease_begin.
 */
#ifndef NOTIFY_LEDGER_H
#define NOTIFY_LEDGER_H

#include "job.h"
#include "sql/db.h"
#include "tables/id_list.h"
#include "tables/lease.h"

struct ledger {
    struct db *db;
    struct lease lease;
    const char *group;
    struct id_list ids; /* scratch */
};

void ledger_fini(struct ledger *ledger);

/** The due rows of an endpoint that are not in its held set, max of them, in the order of due_at.
 */
struct due_request {
    struct notify_config *config;
    const struct endpoint_config *endpoint;
    struct outlet *outlet;
    size_t max;
    uint64_t bytes_max; /* of bodies together; the first is read whatever its size */
};
/**
 * Append jobs for them, put their ids into the held set, and count their bodies into *bytes. On
 * failure the jobs that were made stay in the list.
 */
OBX_NODISCARD enum obx_code ledger_read_due(struct ledger *ledger,
                                            const struct due_request *request,
                                            struct job_list *jobs, uint64_t *bytes,
                                            struct obx_err *err);

/**
 * Write the results of jobs of this epoch, all in one transaction. Rows that are not as they were
 * read (sent again by an operator meanwhile, or written by a commit whose answer was lost) are left
 * alone, so that it may be done again.
 * @return OBX_OK; OBX_E_LEASE_LOST; any OBX_E_DB_*: nothing is written, or with
 * OBX_E_DB_COMMIT_UNKNOWN perhaps all
 */
OBX_NODISCARD enum obx_code ledger_record(struct ledger *ledger, const struct job_list *jobs,
                                          struct obx_err *err);

/** Called for each endpoint that has a row about a pause. */
typedef void ledger_pause_fn(const char *endpoint, bool is_paused, const char *reason, void *ctx);
OBX_NODISCARD enum obx_code ledger_read_pauses(struct ledger *ledger, ledger_pause_fn *each,
                                               void *ctx, struct obx_err *err);

/** Numbers of an endpoint's rows; counts stop at a limit. */
struct ledger_counts {
    uint64_t waiting, given_up, oldest_due_us;
};
OBX_NODISCARD enum obx_code ledger_count(struct ledger *ledger, const char *endpoint,
                                         struct ledger_counts *out, struct obx_err *err);
/** Remove finished rows whose time is over, a batch; *removed of them. */
OBX_NODISCARD enum obx_code ledger_clean(struct ledger *ledger, const char *endpoint,
                                         uint64_t *removed, struct obx_err *err);
/** Give up rows that have been due for overdue_ms, those held left out; a batch; *expired of them.
 */
OBX_NODISCARD enum obx_code ledger_expire(struct ledger *ledger, const struct due_request *request,
                                          uint64_t overdue_ms, uint64_t *expired,
                                          struct obx_err *err);

enum { LEDGER_COUNT_CAP = 10000 };

/** When the next call of a job is due after a failed one, from now on; false: the schedule is
 * over. */
bool ledger_next_delay(const struct job *job, uint32_t *delay_ms);

#endif
