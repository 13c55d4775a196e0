/* Doing a batch in parts. See isolate.h. */
#include "isolate.h"

#include <stdbool.h>

#include "base/clock.h"

enum { PARTS = 20 };

static bool is_about_items(enum obx_code rc)
{
    return obx_code_action(rc) != OBX_DO_RECONNECT && rc != OBX_E_NOMEM && rc != OBX_E_TIMEOUT &&
           rc != OBX_E_DB_FULL;
}

static void give_up(struct isolate *isolate, size_t from, size_t count, const struct obx_err *err)
{
    if (isolate->stuck == 0) {
        isolate->why = *err;
        isolate->first_stuck = from;
    }
    isolate->stuck += count;
}

/* At most three levels deep with batches of 400. NOLINTNEXTLINE(misc-no-recursion) */
enum obx_code isolate_run(struct isolate *isolate, size_t from, size_t count, struct obx_err *err)
{
    const size_t part = (count + PARTS - 1) / PARTS;
    enum obx_code rc = count == 0 ? OBX_OK : isolate->run(isolate->ctx, from, count, err);

    if (rc == OBX_OK)
        isolate->done += count;
    if (rc == OBX_OK || !is_about_items(rc))
        return rc;
    if (count == 1 || clock_now_ms() >= isolate->until_ms) {
        give_up(isolate, from, count, err);
        return OBX_OK;
    }
    rc = OBX_OK;
    for (size_t at = 0; at < count && rc == OBX_OK; at += part)
        rc = isolate_run(isolate, from + at, count - at < part ? count - at : part, err);
    return rc;
}
