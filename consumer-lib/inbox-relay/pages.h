/* /healthz, /readyz and /metrics of inbox-relay. Main thread. */
#ifndef NOTIFY_PAGES_H
#define NOTIFY_PAGES_H

#include "inbox/inbox.h"
#include "keeper.h"
#include "record.h"
#include "service/http.h"

struct pages;

struct pages_opts {
    struct http_opts http; /* ops and ctx are the pages' own; borrowed like the rest */
    struct obx_consumer *consumer;
    struct keeper *keeper;
    struct outlets *outlets;
    struct recorder *recorder;
    struct inbox *const *inboxes;
    size_t inbox_count;
};

/** Listen. Errors as http_server_create. */
OBX_NODISCARD enum obx_code pages_create(const struct pages_opts *opts, struct pages **out,
                                         struct obx_err *err);
/** NULL is fine. */
void pages_destroy(struct pages *pages);

#endif
