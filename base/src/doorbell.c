/*
 * The application's end of the doorbell: one datagram on a socket of its own, closed again. A
 * socket for each ring costs two system calls more than a kept one, and in return there is no state
 * that could go stale when the relay restarts.
 */
#include "obx/doorbell.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fail.h"

enum { OUTBOX_MAX = 150 };

static enum obx_code send_failed(struct obx_err *err, const char *path, int sys)
{
    if (sys == EAGAIN || sys == EWOULDBLOCK || sys == ENOBUFS)
        return obx_fail_sys(err, OBX_E_FULL, sys, "doorbell %s has its queue full", path);
    return obx_fail_errno(err, OBX_E_SYSTEM, sys, "doorbell %s", path);
}

enum obx_code obx_doorbell_ring(const char *path, const char *outbox, struct obx_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t path_len = path == NULL ? 0 : strlen(path);
    size_t len = outbox == NULL ? 0 : strlen(outbox);
    enum obx_code rc = OBX_OK;
    int fd;

    if (path_len == 0 || path_len >= sizeof(addr.sun_path) || len > OUTBOX_MAX)
        return obx_fail(err, OBX_E_INVALID, "doorbell path of %zu bytes, name of %zu bytes",
                        path_len, len);
    memcpy(addr.sun_path, path, path_len + 1);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return send_failed(err, path, errno);
    if (sendto(fd, outbox == NULL ? "" : outbox, len, MSG_NOSIGNAL, (const struct sockaddr *)&addr,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len + 1)) < 0)
        rc = send_failed(err, path, errno);
    close(fd);
    return rc;
}
