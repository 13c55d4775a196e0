/* Called by the show commands. */
#include "show.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "ops/human.h"
#include "table.h"

enum { PREVIEW_BYTES = 512, HEX_BYTES_A_LINE = 16 };

void show_field(const char *name, struct obx_bytes value)
{
    struct obx_buf clean = {0};

    if (bytes_is_absent(value))
        return;
    text_add_clean(&clean, value);
    printf("%-14s %s\n", name, clean.data == NULL ? "" : clean.data);
    buf_fini(&clean);
}

/* As hexdump has it: what is no text is looked at by people who know that form. */
static void print_hex_line(const unsigned char *p, size_t len)
{
    printf("  ");
    for (size_t i = 0; i < HEX_BYTES_A_LINE; i++) {
        if (i < len)
            printf("%02x ", p[i]);
        else
            printf("   ");
    }
    for (size_t i = 0; i < len; i++)
        putchar(p[i] >= ' ' && p[i] < 0x7F ? p[i] : '.');
    putchar('\n');
}

static void print_text_lines(struct obx_bytes text)
{
    const char *p = text.p;

    for (size_t at = 0; at < text.len;) {
        const char *end = memchr(p + at, '\n', text.len - at);
        size_t len = end == NULL ? text.len - at : (size_t)(end - (p + at));
        struct obx_buf clean = {0};

        text_add_clean(&clean, (struct obx_bytes){.p = p + at, .len = len});
        printf("  %s\n", clean.data == NULL ? "" : clean.data);
        buf_fini(&clean);
        at += len + 1;
    }
}

/* Text is shown as text, line by line; anything else in hexadecimal. */
void show_preview(struct obx_bytes payload)
{
    size_t len = payload.len < PREVIEW_BYTES ? payload.len : PREVIEW_BYTES;
    const struct obx_bytes text = {.p = payload.p, .len = utf8_cut(payload, len)};
    const unsigned char *p = payload.p;
    char size[HUMAN_MAX];

    printf("%-14s %s%s\n", "payload", human_size(payload.len, size),
           len < payload.len ? ", which begins with" : "");
    if (utf8_is_valid(text)) {
        print_text_lines(text);
        return;
    }
    for (size_t at = 0; at < len; at += HEX_BYTES_A_LINE)
        print_hex_line(p + at, len - at < HEX_BYTES_A_LINE ? len - at : HEX_BYTES_A_LINE);
}
