/*
 * Borrowed bytes and the growable buffer. Absent bytes (p is NULL) and empty ones differ
 * everywhere, as SQL NULL and '' do.
 */
#include "base/bytes.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/utf8.h"

struct obx_bytes bytes_of(const char *text)
{
    return (struct obx_bytes){text, text == NULL ? 0 : strlen(text)};
}

bool bytes_is_absent(struct obx_bytes b)
{
    return b.p == NULL;
}

bool bytes_equal(struct obx_bytes a, struct obx_bytes b)
{
    if (a.p == NULL || b.p == NULL)
        return a.p == b.p;
    return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

bool bytes_is(struct obx_bytes a, const char *text)
{
    return bytes_equal(a, bytes_of(text));
}

char *bytes_dup(struct obx_bytes b)
{
    char *copy = b.len < SIZE_MAX ? obx_malloc(b.len + 1) : NULL;

    if (copy == NULL)
        return NULL;
    if (b.len > 0)
        memcpy(copy, b.p, b.len);
    copy[b.len] = '\0';
    return copy;
}

/* Drawn once per process, so that nobody outside can choose keys that collide. Never zero. */
static uint64_t hash_seed(void)
{
    static _Atomic uint64_t seed;
    uint64_t value = atomic_load_explicit(&seed, memory_order_relaxed);
    uint64_t none = 0;

    if (value == 0) {
        value = random_u64() | 1u;
        if (!atomic_compare_exchange_strong(&seed, &none, value))
            value = none; /* another thread was first */
    }
    return value;
}

static uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0xC6A4A7935BD1E995);
    return hash ^ (hash >> 29);
}

uint64_t bytes_hash(struct obx_bytes b)
{
    const unsigned char *p = b.p;
    uint64_t hash = hash_seed() + b.len;
    uint64_t word = 0;
    size_t at = 0;

    /* By memcpy: the bytes lie wherever the caller has them. */
    for (; b.len - at >= sizeof(word); at += sizeof(word)) {
        memcpy(&word, p + at, sizeof(word));
        hash = hash_mix(hash, word);
    }
    word = 0;
    if (at < b.len)
        memcpy(&word, p + at, b.len - at);
    hash = hash_mix(hash, word);
    return hash_mix(hash, hash >> 32);
}

bool bytes_to_text(struct obx_bytes b, char *dst, size_t dst_size)
{
    size_t len = 0;

    if (dst_size == 0)
        return false;
    len = utf8_cut(b, dst_size - 1);
    if (len > 0)
        memcpy(dst, b.p, len);
    dst[len] = '\0';
    return len == b.len;
}

bool bytes_equal_constant_time(struct obx_bytes a, struct obx_bytes b)
{
    const volatile unsigned char *left = a.p;
    const volatile unsigned char *right = b.p;
    unsigned char differs = 0;

    if (a.p == NULL || b.p == NULL || a.len != b.len)
        return false;
    /* No early end: how long it takes would say how many bytes were right. */
    for (size_t i = 0; i < a.len; i++)
        differs |= (unsigned char)(left[i] ^ right[i]);
    return differs == 0;
}

void buf_fini(struct obx_buf *buf)
{
    obx_free(buf->data);
    *buf = (struct obx_buf){0};
}

void buf_reset(struct obx_buf *buf)
{
    buf_cut(buf, 0);
}

void buf_cut(struct obx_buf *buf, size_t len)
{
    buf->len = len;
    buf->rc = OBX_OK;
    if (buf->data != NULL)
        buf->data[len] = '\0';
}

enum obx_code buf_reserve(struct obx_buf *buf, size_t extra)
{
    size_t cap = buf->cap > 0 ? buf->cap : 64;
    size_t need = 0;
    char *data = NULL;

    if (buf->rc != OBX_OK || (buf->data != NULL && extra < buf->cap - buf->len))
        return buf->rc;
    /* Below half of what can be addressed, so that neither the sum nor the doubling overflows. */
    if (extra < SIZE_MAX / 2 - buf->len) {
        need = buf->len + extra + 1;
        while (cap < need)
            cap *= 2;
        data = obx_realloc(buf->data, cap);
    }
    if (data == NULL)
        return buf->rc = OBX_E_NOMEM;
    data[buf->len] = '\0';
    buf->data = data;
    buf->cap = cap;
    return OBX_OK;
}

enum obx_code buf_add(struct obx_buf *buf, const void *p, size_t len)
{
    if (buf_reserve(buf, len) != OBX_OK)
        return buf->rc;
    if (len > 0)
        memcpy(buf->data + buf->len, p, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return OBX_OK;
}

enum obx_code buf_add_text(struct obx_buf *buf, const char *text)
{
    return buf_add(buf, text, strlen(text));
}

enum obx_code buf_addvf(struct obx_buf *buf, const char *fmt, va_list args)
{
    va_list measured;
    int len = 0;

    /* Twice: the length is known only when it is formatted, and the arguments can be read once. */
    va_copy(measured, args);
    len = vsnprintf(NULL, 0, fmt, measured);
    va_end(measured);
    if (len < 0 && buf->rc == OBX_OK)
        buf->rc = OBX_E_INVALID;
    if (len < 0 || buf_reserve(buf, (size_t)len) != OBX_OK)
        return buf->rc;
    vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, args);
    buf->len += (size_t)len;
    return OBX_OK;
}

enum obx_code buf_addf(struct obx_buf *buf, const char *fmt, ...)
{
    enum obx_code rc = OBX_OK;
    va_list args;

    va_start(args, fmt);
    rc = buf_addvf(buf, fmt, args);
    va_end(args);
    return rc;
}

struct obx_bytes buf_bytes(const struct obx_buf *buf)
{
    return (struct obx_bytes){buf->data != NULL ? buf->data : "", buf->len};
}
