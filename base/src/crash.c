/*
 * Crash points and assertions. The only mutable state is the parsed OBX_CRASH: read once per
 * process, so that passing a point costs one comparison. A malformed value aborts: a crash test
 * whose point never fires would pass without having tested anything.
 */
#include "base/crash.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#ifdef OBX_CRASH_POINTS
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t parsed = PTHREAD_ONCE_INIT;
static char wanted[64];         /* "" when no point is wanted */
static atomic_long passes_left; /* fires when this reaches zero */
static bool is_stop;            /* and then stops the process instead of killing it */

static void parse_wanted(void)
{
    const char *spec = getenv("OBX_CRASH");
    size_t name_len = spec == NULL ? 0 : strcspn(spec, ":");
    char *end = NULL;
    long count = 1;

    if (name_len == 0)
        return;
    OBX_ASSERT(name_len < sizeof(wanted));
    if (spec[name_len] == ':') {
        count = strtol(spec + name_len + 1, &end, 10);
        is_stop = strcmp(end, ":stop") == 0;
        OBX_ASSERT(count > 0 && (*end == '\0' || is_stop));
    }
    memcpy(wanted, spec, name_len);
    atomic_store(&passes_left, count);
}

void crash_point(const char *name)
{
    pthread_once(&parsed, parse_wanted);
    if (strcmp(name, wanted) != 0 || atomic_fetch_sub(&passes_left, 1) != 1)
        return;
    kill(getpid(), is_stop ? SIGSTOP : SIGKILL);
    if (is_stop)
        return;
    /* The signal may reach another thread first; this one must not take a step past the point. */
    for (;;)
        pause();
}
#endif

enum { FLUSH_MS = 500 };

_Noreturn void obx_assert_failed(const char *expression, const char *file, int line)
{
    if (log_enabled(LOG_LVL_ERROR)) {
        OBX_LOG(LOG_LVL_ERROR, "base", "assertion.failed", KV_STR("expression", expression),
                KV_STR("file", file), KV_I64("line", line));
        log_flush(FLUSH_MS);
    } else {
        fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expression);
    }
    abort();
}
