/*
 * Unit tests of tests/support/process, with the programs that every Debian has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"
#include "wait.h"

enum {
    SOON_MS = 20000,
};

static char log_path[64];

static int make_log(void **state)
{
    int fd = -1;

    (void)state;
    (void)snprintf(log_path, sizeof(log_path), "/tmp/obx-process-test-XXXXXX");
    fd = mkstemp(log_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_log(void **state)
{
    (void)state;
    return unlink(log_path);
}

static struct proc *start_shell(const char *script, const char *const *env)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    const struct proc_opts opts = {.argv = argv, .env = env, .log_path = log_path};

    return proc_start(&opts);
}

static void reports_the_exit_status(void **state)
{
    struct proc *proc = start_shell("exit 7", NULL);
    struct proc_exit how = {0};

    (void)state;
    assert_non_null(proc);
    assert_true(proc_wait(proc, SOON_MS, &how));
    assert_int_equal(how.code, 7);
    assert_int_equal(how.signal, 0);
    assert_false(proc_is_alive(proc));
    assert_false(proc_signal(proc, SIGTERM));
    proc_destroy(proc);
}

static void reports_the_signal_that_ended_it(void **state)
{
    struct proc *proc = start_shell("exec sleep 100", NULL);
    struct proc_exit how = {0};

    (void)state;
    assert_non_null(proc);
    assert_true(proc_signal(proc, SIGTERM));
    assert_true(proc_wait(proc, SOON_MS, &how));
    assert_int_equal(how.signal, SIGTERM);
    assert_int_equal(how.code, -1);
    proc_destroy(proc);
}

static void wait_gives_up_on_a_child_that_goes_on(void **state)
{
    struct proc *proc = start_shell("exec sleep 100", NULL);

    (void)state;
    assert_non_null(proc);
    assert_false(proc_wait(proc, 20, NULL));
    assert_true(proc_is_alive(proc));
    proc_destroy(proc);
}

static void a_missing_program_is_not_started(void **state)
{
    const char *const argv[] = {"/nonexistent/program", NULL};
    const struct proc_opts opts = {.argv = argv};

    (void)state;
    assert_null(proc_start(&opts));
}

static void the_environment_is_added_to_ours(void **state)
{
    const char *const env[] = {"OBX_PROCESS_A=two", "OBX_PROCESS_AB=three", NULL};
    struct proc *proc = NULL;

    (void)state;
    assert_int_equal(setenv("OBX_PROCESS_A", "one", 1), 0);
    assert_int_equal(setenv("OBX_PROCESS_C", "kept", 1), 0);
    proc = start_shell("echo \"$OBX_PROCESS_A $OBX_PROCESS_AB $OBX_PROCESS_C\"", env);
    assert_non_null(proc);
    assert_true(proc_wait(proc, SOON_MS, NULL));
    assert_true(proc_log_has(proc, 0, "two three kept\n"));
    proc_destroy(proc);
}

static void waits_for_a_line_after_a_place_in_the_log(void **state)
{
    struct proc *proc = start_shell("echo ready; read line; echo again", NULL);
    int64_t from = 0;

    (void)state;
    assert_non_null(proc);
    assert_true(proc_wait_log(proc, from, "ready", SOON_MS));
    from = proc_log_size(proc);
    assert_true(from >= 6);
    assert_true(proc_wait_log(proc, 0, "again", SOON_MS));
    assert_false(
        proc_wait_log(proc, 6, "ready", SOON_MS)); /* the child has ended: no use to wait */
    proc_destroy(proc);
}

/* The grandchild is ours to reap: the test is its subreaper. */
static bool is_reaped(void *ctx)
{
    const pid_t *pid = ctx;

    return waitpid(*pid, NULL, WNOHANG) == *pid;
}

/* A grandchild in the background must die with its group. */
static void kill_takes_the_whole_group(void **state)
{
    struct proc *proc = start_shell("sleep 100 & echo \"child $!.\"; wait", NULL);
    FILE *log = NULL;
    int number = 0;
    pid_t grandchild = 0;

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    assert_non_null(proc);
    assert_true(proc_wait_log(proc, 0, ".\n", SOON_MS));
    log = fopen(log_path, "re");
    assert_non_null(log);
    assert_int_equal(fscanf(log, "child %d", &number), 1);
    assert_int_equal(fclose(log), 0);
    grandchild = number;
    assert_int_equal(kill(grandchild, 0), 0);
    proc_kill(proc);
    assert_false(proc_is_alive(proc));
    assert_true(wait_until(SOON_MS, is_reaped, &grandchild));
    proc_destroy(proc);
}

static void a_stopped_child_is_alive_and_goes_on(void **state)
{
    struct proc *proc =
        start_shell("trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done", NULL);
    struct proc_exit how = {0};

    (void)state;
    assert_non_null(proc);
    assert_true(proc_wait_log(proc, 0, "up", SOON_MS));
    assert_true(proc_signal(proc, SIGSTOP));
    assert_true(proc_signal(proc, SIGTERM));
    assert_false(proc_wait(proc, 100, NULL));
    assert_true(proc_is_alive(proc));
    assert_true(proc_signal(proc, SIGCONT));
    assert_true(proc_wait(proc, SOON_MS, &how));
    assert_int_equal(how.code, 3);
    proc_destroy(proc);
}

static void inherits_no_open_file(void **state)
{
    struct proc *proc = NULL;
    struct proc_exit how = {0};
    const int fd = fcntl(0, F_DUPFD, 50);
    char script[64] = "";

    (void)state;
    assert_true(fd >= 50);
    (void)snprintf(script, sizeof(script), "test ! -e /proc/$$/fd/%d", fd);
    proc = start_shell(script, NULL);
    assert_non_null(proc);
    assert_true(proc_wait(proc, SOON_MS, &how));
    assert_int_equal(how.code, 0);
    close(fd);
    proc_destroy(proc);
}

static void run_kills_at_the_deadline(void **state)
{
    const char *const slow[] = {"sleep", "100", NULL};
    const char *const quick[] = {"true", NULL};
    struct proc_exit how = {.code = 99};

    (void)state;
    assert_false(proc_run(&(struct proc_opts){.argv = slow}, 20, &how));
    assert_true(proc_run(&(struct proc_opts){.argv = quick}, SOON_MS, &how));
    assert_int_equal(how.code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reports_the_exit_status, make_log, remove_log),
        cmocka_unit_test_setup_teardown(reports_the_signal_that_ended_it, make_log, remove_log),
        cmocka_unit_test_setup_teardown(wait_gives_up_on_a_child_that_goes_on, make_log,
                                        remove_log),
        cmocka_unit_test(a_missing_program_is_not_started),
        cmocka_unit_test_setup_teardown(the_environment_is_added_to_ours, make_log, remove_log),
        cmocka_unit_test_setup_teardown(waits_for_a_line_after_a_place_in_the_log, make_log,
                                        remove_log),
        cmocka_unit_test_setup_teardown(kill_takes_the_whole_group, make_log, remove_log),
        cmocka_unit_test_setup_teardown(a_stopped_child_is_alive_and_goes_on, make_log, remove_log),
        cmocka_unit_test_setup_teardown(inherits_no_open_file, make_log, remove_log),
        cmocka_unit_test(run_kills_at_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
