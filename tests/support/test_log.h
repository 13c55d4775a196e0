/* The log of a test that runs parts of a program inside itself: lines go to standard error at once,
 * also from a child after fork. */
#ifndef OBX_TEST_LOG_H
#define OBX_TEST_LOG_H

#include <stdio.h>

#include "base/log.h"

static inline void test_log_line(enum log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)ctx;
    (void)fprintf(stderr, "%.*s\n", (int)len, line);
}

#endif
