/*
 * Signatures of calls, as Standard Webhooks has them: HMAC-SHA-256 over "id.timestamp.body" in
 * base64, one "v1,..." for each secret, separated by blanks. Any thread.
 *
 * The parts are told apart by the rule that neither id nor timestamp has a dot: ids are given
 * without (job_set_texts), and receivers refuse those that have one (docs/notifications.md).
 */
#ifndef NOTIFY_SIGN_H
#define NOTIFY_SIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum { SIGN_KEYS_MAX = 8, SIGN_KEY_MAX = 64, SIGN_KEY_MIN = 16 };

struct sign_keys {
    struct {
        unsigned char bytes[SIGN_KEY_MAX];
        size_t len;
    } items[SIGN_KEYS_MAX];
    size_t count;
};

/** Whether the text has 1 to SIGN_KEYS_MAX usable secrets; else *why says what is wrong, without
 * them. Static text. */
bool sign_check_secrets(const char *text, size_t *count, const char **why);
/** The secrets of a text that was checked. */
void sign_parse_secrets(const char *text, struct sign_keys *out);
/** Append the value of the header webhook-signature. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code sign_add(struct obx_buf *out, const struct sign_keys *keys,
                                     const char *id, uint64_t timestamp_s, struct obx_bytes body);

#endif
