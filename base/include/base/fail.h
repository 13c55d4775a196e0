/* Errors of the operating system as obx_err. */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#include "obx/err.h"

/**
 * As obx_fail_sys, and puts the system's own text after it: "<text of code>: <formatted context>:
 * <text of sys>". Any thread; strerror(3) by itself is not safe in threads.
 */
enum obx_code obx_fail_errno(struct obx_err *err, enum obx_code code, int sys, const char *fmt, ...)
    OBX_PRINTF(4, 5);

#endif
