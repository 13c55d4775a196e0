/* The eventfd behind bell.h. */
#include "bell.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum obx_code bell_init(struct bell *bell, struct obx_err *err)
{
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd >= 0 ? OBX_OK : obx_fail_sys(err, OBX_E_SYSTEM, errno, "eventfd");
}

void bell_fini(struct bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

void bell_ring(struct bell *bell)
{
    const uint64_t one = 1;
    int saved = errno;
    /* It can only fail when the counter is full, and then the sleeper wakes anyway. */
    ssize_t written = write(bell->fd, &one, sizeof(one));

    (void)written;
    errno = saved;
}

bool bell_clear(struct bell *bell, unsigned long long *rings)
{
    uint64_t count = 0;
    bool rung = read(bell->fd, &count, sizeof(count)) == (ssize_t)sizeof(count);

    if (rings != NULL)
        *rings = rung ? count : 0;
    return rung;
}

void bell_wait(const struct bell *bell, int timeout_ms)
{
    struct pollfd waiting = {.fd = bell->fd, .events = POLLIN};

    poll(&waiting, 1, timeout_ms);
}
