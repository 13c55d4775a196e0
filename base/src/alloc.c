/*
 * The allocator of all parts. Owns the test hook, which is asked before each allocation; nothing
 * else is kept. A size of zero gives a pointer that may be freed, so that NULL always means "no
 * memory".
 */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool (*allow)(void *ctx);
    void *ctx;
} hook;

void obx_alloc_set_hook(bool (*allow)(void *ctx), void *ctx)
{
    hook.allow = allow;
    hook.ctx = ctx;
}

static bool is_allowed(void)
{
    return hook.allow == NULL || hook.allow(hook.ctx);
}

void *obx_malloc(size_t size)
{
    return is_allowed() ? malloc(size > 0 ? size : 1) : NULL;
}

void *obx_calloc(size_t count, size_t size)
{
    /* calloc(3) checks as well, but the sanitizers' one ends the process. */
    if (!is_allowed() || (size > 0 && count > SIZE_MAX / size))
        return NULL;
    return count > 0 && size > 0 ? calloc(count, size) : calloc(1, 1);
}

void *obx_realloc(void *p, size_t size)
{
    return is_allowed() ? realloc(p, size > 0 ? size : 1) : NULL;
}

void obx_free(void *p)
{
    free(p);
}

char *obx_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = obx_malloc(size);

    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}
