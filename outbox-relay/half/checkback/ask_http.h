/*
 * Asks producers over HTTP, many at once, by the rules of service/http_client.h. Belongs to one
 * thread, which calls ask_http_service.
 */
#ifndef RELAY_HALF_ASK_HTTP_H
#define RELAY_HALF_ASK_HTTP_H

#include <stdint.h>

#include "check_answer.h"
#include "obx/err.h"

struct ask_http;

/** Where to ask; borrowed while the ask is in flight. */
struct ask_target {
    const char *url; /* http:// or https://; "{gid}" in it is replaced, otherwise "?gid=" or "&gid="
                        is appended */
    const char *token;   /* sent as Authorization: Bearer; NULL: none */
    const char *ca_file; /* NULL: the system's */
    uint32_t timeout_ms; /* of the whole ask */
};

/** why: for logs and history, borrowed. Runs inside ask_http_service. */
typedef void ask_done_fn(void *ctx, enum check_answer answer, const char *why);

/** max_asks bounds what is in flight and with it the connections kept open. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code ask_http_create(uint32_t max_asks, struct ask_http **out,
                                            struct obx_err *err);
/** What is in flight is dropped without a call of done. NULL is fine. */
void ask_http_destroy(struct ask_http *asker);
/** Start one ask. OBX_E_FULL, OBX_E_NOMEM, OBX_E_INVALID (a gid or URL that makes no address). done
 * is called only after OBX_OK. */
OBX_NODISCARD enum obx_code ask_http_start(struct ask_http *asker, const struct ask_target *target,
                                           const char *gid, ask_done_fn *done, void *ctx,
                                           struct obx_err *err);
/** Send, receive and report; waits at most wait_ms for something to happen, or for ask_http_wake.
 */
void ask_http_service(struct ask_http *asker, int wait_ms);
/** End a wait of ask_http_service; any thread. */
void ask_http_wake(struct ask_http *asker);
uint32_t ask_http_under_way(const struct ask_http *asker);

#endif
