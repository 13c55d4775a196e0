/* One error under a lock: the last trouble of one side. See the header. */
#include "trouble.h"

enum obx_code trouble_init(struct trouble *trouble, struct obx_err *err)
{
    int failed = pthread_mutex_init(&trouble->lock, NULL);

    obx_err_clear(&trouble->err);
    return failed == 0 ? OBX_OK : obx_fail_sys(err, OBX_E_SYSTEM, failed, "mutex");
}

void trouble_fini(struct trouble *trouble)
{
    pthread_mutex_destroy(&trouble->lock);
}

void trouble_set(struct trouble *trouble, const struct obx_err *err)
{
    pthread_mutex_lock(&trouble->lock);
    if (err == NULL)
        obx_err_clear(&trouble->err);
    else
        trouble->err = *err;
    pthread_mutex_unlock(&trouble->lock);
}

void trouble_get(struct trouble *trouble, struct obx_err *out)
{
    pthread_mutex_lock(&trouble->lock);
    *out = trouble->err;
    pthread_mutex_unlock(&trouble->lock);
}
