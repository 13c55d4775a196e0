/*
 * Named crash points: the places where a kill hurts most. With OBX_CRASH_POINTS the environment
 * variable OBX_CRASH="name" or "name:N" kills the process (SIGKILL, nothing flushed) when the point
 * is passed the first or the Nth time; "name:N:stop" stops it there (SIGSTOP) until it is
 * continued, so that a test can do something to others meanwhile. Without, the macro is empty. List
 * in tests/crash/points.txt, which a test compares with the code.
 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#ifdef OBX_CRASH_POINTS
void crash_point(const char *name);
#define OBX_CRASH_POINT(name) crash_point(name)
#else
#define OBX_CRASH_POINT(name) ((void)0)
#endif

/* For states that cannot be: logs the expression and place, then aborts; on in release builds too;
 * never for input. */
#define OBX_ASSERT(cond) ((cond) ? (void)0 : obx_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void obx_assert_failed(const char *expression, const char *file, int line);

#endif
