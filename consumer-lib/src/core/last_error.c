/* One error under a lock: why one side does not work. See the header. */
#include "last_error.h"

enum obx_code last_error_init(struct last_error *last, struct obx_err *err)
{
    int failed = pthread_mutex_init(&last->lock, NULL);

    obx_err_clear(&last->err);
    return failed == 0 ? OBX_OK : obx_fail_sys(err, OBX_E_SYSTEM, failed, "mutex");
}

void last_error_fini(struct last_error *last)
{
    pthread_mutex_destroy(&last->lock);
}

void last_error_set(struct last_error *last, const struct obx_err *err)
{
    pthread_mutex_lock(&last->lock);
    if (err == NULL)
        obx_err_clear(&last->err);
    else
        last->err = *err;
    pthread_mutex_unlock(&last->lock);
}

void last_error_get(struct last_error *last, struct obx_err *out)
{
    pthread_mutex_lock(&last->lock);
    *out = last->err;
    pthread_mutex_unlock(&last->lock);
}
