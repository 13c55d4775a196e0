/*
 * Unit tests of outbox-relay/daemon/notify, with a socket of this process in the place of the
 * service manager.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/notify.h"

struct manager {
    int fd;
    char name[64];
};

/* An abstract socket, so that nothing is left behind. */
static int open_manager(void **state)
{
    static struct manager manager;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len;

    snprintf(manager.name, sizeof(manager.name), "@obx-notify-test-%ld", (long)getpid());
    len = strlen(manager.name);
    memcpy(addr.sun_path + 1, manager.name + 1, len - 1);
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(manager.fd >= 0);
    assert_int_equal(bind(manager.fd, (const struct sockaddr *)&addr,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
                     0);
    setenv("NOTIFY_SOCKET", manager.name, 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    *state = &manager;
    return 0;
}

static int close_manager(void **state)
{
    struct manager *manager = *state;

    close(manager->fd);
    unsetenv("NOTIFY_SOCKET");
    return 0;
}

static void expect_text(const struct manager *manager, const char *text)
{
    char got[512] = {0};

    assert_true(recv(manager->fd, got, sizeof(got) - 1, 0) > 0);
    assert_string_equal(got, text);
}

static void expect_nothing(const struct manager *manager)
{
    char got[512];

    assert_int_equal(recv(manager->fd, got, sizeof(got), 0), -1);
}

static void sends_each_state(void **state)
{
    struct notify *notify = notify_open();

    assert_non_null(notify);
    notify_ready(notify);
    expect_text(*state, "READY=1");
    notify_stopping(notify);
    expect_text(*state, "STOPPING=1");
    notify_watchdog(notify);
    expect_text(*state, "WATCHDOG=1");
    notify_close(notify);
}

static void a_reload_carries_the_monotonic_time(void **state)
{
    const struct manager *manager = *state;
    struct notify *notify = notify_open();
    char got[128] = {0};

    notify_reloading(notify);
    assert_true(recv(manager->fd, got, sizeof(got) - 1, 0) > 0);
    assert_memory_equal(got,
                        "RELOADING=1\nMONOTONIC_USEC=", strlen("RELOADING=1\nMONOTONIC_USEC="));
    assert_true(strtoull(got + strlen("RELOADING=1\nMONOTONIC_USEC="), NULL, 10) > 0);
    notify_close(notify);
}

static void a_status_is_sent_when_it_changes(void **state)
{
    struct notify *notify = notify_open();

    notify_status(notify, "2 lanes work");
    notify_status(notify, "2 lanes work");
    notify_status(notify, "1 lane waits");
    expect_text(*state, "STATUS=2 lanes work");
    expect_text(*state, "STATUS=1 lane waits");
    expect_nothing(*state);
    notify_close(notify);
}

/* The manager stands still and its queue is full: nobody waits for it, and the next word comes
 * through when it reads again. */
static void a_manager_that_stands_still_is_not_waited_for(void **state)
{
    enum { MORE_THAN_A_QUEUE = 5000 };
    const struct manager *manager = *state;
    struct notify *notify = notify_open();
    char got[512];
    int count = 0;

    assert_non_null(notify);
    for (int i = 0; i < MORE_THAN_A_QUEUE; i++)
        notify_watchdog(notify);
    while (recv(manager->fd, got, sizeof(got), 0) > 0)
        count++;
    assert_in_range(count, 1, MORE_THAN_A_QUEUE - 1);
    notify_stopping(notify);
    expect_text(manager, "STOPPING=1");
    notify_close(notify);
}

static void the_watchdog_is_for_one_process(void **state)
{
    struct notify *notify;
    char pid[32];

    (void)state;
    setenv("WATCHDOG_USEC", "30000000", 1);
    notify = notify_open();
    assert_int_equal(notify_watchdog_us(notify), 30000000);
    notify_close(notify);
    setenv("WATCHDOG_PID", "1", 1);
    notify = notify_open();
    assert_int_equal(notify_watchdog_us(notify), 0);
    notify_close(notify);
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    setenv("WATCHDOG_USEC", "often", 1);
    notify = notify_open();
    assert_int_equal(notify_watchdog_us(notify), 0);
    notify_close(notify);
}

static void without_a_manager_all_calls_do_nothing(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_null(notify_open());
    setenv("NOTIFY_SOCKET", "relative/path", 1);
    assert_null(notify_open());
    notify_ready(NULL);
    notify_status(NULL, "x");
    notify_stopping(NULL);
    assert_int_equal(notify_watchdog_us(NULL), 0);
    notify_close(NULL);
    expect_nothing(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sends_each_state, open_manager, close_manager),
        cmocka_unit_test_setup_teardown(a_reload_carries_the_monotonic_time, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(a_status_is_sent_when_it_changes, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(a_manager_that_stands_still_is_not_waited_for, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(the_watchdog_is_for_one_process, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(without_a_manager_all_calls_do_nothing, open_manager,
                                        close_manager),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
