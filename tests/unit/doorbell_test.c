/*
 * Unit tests of obx_doorbell_ring, the application's end of the doorbell, against a socket of this
 * process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "obx/doorbell.h"

struct bell {
    char dir[64];
    char path[96];
    int fd;
};

static int open_bell(void **state)
{
    struct bell *bell = calloc(1, sizeof(*bell));
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    assert_non_null(bell);
    snprintf(bell->dir, sizeof(bell->dir), "/tmp/obx-bell-XXXXXX");
    assert_non_null(mkdtemp(bell->dir));
    snprintf(bell->path, sizeof(bell->path), "%s/sock", bell->dir);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", bell->path);
    bell->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(bell->fd >= 0);
    assert_int_equal(bind(bell->fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    *state = bell;
    return 0;
}

static int close_bell(void **state)
{
    struct bell *bell = *state;

    close(bell->fd);
    unlink(bell->path);
    rmdir(bell->dir);
    free(bell);
    return 0;
}

static void sends_the_name_as_one_datagram(void **state)
{
    struct bell *bell = *state;
    struct obx_err err = {0};
    char got[200];

    assert_int_equal(obx_doorbell_ring(bell->path, "shop/outbox", &err), OBX_OK);
    assert_int_equal(recv(bell->fd, got, sizeof(got), 0), (ssize_t)strlen("shop/outbox"));
    assert_memory_equal(got, "shop/outbox", strlen("shop/outbox"));
}

static void sends_an_empty_datagram_for_all_lanes(void **state)
{
    struct bell *bell = *state;
    char got[200];

    assert_int_equal(obx_doorbell_ring(bell->path, NULL, NULL), OBX_OK);
    assert_int_equal(recv(bell->fd, got, sizeof(got), 0), 0);
    assert_int_equal(recv(bell->fd, got, sizeof(got), 0), -1);
}

static void says_that_nobody_listens(void **state)
{
    struct bell *bell = *state;
    struct obx_err err = {0};

    close(bell->fd);
    assert_int_equal(obx_doorbell_ring(bell->path, "outbox", &err), OBX_E_SYSTEM);
    assert_int_equal(err.sys, ECONNREFUSED);
    unlink(bell->path);
    assert_int_equal(obx_doorbell_ring(bell->path, "outbox", &err), OBX_E_SYSTEM);
    assert_int_equal(err.sys, ENOENT);
    assert_non_null(strstr(err.text, bell->path));
}

static void never_blocks_on_a_full_queue(void **state)
{
    struct bell *bell = *state;
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    for (int i = 0; i < 100000 && rc == OBX_OK; i++)
        rc = obx_doorbell_ring(bell->path, "outbox", &err);
    assert_int_equal(rc, OBX_E_FULL);
}

static void refuses_names_that_are_too_long(void **state)
{
    struct bell *bell = *state;
    char name[512];

    memset(name, 'a', sizeof(name));
    name[151] = '\0';
    assert_int_equal(obx_doorbell_ring(bell->path, name, NULL), OBX_E_INVALID);
    name[0] = '/';
    assert_int_equal(obx_doorbell_ring(name, NULL, NULL), OBX_E_INVALID);
    assert_int_equal(obx_doorbell_ring("", NULL, NULL), OBX_E_INVALID);
    assert_int_equal(obx_doorbell_ring(NULL, NULL, NULL), OBX_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sends_the_name_as_one_datagram, open_bell, close_bell),
        cmocka_unit_test_setup_teardown(sends_an_empty_datagram_for_all_lanes, open_bell,
                                        close_bell),
        cmocka_unit_test_setup_teardown(says_that_nobody_listens, open_bell, close_bell),
        cmocka_unit_test_setup_teardown(never_blocks_on_a_full_queue, open_bell, close_bell),
        cmocka_unit_test_setup_teardown(refuses_names_that_are_too_long, open_bell, close_bell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
