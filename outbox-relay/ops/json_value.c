/* Called by record.c and the trace. */
#include "json_value.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/utf8.h"

enum { DATE_LEN = sizeof("2026-11-22") - 1 };

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
