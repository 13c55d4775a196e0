/* An allocator for json_set_alloc_funcs that counts: what a parser holds, and held at its highest. */
#ifndef SUPPORT_COUNTED_MEMORY_H
#define SUPPORT_COUNTED_MEMORY_H

#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct {
    size_t in_use, peak; /* bytes */
} counted;

static inline void *counted_malloc(size_t size)
{
    size_t *block = malloc(size + 2 * sizeof(size_t));

    assert_non_null(block);
    block[0] = size;
    counted.in_use += size;
    counted.peak = counted.in_use > counted.peak ? counted.in_use : counted.peak;
    return block + 2;
}

static inline void counted_free(void *p)
{
    size_t *block = p;

    if (p == NULL)
        return;
    counted.in_use -= block[-2];
    free(block - 2);
}

#endif
