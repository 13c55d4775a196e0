/* One blocking GET to a relay of this machine, for `outbox-relay --health` and `outboxctl status`.
 * Any thread. */
#ifndef DAEMON_HTTP_GET_H
#define DAEMON_HTTP_GET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"

struct http_get_opts {
    const char *address; /* numeric or a name */
    uint16_t port;
    const char *path;
    bool is_tls;
    const char *token;   /* sent as Authorization: Bearer; NULL or "": none */
    uint32_t timeout_ms; /* for all of it */
};

/**
 * Success means that an answer came, whatever it says: *status is its HTTP status and body
 * (appended to, the caller's) what it carried, at most 16 MiB.
 * @return OBX_OK; OBX_E_SYSTEM - nobody listens there, or it hung up; OBX_E_TIMEOUT; OBX_E_FORMAT -
 * larger than that; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code http_get(const struct http_get_opts *opts, int *status,
                                     struct obx_buf *body, struct obx_err *err);

#endif
