/*
 * UTF-8 decoding, shared by the log (what may be written raw) and by everything that cuts a text to
 * a limit: half a character in a utf8mb4 column is an error of the whole statement.
 */
#include "base/utf8.h"

#include <string.h>

/* The number of bytes that a lead byte announces, and the bits of the character that it carries. */
static size_t lead(unsigned char byte, uint32_t *bits)
{
    if (byte < 0x80) {
        *bits = byte;
        return 1;
    }
    if (byte >= 0xC2 && byte <= 0xDF) {
        *bits = byte & 0x1Fu;
        return 2;
    }
    if (byte >= 0xE0 && byte <= 0xEF) {
        *bits = byte & 0x0Fu;
        return 3;
    }
    if (byte >= 0xF0 && byte <= 0xF4) {
        *bits = byte & 0x07u;
        return 4;
    }
    return 0;
}

size_t utf8_next(struct obx_bytes b, uint32_t *cp)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = b.p;
    uint32_t value = 0;
    size_t len = b.len > 0 ? lead(p[0], &value) : 0;

    if (len == 0 || len > b.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0u) != 0x80u)
            return 0;
        value = (value << 6) | (p[i] & 0x3Fu);
    }
    /* An overlong form is another spelling of a character: what was refused as '/' would pass. */
    if (value < least[len] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *cp = value;
    return len;
}

bool utf8_is_valid(struct obx_bytes b)
{
    const char *p = b.p;
    uint32_t cp = 0;

    for (size_t at = 0; at < b.len;) {
        size_t len = utf8_next((struct obx_bytes){p + at, b.len - at}, &cp);

        if (len == 0)
            return false;
        at += len;
    }
    return true;
}

size_t utf8_cut(struct obx_bytes b, size_t max)
{
    const char *p = b.p;
    uint32_t cp = 0;

    if (b.len <= max)
        return b.len;
    /* A character has at most four bytes, so one that crosses the limit starts at most three before
     * it. */
    for (size_t back = 1; back <= 3 && back <= max; back++) {
        size_t at = max - back;

        if (utf8_next((struct obx_bytes){p + at, b.len - at}, &cp) > back)
            return at;
    }
    return max;
}

void utf8_make_valid(char *text)
{
    uint32_t cp = 0;

    while (*text != '\0') {
        size_t len = utf8_next((struct obx_bytes){text, strlen(text)}, &cp);

        if (len == 0)
            *text = '?';
        text += len == 0 ? 1 : len;
    }
}
