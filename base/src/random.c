/*
 * The kernel's generator. One system call a number: what needs many numbers draws a seed here and
 * mixes it on.
 */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "base/crash.h"

uint64_t random_u64(void)
{
    uint64_t value = 0;
    ssize_t got = 0;

    /* Blocks only until the kernel has its first entropy, early in a boot. */
    do {
        got = getrandom(&value, sizeof(value), 0);
    } while (got < 0 && errno == EINTR);
    OBX_ASSERT(got == (ssize_t)sizeof(value));
    return value;
}
