/* Unit tests of base/thread.h and base/wake.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/wake.h"

static void *note_mask(void *ctx)
{
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, ctx), 0);
    return NULL;
}

static void a_thread_takes_no_signal_but_its_own_faults(void **state)
{
    struct thread thread = {0};
    sigset_t theirs, before, after;

    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(thread_start(&thread, note_mask, &theirs, "a test", NULL), OBX_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    thread_join(&thread);
    for (int number = 1; number < SIGRTMIN; number++)
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    assert_true(sigismember(&theirs, SIGTERM));
    assert_true(sigismember(&theirs, SIGHUP));
    assert_true(sigismember(&theirs, SIGPIPE));
    assert_true(sigismember(&theirs, SIGUSR1));
    assert_false(sigismember(&theirs, SIGSEGV));
    assert_false(sigismember(&theirs, SIGABRT));
}

static void joining_again_or_what_never_ran_does_nothing(void **state)
{
    struct thread thread = {0};
    sigset_t mask;

    (void)state;
    thread_join(&thread);
    assert_int_equal(thread_start(&thread, note_mask, &mask, "a test", NULL), OBX_OK);
    assert_true(thread.is_started);
    thread_join(&thread);
    assert_false(thread.is_started);
    thread_join(&thread);
}

static void a_timed_wait_ends_without_a_signal_of_the_condition(void **state)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    uint64_t from_ms = clock_now_ms();

    (void)state;
    cond_init(&cond);
    pthread_mutex_lock(&lock);
    while (cond_wait_ms(&cond, &lock, 1005)) /* crosses a second: the nanoseconds carry over */
        ;
    pthread_mutex_unlock(&lock);
    assert_true(clock_now_ms() - from_ms >= 1000);
    pthread_cond_destroy(&cond);
}

struct pair {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_set;
};

static void *set(void *ctx)
{
    struct pair *pair = ctx;

    pthread_mutex_lock(&pair->lock);
    pair->is_set = true;
    pthread_cond_signal(&pair->cond);
    pthread_mutex_unlock(&pair->lock);
    return NULL;
}

static void a_timed_wait_is_woken(void **state)
{
    struct pair pair = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct thread thread = {0};

    (void)state;
    cond_init(&pair.cond);
    pthread_mutex_lock(&pair.lock);
    assert_int_equal(thread_start(&thread, set, &pair, "a test", NULL), OBX_OK);
    while (!pair.is_set)
        assert_true(cond_wait_ms(&pair.cond, &pair.lock, 60000));
    pthread_mutex_unlock(&pair.lock);
    thread_join(&thread);
    pthread_cond_destroy(&pair.cond);
}

static void wakes_add_up_until_they_are_cleared(void **state)
{
    struct wake wake;
    struct pollfd readable;

    (void)state;
    assert_int_equal(wake_init(&wake, NULL), OBX_OK);
    readable = (struct pollfd){.fd = wake.fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 0), 0);
    assert_int_equal(wake_clear(&wake), 0);
    errno = ENOENT;
    wake_up(&wake);
    wake_up(&wake);
    assert_int_equal(errno, ENOENT);
    wake_wait(&wake, -1);
    assert_int_equal(poll(&readable, 1, 0), 1);
    assert_int_equal(wake_clear(&wake), 2);
    assert_int_equal(poll(&readable, 1, 0), 0);
    wake_fini(&wake);
    assert_int_equal(wake.fd, -1);
    wake_fini(&wake);
}

int main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_thread_takes_no_signal_but_its_own_faults),
        cmocka_unit_test(joining_again_or_what_never_ran_does_nothing),
        cmocka_unit_test(a_timed_wait_ends_without_a_signal_of_the_condition),
        cmocka_unit_test(a_timed_wait_is_woken),
        cmocka_unit_test(wakes_add_up_until_they_are_cleared),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
