/* Writes to an eventfd that does not block: it can only fail when the counter is full, and then the
 * sleeper wakes anyway. */
#include "base/wake.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fail.h"

enum obx_code wake_init(struct wake *wake, struct obx_err *err)
{
    wake->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake->fd >= 0 ? OBX_OK : obx_fail_errno(err, OBX_E_SYSTEM, errno, "eventfd");
}

void wake_fini(struct wake *wake)
{
    if (wake->fd >= 0)
        close(wake->fd);
    wake->fd = -1;
}

void wake_up(const struct wake *wake)
{
    const uint64_t one = 1;
    int saved = errno;

    (void)!write(wake->fd, &one, sizeof(one));
    errno = saved;
}

uint64_t wake_clear(const struct wake *wake)
{
    uint64_t count = 0;

    return read(wake->fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

void wake_wait(const struct wake *wake, int timeout_ms)
{
    struct pollfd waiting = {.fd = wake->fd, .events = POLLIN};

    poll(&waiting, 1, timeout_ms);
}
