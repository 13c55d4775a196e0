/*
 * Reads a whole small file. Special files are fine (a pipe, /dev/stdin), endless ones hit the
 * limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fail.h"
#include "internal.h"

static enum obx_code read_all(int fd, size_t max, struct obx_buf *out, struct obx_err *err)
{
    char piece[4096];
    size_t total = 0;

    for (;;) {
        ssize_t got = read(fd, piece, sizeof(piece));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return obx_fail_errno(err, OBX_E_SYSTEM, errno, "read");
        if (got == 0)
            return OBX_OK;
        total += (size_t)got;
        if (total > max)
            return obx_fail(err, OBX_E_TOO_LARGE, "%zu bytes", max);
        if (buf_add(out, piece, (size_t)got) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "file of %zu bytes", total);
    }
}

enum obx_code cfg_slurp(const char *path, size_t max, struct obx_buf *out, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return obx_fail_errno(err, OBX_E_SYSTEM, errno, "open");
    rc = read_all(fd, max, out, err);
    close(fd);
    return rc;
}
