/* Unit tests of base/crash.h: each case in a child, because the point of a crash point is to die.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crash.h"

/* Runs body in a child with OBX_CRASH=spec and stderr shut; returns its wait status. */
static int status_of(const char *spec, void (*body)(void))
{
    int status = -1;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(99);
        if (spec != NULL)
            setenv("OBX_CRASH", spec, 1);
        else
            unsetenv("OBX_CRASH");
        signal(SIGABRT, SIG_DFL);
        body();
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool was_killed(int status, int signo)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == signo;
}

static bool has_survived(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

static void pass_confirmed_twice(void)
{
    OBX_CRASH_POINT("confirmed-not-marked");
    OBX_CRASH_POINT("other");
    OBX_CRASH_POINT("confirmed-not-marked");
}

static void a_point_is_passed_unharmed_when_nobody_asks(void **state)
{
    (void)state;
    assert_true(has_survived(status_of(NULL, pass_confirmed_twice)));
    assert_true(has_survived(status_of("", pass_confirmed_twice)));
}

#ifdef OBX_CRASH_POINTS
static void pass_confirmed_once(void)
{
    OBX_CRASH_POINT("confirmed-not-marked");
}

static void the_named_point_kills(void **state)
{
    (void)state;
    assert_true(was_killed(status_of("confirmed-not-marked", pass_confirmed_once), SIGKILL));
    assert_true(has_survived(status_of("confirmed", pass_confirmed_twice)));
}

static void the_nth_pass_kills_and_no_other(void **state)
{
    (void)state;
    assert_true(has_survived(status_of("confirmed-not-marked:2", pass_confirmed_once)));
    assert_true(was_killed(status_of("confirmed-not-marked:2", pass_confirmed_twice), SIGKILL));
    assert_true(has_survived(status_of("confirmed-not-marked:3", pass_confirmed_twice)));
}

static void a_malformed_request_is_loud(void **state)
{
    static const char *const specs[] = {"x:", "x:0", "x:-1", "x:1a", "x:a"};

    (void)state;
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
        assert_true(was_killed(status_of(specs[i], pass_confirmed_once), SIGABRT));
}
#else
static void without_crash_points_nothing_kills(void **state)
{
    (void)state;
    assert_true(has_survived(status_of("confirmed-not-marked", pass_confirmed_twice)));
}
#endif

static void assert_true_statement(void)
{
    OBX_ASSERT(1 + 1 == 2);
}

static void assert_false_statement(void)
{
    OBX_ASSERT(1 + 1 == 3);
}

static void a_failed_assertion_aborts(void **state)
{
    (void)state;
    assert_true(has_survived(status_of(NULL, assert_true_statement)));
    assert_true(was_killed(status_of(NULL, assert_false_statement), SIGABRT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_is_passed_unharmed_when_nobody_asks),
#ifdef OBX_CRASH_POINTS
        cmocka_unit_test(the_named_point_kills),
        cmocka_unit_test(the_nth_pass_kills_and_no_other),
        cmocka_unit_test(a_malformed_request_is_loud),
#else
        cmocka_unit_test(without_crash_points_nothing_kills),
#endif
        cmocka_unit_test(a_failed_assertion_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
