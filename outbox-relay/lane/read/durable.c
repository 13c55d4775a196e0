/*
 * Rows are published when they are durable. See durable.h.
 */
#include "durable.h"

#include "base/clock.h"
#include "lane/failures.h"

enum { RETRY_SOON_MS = 100 };

void durable_init(struct durable *durable, struct lease *lease)
{
    *durable = (struct durable){.lease = lease};
}

/* With a binary log a transaction is in there before others see it. */
enum obx_code durable_ask(struct durable *durable, struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, "SELECT @@log_bin", DB_NO_ARGS, &rows, err);

    if (rc == OBX_OK)
        durable->shows_early = !db_rows_next(rows) || db_rows_u64(rows, 0) == 0;
    db_rows_free(rows);
    return rc;
}

void durable_note_read(struct durable *durable)
{
    durable->is_unsure = true;
}

enum obx_code durable_renew(struct durable *durable, struct db *db, struct obx_err *err)
{
    enum obx_code rc = lease_renew(durable->lease, db, err);

    if (rc == OBX_OK)
        durable->is_unsure = false;
    return rc;
}

enum obx_code durable_ensure(struct durable *durable, struct db *db, bool *is_sure,
                             struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *is_sure = true;
    if (!durable->is_unsure || !durable->shows_early)
        return OBX_OK;
    rc = durable_renew(durable, db, err);
    if (!failure_is_transient(rc))
        return rc;
    *is_sure = false;
    durable->due_ms = clock_now_ms() + RETRY_SOON_MS;
    durable->lease->renew_due_ms = durable->due_ms;
    return OBX_OK;
}

uint64_t durable_due_ms(const struct durable *durable)
{
    return durable->is_unsure ? durable->due_ms : 0;
}
