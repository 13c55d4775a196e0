/*
 * What an ask over HTTP is: its address, its headers, and what the answer says. The calls
 * themselves, many at once, are the HTTP client's (service/http_client.h).
 */
#ifndef RELAY_HALF_ASK_HTTP_H
#define RELAY_HALF_ASK_HTTP_H

#include <stdint.h>

#include "check_answer.h"
#include "obx/err.h"
#include "service/http_client.h"

#define ASK_WHY_MAX 288 /* bytes of a reason, with its NUL */

/** Where to ask; borrowed for the call. */
struct ask_target {
    const char *url; /* http:// or https://; "{gid}" in it is replaced, otherwise "?gid=" or "&gid="
                        is appended */
    const char *token;   /* sent as Authorization: Bearer; NULL: none */
    const char *ca_file; /* NULL: the system's */
    uint32_t timeout_ms; /* of the whole ask */
};

/** Start one ask. OBX_E_FULL, OBX_E_NOMEM, OBX_E_INVALID (a gid or URL that makes no address). done
 * is called only after OBX_OK. */
OBX_NODISCARD enum obx_code ask_http_start(struct http_client *client,
                                           const struct ask_target *target, const char *gid,
                                           http_done_fn *done, void *ctx, struct obx_err *err);
/** What an answer says; why gets the reason, for logs and history. */
enum check_answer ask_http_read(const struct http_answer *answer, char why[ASK_WHY_MAX]);

#endif
