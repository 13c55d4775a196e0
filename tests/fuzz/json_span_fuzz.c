/*
 * Fuzz target of base/json_span.h, held against jansson: both take the same texts, but for what
 * jansson cannot represent (numbers without end, half a surrogate pair, a NUL in a name) and for
 * the depth that each allows; and of what both take, each value is the same.
 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/json_span.h"
#include "fuzz.h"

/* Whether jansson can represent the value, too. */
static bool is_representable(struct obx_bytes value)
{
    struct json_span_rest rest;
    struct obx_bytes name, inner;
    bool ok = true;

    switch (json_span_type(value)) {
    case JSON_SPAN_OBJECT:
        rest = json_span_enter(value);
        while (json_span_next_member(&rest, &name, &inner)) {
            char *text = obx_malloc(name.len);
            size_t len = 0;

            ok = json_span_decode(name, text, &len) && memchr(text, '\0', len) == NULL && ok;
            ok = is_representable(inner) && ok;
            obx_free(text);
        }
        return ok;
    case JSON_SPAN_ARRAY:
        rest = json_span_enter(value);
        while (json_span_next_element(&rest, &inner))
            ok = is_representable(inner) && ok;
        return ok;
    case JSON_SPAN_STRING: {
        char *text = obx_malloc(value.len);
        size_t len = 0;

        ok = json_span_decode(value, text, &len);
        FUZZ_CHECK(!ok || len <= value.len - 2);
        obx_free(text);
        return ok;
    }
    case JSON_SPAN_NUMBER: {
        char *text = bytes_dup(value);
        double number = strtod(text, NULL);

        obx_free(text);
        return number - number == 0.0;
    }
    case JSON_SPAN_TRUE:
    case JSON_SPAN_FALSE:
    case JSON_SPAN_NULL:
        break;
    }
    return true;
}

static void compare(struct obx_bytes value, const json_t *tree)
{
    static const json_type types[] = {
        [JSON_SPAN_OBJECT] = JSON_OBJECT, [JSON_SPAN_ARRAY] = JSON_ARRAY,
        [JSON_SPAN_STRING] = JSON_STRING, [JSON_SPAN_NUMBER] = JSON_REAL,
        [JSON_SPAN_TRUE] = JSON_TRUE,     [JSON_SPAN_FALSE] = JSON_FALSE,
        [JSON_SPAN_NULL] = JSON_NULL,
    };
    enum json_span_type type = json_span_type(value);
    struct obx_bytes element;
    size_t count = 0;

    FUZZ_CHECK(json_typeof(tree) == types[type]);
    if (type == JSON_SPAN_STRING) {
        char *text = obx_malloc(value.len);
        size_t len = 0;

        FUZZ_CHECK(json_span_decode(value, text, &len));
        FUZZ_CHECK(len == json_string_length(tree) &&
                   memcmp(text, json_string_value(tree), len) == 0);
        obx_free(text);
    }
    if (type == JSON_SPAN_NUMBER) {
        char *text = bytes_dup(value);

        FUZZ_CHECK(strtod(text, NULL) == json_real_value(tree));
        obx_free(text);
    }
    if (type != JSON_SPAN_ARRAY)
        return; /* an object's names may repeat: jansson has the last, we have each */
    for (struct json_span_rest rest = json_span_enter(value);
         json_span_next_element(&rest, &element); count++)
        compare(element, json_array_get(tree, count));
    FUZZ_CHECK(count == json_array_size(tree));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct obx_bytes text = {.p = size == 0 ? (const void *)"" : data, .len = size};
    struct json_span_fault fault = {0};
    struct obx_bytes value;
    bool is_json = json_span_check(text, &value, &fault);
    json_t *tree = json_loadb(text.p, text.len,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);

    if (!is_json) {
        FUZZ_CHECK(fault.what != NULL && fault.at <= size);
        FUZZ_CHECK(tree == NULL || strcmp(fault.what, "nested too deeply") == 0 ||
                   memchr(text.p, '\0', text.len) != NULL); /* which ends a text for jansson */
    } else {
        FUZZ_CHECK((tree != NULL) == is_representable(value));
        if (tree != NULL)
            compare(value, tree);
    }
    json_decref(tree);
    return 0;
}
