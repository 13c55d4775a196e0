/*
 * The error type: one table made from OBX_CODES, and the texts. A text is formatted aside before it
 * is stored, so that the old text of the same err may be among the arguments.
 */
#include "obx/err.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fail.h"

struct code_row {
    enum obx_code code;
    enum obx_action action;
    const char *name;
    const char *text;
};

static const struct code_row rows[] = {
#define OBX_X(name, value, action, text) {name, action, #name, text},
    OBX_CODES(OBX_X)
#undef OBX_X
};

static const struct code_row *row_of(enum obx_code code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code)
            return &rows[i];
    }
    return NULL;
}

const char *obx_code_text(enum obx_code code)
{
    const struct code_row *row = row_of(code);

    return row == NULL ? "unknown error" : row->text;
}

const char *obx_code_name(enum obx_code code)
{
    const struct code_row *row = row_of(code);

    return row == NULL ? "OBX_E_UNKNOWN" : row->name;
}

enum obx_action obx_code_action(enum obx_code code)
{
    const struct code_row *row = row_of(code);

    return row == NULL ? OBX_DO_STOP : row->action;
}

/* The text becomes "<head>: <tail>", or the one of the two that is not empty, cut at a whole
 * character. */
static void set_text(struct obx_err *err, const char *head, const char *tail)
{
    char joined[2 * OBX_ERR_TEXT_MAX + 4];
    const char *colon = head[0] != '\0' && tail[0] != '\0' ? ": " : "";

    snprintf(joined, sizeof(joined), "%s%s%s", head, colon, tail);
    bytes_to_text(bytes_of(joined), err->text, sizeof(err->text));
}

/* Formats more than fits, so that the cut sees the whole of a character that crosses the limit. */
OBX_PRINTF(2, 0)
static void format(char *text, const char *fmt, va_list args)
{
    char raw[OBX_ERR_TEXT_MAX + 4] = "";

    vsnprintf(raw, sizeof(raw), fmt, args);
    bytes_to_text(bytes_of(raw), text, OBX_ERR_TEXT_MAX);
}

OBX_PRINTF(4, 0)
static enum obx_code fail(struct obx_err *err, enum obx_code code, int sys, const char *fmt,
                          va_list args)
{
    char context[OBX_ERR_TEXT_MAX];

    if (err != NULL) {
        format(context, fmt, args);
        err->code = code;
        err->sys = sys;
        set_text(err, obx_code_text(code), context);
    }
    return code;
}

enum obx_code obx_fail(struct obx_err *err, enum obx_code code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fail(err, code, 0, fmt, args);
    va_end(args);
    return code;
}

enum obx_code obx_fail_sys(struct obx_err *err, enum obx_code code, int sys, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fail(err, code, sys, fmt, args);
    va_end(args);
    return code;
}

enum obx_code obx_fail_errno(struct obx_err *err, enum obx_code code, int sys, const char *fmt, ...)
{
    char context[OBX_ERR_TEXT_MAX];
    char reason[64] = "";
    va_list args;

    va_start(args, fmt);
    format(context, fmt, args);
    va_end(args);
    if (strerror_r(sys, reason, sizeof(reason)) != 0)
        snprintf(reason, sizeof(reason), "error %d", sys);
    return obx_fail_sys(err, code, sys, "%s: %s", context, reason);
}

void obx_err_context(struct obx_err *err, const char *fmt, ...)
{
    char context[OBX_ERR_TEXT_MAX];
    char old[OBX_ERR_TEXT_MAX];
    va_list args;

    if (err == NULL)
        return;
    va_start(args, fmt);
    format(context, fmt, args);
    va_end(args);
    memcpy(old, err->text, sizeof(old));
    set_text(err, context, old);
}

void obx_err_clear(struct obx_err *err)
{
    if (err != NULL)
        *err = (struct obx_err){.code = OBX_OK};
}
