/* Called by the commands that know --json. */
#include "json_print.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/utf8.h"

enum { DELETE = 0x7F, DATE_LEN = sizeof("2026-11-22") - 1 };

void json_set_text(json_t *object, const char *name, struct obx_bytes text)
{
    const unsigned char *p = text.p;
    struct obx_buf hex = {0};
    char hex_name[64];

    if (bytes_is_absent(text) || utf8_is_valid(text)) {
        json_object_set_new(object, name,
                            text.p == NULL ? json_null() : json_stringn(text.p, text.len));
        return;
    }
    for (size_t i = 0; i < text.len; i++)
        buf_addf(&hex, "%02x", p[i]);
    snprintf(hex_name, sizeof(hex_name), "%s_hex", name);
    json_object_set_new(object, name, json_null());
    json_object_set_new(object, hex_name, json_string(hex.data));
    buf_fini(&hex);
}

void json_set_time(json_t *object, const char *name, struct obx_bytes datetime)
{
    char text[48];

    if (datetime.len <= DATE_LEN || datetime.len + sizeof("Z") > sizeof(text)) {
        json_object_set_new(object, name, json_null());
        return;
    }
    snprintf(text, sizeof(text), "%.*sZ", (int)datetime.len, (const char *)datetime.p);
    text[DATE_LEN] = 'T';
    json_object_set_new(object, name, json_string(text));
}

static void print(const json_t *json, size_t flags)
{
    char *text = json_dumps(json, flags | JSON_ENSURE_ASCII);

    if (text == NULL) {
        fprintf(stderr, "outboxctl: out of memory\n");
        return;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == DELETE)
            fputs("\\u007f", stdout);
        else
            putchar(*c);
    }
    free(text);
}

void json_print_part(const json_t *json)
{
    print(json, 0);
}

void json_print(const json_t *json)
{
    print(json, JSON_INDENT(2));
    putchar('\n');
}

void json_print_page(json_t *items, const char *next)
{
    json_t *page = json_pack("{s:O, s:s?}", "items", items, "next", next);

    json_print(page);
    json_decref(page);
}
