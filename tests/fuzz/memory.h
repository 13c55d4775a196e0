/* How much memory an input may cost. Not under a sanitizer, whose allocator does not count so;
 * there -malloc_limit_mb and -rss_limit_mb of libFuzzer do it. */
#ifndef OBX_FUZZ_MEMORY_H
#define OBX_FUZZ_MEMORY_H

#include <stddef.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/** Bytes in use now; 0 when that is not known. */
static inline size_t fuzz_memory(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 33))
    const struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

/** Fails when more than `fixed` and `factor` times the input is in use since `before`. */
#define FUZZ_MEMORY(before, size, fixed, factor)                                                   \
    FUZZ_CHECK(fuzz_memory() <= (before) + (size_t)(fixed) + (size_t)(factor) * (size))

#endif
