/*
 * Unit tests of outbox-relay/daemon/doorbell/doorbell: its sockets, with an event loop that the test
 * turns by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/doorbell/doorbell.h"
#include "obx/doorbell.h"
#include "wait.h"

struct fixture {
    struct event_base *base;
    struct doorbell *doorbell;
    char dir[64];
    char path[96];
    char udp[32];
    unsigned rings;
    unsigned turns;
    bool is_known;
    bool is_forwarded; /* of the last ring */
    unsigned wanted;
};

static bool on_ring(const struct bell_msg *msg, void *ctx)
{
    struct fixture *fix = ctx;

    fix->rings++;
    fix->is_forwarded = msg->forwarded;
    return fix->is_known;
}

static void on_turn_end(void *ctx)
{
    struct fixture *fix = ctx;

    fix->turns++;
}

static enum obx_code open_bell(struct fixture *fix, struct doorbell **out, struct obx_err *err)
{
    const struct doorbell_opts opts = {.base = fix->base,
                                       .socket_path = fix->path,
                                       .udp_address = fix->udp[0] == '\0' ? NULL : fix->udp,
                                       .on_ring = on_ring,
                                       .on_turn_end = on_turn_end,
                                       .ctx = fix};

    return doorbell_create(&opts, out, err);
}

static void pick_udp(struct fixture *fix)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    close(fd);
    snprintf(fix->udp, sizeof(fix->udp), "127.0.0.1:%u", (unsigned)ntohs(addr.sin_port));
}

