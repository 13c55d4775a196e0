/*
 * Ring the relay's doorbell after a commit, so that it looks at the outbox at once instead of at
 * its next poll.
 *
 * A ring is a hint and never a duty: the relay finds every committed row without it, some
 * milliseconds later. So a failed ring is nothing to retry or to fail a request for. From a shell
 * the same is done with
 *
 *     printf outbox | socat -u - UNIX-SENDTO:/run/rowpost/doorbell.sock
 *
 * and from any other language by sending the outbox's name (or "source/outbox", or nothing for all
 * of them) as one datagram to the relay's doorbell_socket. Proved by tests/unit/doorbell_test.c and
 * tests/system/daemon_test.c.
 */
#ifndef OBX_DOORBELL_H
#define OBX_DOORBELL_H

#include "obx/err.h"
#include "obx/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Send one ring to the relay of this machine.
 *
 * Call it after COMMIT; before, the relay would look too early. Never blocks; costs a few
 * microseconds. Success means that the ring is in the relay's socket. Any thread; nothing is kept
 * between calls. Since 0.1.
 * @param path    the relay's doorbell_socket
 * @param outbox  "outbox", "source/outbox", or NULL for every lane of the relay
 * @return OBX_OK; OBX_E_INVALID - path or outbox longer than allowed (107 and 150 bytes);
 *         OBX_E_FULL - the relay has more rings waiting than fit: it will look anyway;
 *         OBX_E_SYSTEM - no relay listens there, or this user may not ring (err->sys has errno)
 */
OBX_NODISCARD OBX_API enum obx_code obx_doorbell_ring(const char *path, const char *outbox,
                                                      struct obx_err *err);

#ifdef __cplusplus
}
#endif

#endif
