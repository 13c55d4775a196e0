/*
 * Names and values from a URL's query or a form: bounded, decoded, in the order in which they came.
 * Every byte is hostile. Proved by tests/unit/console_parts_test.c.
 */
#ifndef CONSOLE_PARAMS_H
#define CONSOLE_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

enum { PARAMS_MAX = 1100, PARAM_VALUE_MAX = 1024 };

struct param {
    char *name, *value; /* owned */
};

/** Zero-initialise; free with params_fini. */
struct params {
    struct param *items; /* owned */
    size_t count, room;
};

/** Take "a=b&c=d". False: broken encoding, a NUL, too many or too long, or no memory. */
bool params_parse(struct params *params, struct obx_bytes text);
void params_fini(struct params *params);
/** The value of the first of that name, NULL when there is none or it is empty. */
const char *params_get(const struct params *params, const char *name);

#endif
