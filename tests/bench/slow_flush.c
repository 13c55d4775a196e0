/*
 * Loaded into the private servers with LD_PRELOAD: their flushes take as long as on another disk.
 * fsync and fdatasync are done, and then last until the asked time is over; one that took longer by
 * itself is not made longer.
 *
 * How long is the first number, in microseconds, of the file that OBX_FLUSH_FILE names; it is mapped
 * at the start and looked at at each flush, so a running server follows a change. Write it in place
 * (tests/bench/lib/flush.bash): a file that is cut while it is mapped ends the server.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "obx/export.h"

enum { FILE_BYTES = 16, DECIMAL = 10, NS_PER_US = 1000, NS_PER_S = 1000000000 };

static const volatile char *asked; /* NULL: flushes take what they take */

__attribute__((constructor)) static void map_asked(void)
{
    const char *path = getenv("OBX_FLUSH_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *bytes = MAP_FAILED;

    if (fd >= 0 && lseek(fd, 0, SEEK_END) >= FILE_BYTES)
        bytes = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        (void)close(fd);
    asked = bytes == MAP_FAILED ? NULL : bytes;
}

static long asked_us(void)
{
    long us = 0;

    for (int i = 0; asked != NULL && i < FILE_BYTES; i++) {
        const char digit = asked[i];

        if (digit < '0' || digit > '9')
            break;
        us = us * DECIMAL + (digit - '0');
    }
    return us;
}

/* The answer of the real call, errno included, at the time that was asked for. */
static int end_flush(int rc, const struct timespec *began, long us)
{
    const int error = errno;
    struct timespec end = *began;

    if (us > 0) {
        end.tv_nsec += us % (NS_PER_S / NS_PER_US) * NS_PER_US;
        end.tv_sec += us / (NS_PER_S / NS_PER_US) + end.tv_nsec / NS_PER_S;
        end.tv_nsec %= NS_PER_S;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
            continue;
    }
    errno = error;
    return rc;
}

static int slowly(const char *name, int fd)
{
    int (*real)(int) = NULL;
    struct timespec began;

    *(void **)(&real) = dlsym(RTLD_NEXT, name);
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    return end_flush(real(fd), &began, asked_us());
}

OBX_API int fsync(int fd)
{
    return slowly("fsync", fd);
}

OBX_API int fdatasync(int fd)
{
    return slowly("fdatasync", fd);
}
