/* Doing a batch in parts. See isolate.h. */
#include "isolate.h"

#include <stdbool.h>

#include "base/clock.h"

enum { PARTS = 20 };

/* At most three levels deep with batches of 400. NOLINTNEXTLINE(misc-no-recursion) */
enum obx_code isolate_run(struct isolate *isolate, size_t from, size_t count, struct obx_err *err)
{
    const size_t part = (count + PARTS - 1) / PARTS;
    enum obx_code rc = count == 0 ? OBX_OK : isolate->run(isolate->ctx, from, count, err);

    if (rc == OBX_OK)
        isolate->done += count;
    if (rc == OBX_OK || rc == OBX_E_NOMEM || rc == OBX_E_TIMEOUT || rc == OBX_E_DB_FULL ||
        obx_code_action(rc) == OBX_DO_RECONNECT)
        return rc; /* done, or not about the items */
    if (count == 1 || clock_now_ms() >= isolate->until_ms) {
        if (isolate->stuck == 0) {
            isolate->why = *err;
            isolate->first_stuck = from;
        }
        isolate->stuck += count;
        return OBX_OK;
    }
    rc = OBX_OK;
    for (size_t at = 0; at < count && rc == OBX_OK; at += part)
        rc = isolate_run(isolate, from + at, count - at < part ? count - at : part, err);
    return rc;
}
