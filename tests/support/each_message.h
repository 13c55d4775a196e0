/* The messages of a delivery: those of a pack, or the one that it is. */
#ifndef SUPPORT_EACH_MESSAGE_H
#define SUPPORT_EACH_MESSAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "bridge/pack.h"

typedef void each_message_fn(const struct bridge_message *msg, void *ctx);

/** Calls fn for each; fails the test for a pack that cannot be read. Returns how many it has; 0: it
 * is no pack. */
static inline size_t each_message(const struct bridge_delivery *delivery, each_message_fn *fn,
                                  void *ctx)
{
    struct bridge_delivery **events = NULL;
    struct obx_err err = {0};
    size_t count = 0;

    if (!pack_is(&delivery->msg)) {
        fn(&delivery->msg, ctx);
        return 0;
    }
    if (pack_read(delivery, &events, &count, &err) != OBX_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < count; i++) {
        fn(&events[i]->msg, ctx);
        bridge_delivery_free(events[i]);
    }
    obx_free(events);
    return count;
}

#endif
