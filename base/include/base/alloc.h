/*
 * The allocator that all parts use, with a hook so that a test can make the nth allocation fail.
 * Library code checks every result and returns OBX_E_NOMEM; nothing here aborts.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *obx_malloc(size_t size);
/** Zeroed; NULL as well when count * size overflows. */
void *obx_calloc(size_t count, size_t size);
void *obx_realloc(void *p, size_t size);
/** NULL is fine. */
void obx_free(void *p);
char *obx_strdup(const char *text);

/** Called before each allocation; false makes it fail. NULL takes the hook away. Tests only; set
 * before threads start. */
void obx_alloc_set_hook(bool (*allow)(void *ctx), void *ctx);

#endif
