/* The choice of a worker for each delivery. */
#include "dispatch.h"

#include "base/alloc.h"

enum obx_code dispatch_init(struct dispatch *dispatch, unsigned count, struct obx_err *err)
{
    dispatch->count = count;
    dispatch->lanes = obx_calloc(count, sizeof(*dispatch->lanes));
    return dispatch->lanes != NULL ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "%u workers", count);
}

void dispatch_fini(struct dispatch *dispatch)
{
    obx_free(dispatch->lanes);
    dispatch->lanes = NULL;
}

static unsigned least_loaded(const struct dispatch *dispatch)
{
    unsigned least = 0;

    for (unsigned i = 1; i < dispatch->count; i++) {
        if (dispatch->lanes[i].load < dispatch->lanes[least].load)
            least = i;
    }
    return least;
}

void dispatch_give(struct dispatch *dispatch, struct item *item)
{
    item->worker =
        item_has_key(item) ? (unsigned)(item->lane % dispatch->count) : least_loaded(dispatch);
    dispatch->lanes[item->worker].load++;
    item_list_push(&dispatch->lanes[item->worker].out, item);
}

void dispatch_post(struct dispatch *dispatch)
{
    for (unsigned i = 0; i < dispatch->count; i++)
        mailbox_post(dispatch->lanes[i].box, &dispatch->lanes[i].out);
}

void dispatch_returned(struct dispatch *dispatch, const struct item *item)
{
    if (item->parked_id == 0)
        dispatch->lanes[item->worker].load--;
}
