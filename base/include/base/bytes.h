/* Helpers on borrowed bytes and the one growable buffer. Not thread-safe: a buffer has one owner.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

/** Bytes of a NUL-terminated string; absent for NULL. Borrowed. */
struct obx_bytes bytes_of(const char *text);
bool bytes_is_absent(struct obx_bytes b);
/** Same length and bytes. Absent equals absent only: it is not the same as empty. */
bool bytes_equal(struct obx_bytes a, struct obx_bytes b);
/** Whether a equals the string text. */
bool bytes_is(struct obx_bytes a, const char *text);
/** Heap copy with a NUL after it, so that it can be used as a string too (absent gives ""); NULL
 * when out of memory. Free with obx_free. */
char *bytes_dup(struct obx_bytes b);
/** A 64-bit hash, the same within one process only (seeded at start). */
uint64_t bytes_hash(struct obx_bytes b);
/** Copy b into dst of dst_size as a NUL-terminated string, cut to fit at a whole UTF-8 character.
 * Returns whether all of it fitted. */
bool bytes_to_text(struct obx_bytes b, char *dst, size_t dst_size);
/** Whether both are there and every byte pair is the same; takes the same time wherever they differ
 * (tokens, signatures). */
bool bytes_equal_constant_time(struct obx_bytes a, struct obx_bytes b);

/**
 * A growable run of bytes. Zero-initialise; free with buf_fini. data always has a NUL after len
 * once allocated.
 *
 * A failure sticks: the first append that fails marks the buffer, and from then on nothing is
 * appended and every append returns that failure. So a run of appends is written without a check
 * after each, and checked once at its end: by what the last one returned, or by rc. buf_reset,
 * buf_cut and buf_fini clear the mark.
 */
struct obx_buf {
    char *data;
    size_t len;
    size_t cap;
    enum obx_code rc; /* the first failure; also for its owner to set, when what it wanted to append
                         is refused */
};

void buf_fini(struct obx_buf *buf);
/** Length to 0; keeps the memory. */
void buf_reset(struct obx_buf *buf);
/** Back to what it was when its length was len: forgets what was appended since, and the failure. */
void buf_cut(struct obx_buf *buf, size_t len);
/** Make room for extra more bytes, to be written to data + len by the caller. Fails like an append.
 */
OBX_NODISCARD enum obx_code buf_reserve(struct obx_buf *buf, size_t extra);
/** All append or, on OBX_E_NOMEM, nothing is appended. */
enum obx_code buf_add(struct obx_buf *buf, const void *p, size_t len);
enum obx_code buf_add_text(struct obx_buf *buf, const char *text);
enum obx_code buf_addf(struct obx_buf *buf, const char *fmt, ...) OBX_PRINTF(2, 3);
enum obx_code buf_addvf(struct obx_buf *buf, const char *fmt, va_list args) OBX_PRINTF(2, 0);
struct obx_bytes buf_bytes(const struct obx_buf *buf);

#endif