static int start(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_non_null(fix);
    fix->is_known = true;
    fix->base = event_base_new();
    snprintf(fix->dir, sizeof(fix->dir), "/tmp/obx-bell-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    snprintf(fix->path, sizeof(fix->path), "%s/bell", fix->dir);
    pick_udp(fix);
    assert_int_equal(open_bell(fix, &fix->doorbell, NULL), OBX_OK);
    *state = fix;
    return 0;
}

static int stop(void **state)
{
    struct fixture *fix = *state;

    doorbell_destroy(fix->doorbell);
    assert_int_equal(access(fix->path, F_OK), -1);
    assert_int_equal(rmdir(fix->dir), 0);
    event_base_free(fix->base);
    free(fix);
    return 0;
}

static bool has_rung(void *ctx)
{
    struct fixture *fix = ctx;

    event_base_loop(fix->base, EVLOOP_NONBLOCK);
    return fix->rings >= fix->wanted;
}

static void expect_rings(struct fixture *fix, unsigned count)
{
    fix->wanted = count;
    assert_true(wait_until(10000, has_rung, fix));
    event_base_loop(fix->base, EVLOOP_NONBLOCK);
    assert_int_equal(fix->rings, count);
}

static void the_socket_is_for_owner_and_group(void **state)
{
    struct fixture *fix = *state;
    struct stat st;

    assert_int_equal(stat(fix->path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0660);
}

static void rings_come_in_by_both_ways(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(obx_doorbell_ring(fix->path, "outbox", NULL), OBX_OK);
    expect_rings(fix, 1);
    assert_false(fix->is_forwarded);
    assert_true(doorbell_pass_on(fix->doorbell, fix->udp, "shop", "outbox"));
    expect_rings(fix, 2);
    assert_true(fix->is_forwarded);
    assert_true(fix->turns >= 2);
}

static void rubbish_is_counted_and_ignored(void **state)
{
    struct fixture *fix = *state;
    struct bell_stats stats = {0};

    assert_int_equal(obx_doorbell_ring(fix->path, "no/such/thing", NULL), OBX_OK);
    assert_int_equal(obx_doorbell_ring(fix->path, "{}", NULL), OBX_OK);
    fix->is_known = false;
    assert_int_equal(obx_doorbell_ring(fix->path, "other", NULL), OBX_OK);
    expect_rings(fix, 1);
    doorbell_get_stats(fix->doorbell, &stats);
    assert_int_equal(stats.rings, 1);
    assert_int_equal(stats.malformed, 2);
    assert_int_equal(stats.unknown, 1);
}

static void a_flood_is_taken_in_portions(void **state)
{
    struct fixture *fix = *state;
    unsigned sent = 0;

    while (obx_doorbell_ring(fix->path, "outbox", NULL) == OBX_OK && sent < 100000)
        sent++;
    assert_true(sent > 0);
    expect_rings(fix, sent);
}

static void a_living_socket_is_not_taken_over(void **state)
{
    struct fixture *fix = *state;
    struct doorbell *second = NULL;
    struct obx_err err = {0};

    assert_int_equal(open_bell(fix, &second, &err), OBX_E_CONFIG);
    assert_null(second);
    assert_non_null(strstr(err.text, "another process"));
    assert_int_equal(obx_doorbell_ring(fix->path, "outbox", NULL), OBX_OK);
    expect_rings(fix, 1);
}

static void a_dead_socket_is_replaced(void **state)
{
    struct fixture *fix = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    doorbell_destroy(fix->doorbell);
    fix->doorbell = NULL;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", fix->path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
    assert_int_equal(open_bell(fix, &fix->doorbell, NULL), OBX_OK);
    assert_int_equal(obx_doorbell_ring(fix->path, "outbox", NULL), OBX_OK);
    expect_rings(fix, 1);
}

static void a_file_is_left_alone(void **state)
{
    struct fixture *fix = *state;
    struct obx_err err = {0};
    FILE *file;

    doorbell_destroy(fix->doorbell);
    fix->doorbell = NULL;
    file = fopen(fix->path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(open_bell(fix, &fix->doorbell, &err), OBX_E_CONFIG);
    assert_null(fix->doorbell);
    assert_int_equal(access(fix->path, F_OK), 0);
    unlink(fix->path);
}

/* A successor's socket of the same path is not removed by the one that goes. */
static void only_our_own_file_is_removed(void **state)
{
    struct fixture *fix = *state;
    struct doorbell *successor = NULL;

    assert_int_equal(unlink(fix->path), 0);
    fix->udp[0] = '\0';
    assert_int_equal(open_bell(fix, &successor, NULL), OBX_OK);
    doorbell_destroy(fix->doorbell);
    fix->doorbell = successor;
    assert_int_equal(access(fix->path, F_OK), 0);
}

static void an_address_in_use_is_an_error(void **state)
{
    struct fixture *fix = *state;
    struct doorbell *second = NULL;
    struct obx_err err = {0};

    fix->path[strlen(fix->path) - 1] = 'x';
    assert_int_equal(open_bell(fix, &second, &err), OBX_E_CONFIG);
    assert_non_null(strstr(err.text, fix->udp));
    assert_int_equal(access(fix->path, F_OK), -1);
    fix->path[strlen(fix->path) - 1] = 'l';
}

static void passing_on_needs_a_numeric_address(void **state)
{
    struct fixture *fix = *state;

    assert_false(doorbell_pass_on(fix->doorbell, "relay.example:8378", "shop", "outbox"));
    assert_false(doorbell_pass_on(fix->doorbell, "", "shop", "outbox"));
    assert_false(doorbell_pass_on(fix->doorbell, fix->udp, "sh op", "outbox"));
}

int main(void)
{
#define BELL_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        BELL_TEST(the_socket_is_for_owner_and_group),
        BELL_TEST(rings_come_in_by_both_ways),
        BELL_TEST(rubbish_is_counted_and_ignored),
        BELL_TEST(a_flood_is_taken_in_portions),
        BELL_TEST(a_living_socket_is_not_taken_over),
        BELL_TEST(a_dead_socket_is_replaced),
        BELL_TEST(a_file_is_left_alone),
        BELL_TEST(only_our_own_file_is_removed),
        BELL_TEST(an_address_in_use_is_an_error),
        BELL_TEST(passing_on_needs_a_numeric_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
