/*
 * Half-messages for producers in C: a client of the relay's HTTP API (docs/openapi.yaml).
 *
 *     prepare(gid, messages)      durable, and seen by nobody
 *     ... the local transaction ...
 *     commit(gid)  or  rollback(gid)
 *
 * If the program dies in between, check-back asks what became of the local transaction
 * (docs/half-messages.md). Every call repeats itself, with backoff, while the relay cannot be
 * reached or is overloaded, until its time has passed; all of them may be repeated by the caller as
 * well. An answer counts only when it names the gid and its state: what else may stand at the
 * address is no answer. A client belongs to one thread at a time. Proved by
 * tests/system/half_client_test.c.
 */
#ifndef OBX_HALF_H
#define OBX_HALF_H

#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "obx/export.h"

#ifdef __cplusplus
extern "C" {
#endif

struct obx_half;

/** Options of a client. Zero the struct, set size, url, token and producer; zero means the default.
 * Everything is copied. */
struct obx_half_opts {
    size_t size;       /**< sizeof(struct obx_half_opts) of the program */
    const char *url;   /**< of the relay, "http://127.0.0.1:8379" */
    const char *token; /**< one of the relay's [half] tokens */
    const char
        *producer; /**< a [producer NAME] of the relay's configuration: whom check-back asks */
    const char *ca_file; /**< for https; NULL: the system's certificates */
    uint32_t timeout_ms; /**< of one call with all its repeats; 0: 5000 */
    /** Not 0: commit and rollback return when the relay has queued the verdict. OBX_OK then says no
     * more than that: should it be lost (the relay dies, the database is away) check-back finds out,
     * and a conflict or an unknown gid is not reported. A relay without check-back waits as ever.
     * docs/half-messages.md */
    int async_verdicts;
};

/** A message to send when the verdict is commit, or rollback. Absent fields get their defaults. */
struct obx_half_message {
    const char *topic;        /**< 1 to 255 bytes */
    const char *ordering_key; /**< NULL: none */
    const char *message_id;   /**< NULL: the database makes one */
    const char *content_type; /**< NULL: application/json */
    const char *headers;      /**< text of a JSON object, sent as it is; NULL: none */
    struct obx_bytes payload; /**< any bytes */
};

enum obx_half_state {
    OBX_HALF_PREPARED,
    OBX_HALF_COMMITTED,
    OBX_HALF_ROLLED_BACK,
    OBX_HALF_PARKED
};

/**
 * Make a client. Connects to nothing yet. On failure *out is NULL.
 * @return OBX_OK; OBX_E_INVALID - url, token or producer is missing; OBX_E_NOMEM
 * @thread any. since 0.1
 */
OBX_NODISCARD OBX_API enum obx_code obx_half_open(const struct obx_half_opts *opts,
                                                  struct obx_half **out, struct obx_err *err);
/** Free a client; half-messages stay as they are. NULL is fine. @thread the client's. since 0.1 */
OBX_API void obx_half_close(struct obx_half *half);

/**
 * Prepare. OBX_OK means durable: from now on the half-message ends committed, rolled back or
 * visibly parked.
 *
 * gid is the caller's own name for it, 1 to 128 of letters, digits and -._:~; the same gid with the
 * same messages is the same prepare. on_rollback may be empty. Everything is borrowed for the call.
 * Start the local transaction only after OBX_OK.
 * @return OBX_OK; OBX_E_CONFLICT - gid was used with other messages, or was prepared before and is
 * decided by now (the text says which): do not start the local transaction; OBX_E_INVALID - a field
 * is refused, the text names it; OBX_E_CONFIG - the token is refused; OBX_E_TIMEOUT - no answer in
 * time: it may be prepared or not, so do not start the local transaction (check-back rolls it back
 * if it is); OBX_E_NOMEM
 * @thread the client's. since 0.1
 */
OBX_NODISCARD OBX_API enum obx_code obx_half_prepare(struct obx_half *half, const char *gid,
                                                     const struct obx_half_message *on_commit,
                                                     size_t commit_count,
                                                     const struct obx_half_message *on_rollback,
                                                     size_t rollback_count, struct obx_err *err);
/**
 * Give the verdict after the local transaction committed. OBX_OK: its messages are in the outbox (with
 * async_verdicts: the verdict is queued).
 * @return OBX_OK; OBX_E_CONFLICT - it was rolled back before, the text says by whom;
 * OBX_E_NOT_FOUND; OBX_E_CONFIG; OBX_E_TIMEOUT - nothing is lost: check-back will find out;
 * OBX_E_NOMEM
 * @thread the client's. since 0.1
 */
OBX_NODISCARD OBX_API enum obx_code obx_half_commit(struct obx_half *half, const char *gid,
                                                    struct obx_err *err);
/** Give the verdict after the local transaction was rolled back. Answers as obx_half_commit.
 * @thread the client's. since 0.1 */
OBX_NODISCARD OBX_API enum obx_code obx_half_rollback(struct obx_half *half, const char *gid,
                                                      struct obx_err *err);
/** Look a half-message up. OBX_OK with *state; OBX_E_NOT_FOUND, OBX_E_TIMEOUT, OBX_E_NOMEM. @thread
 * the client's. since 0.1 */
OBX_NODISCARD OBX_API enum obx_code obx_half_lookup(struct obx_half *half, const char *gid,
                                                    enum obx_half_state *state,
                                                    struct obx_err *err);

#ifdef __cplusplus
}
#endif

#endif
