/*
 * Reads a whole small file. Special files are fine (a pipe, /dev/stdin), endless ones hit the
 * limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "internal.h"

/* In the words of the person who has to fix it, who need not know which system call it was. */
static enum obx_code cannot_read(struct obx_err *err, int sys)
{
    char text[128] = "unknown error";

    (void)strerror_r(sys, text, sizeof(text));
    if (err != NULL) {
        *err = (struct obx_err){.code = OBX_E_SYSTEM, .sys = sys};
        (void)snprintf(err->text, sizeof(err->text), "cannot be read: %s", text);
    }
    return OBX_E_SYSTEM;
}

static enum obx_code read_all(int fd, size_t max, struct obx_buf *out, struct obx_err *err)
{
    char piece[4096];
    size_t total = 0;

    for (;;) {
        ssize_t got = read(fd, piece, sizeof(piece));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cannot_read(err, errno);
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
        return cannot_read(err, errno);
    rc = read_all(fd, max, out, err);
    close(fd);
    return rc;
}
