/* The readers of receipts follow the configuration: started, replaced, ended, never twice. Their
 * servers are not there, which is none of the role's business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/config.h"
#include "daemon/receipts_role.h"
#include "wait.h"

enum { WAIT_MS = 30000, TEXT_MAX = 1024, MANY = 4 };

static struct receipts_role *role;

static int set_up(void **state)
{
    struct obx_err err = {0};

    (void)state;
    return receipts_role_create(&role, &err) == OBX_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    receipts_role_destroy(role);
    role = NULL;
    return 0;
}

/* Two sources; an empty queue: none. */
static void apply(const char *first, const char *second, const char *more)
{
    char text[TEXT_MAX];
    char *no_env[] = {NULL};
    struct cfg_input input = {.path = "relay.conf", .env = no_env};
    struct relay_config *config = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};

    (void)snprintf(text, sizeof(text),
                   "[broker]\naddresses = 127.0.0.1:1\n"
                   "[source a]\nuser = u\nport = 1\ndatabase = d\nreceipt_queue = %s\n%s"
                   "[source b]\nuser = u\nport = 1\ndatabase = e\nreceipt_queue = %s\n",
                   first, more, second);
    input.text = bytes_of(text);
    if (relay_config_load(&input, &config, &problems, &err) != OBX_OK)
        fail_msg("%s %s", err.text, problems.data);
    receipts_role_apply(role, config);
    relay_config_unref(config);
    buf_fini(&problems);
}

static size_t readers(void)
{
    size_t count = 0;

    (void)receipts_role_views(role, &count);
    return count;
}

static bool has_none(void *ctx)
{
    (void)ctx;
    receipts_role_turn(role);
    return receipts_role_is_idle(role);
}

static bool has_one(void *ctx)
{
    (void)ctx;
    receipts_role_turn(role);
    return readers() == 1;
}

/* Another reader is in its place: it counts from zero. */
static bool is_replaced(void *ctx)
{
    const struct receipts_view *views = NULL;
    size_t count = 0;

    (void)ctx;
    receipts_role_turn(role);
    views = receipts_role_views(role, &count);
    return count == 1 && !views[0].stats.has_ended && views[0].stats.failures < MANY;
}

static bool has_failed(void *ctx)
{
    const struct receipts_view *views = NULL;
    size_t count = 0;

    (void)ctx;
    receipts_role_turn(role);
    views = receipts_role_views(role, &count);
    return count > 0 && views[0].stats.failures >= MANY && views[0].stats.trouble[0] != '\0';
}

static void one_for_each_source_that_names_a_queue(void **state)
{
    (void)state;
    receipts_role_turn(role);
    assert_true(receipts_role_is_idle(role));
    apply("rowpost.receipts.a", "", "");
    receipts_role_turn(role);
    receipts_role_turn(role);
    assert_int_equal(readers(), 1);
    apply("rowpost.receipts.a", "rowpost.receipts.b", "");
    receipts_role_turn(role);
    assert_int_equal(readers(), 2);
    apply("", "", "");
    assert_true(wait_until(WAIT_MS, has_none, NULL));
}

/* One that is made from other values now is stopped and started again; the other goes on. */
static void a_change_replaces_its_reader(void **state)
{
    (void)state;
    apply("rowpost.receipts.a", "", "");
    assert_true(wait_until(WAIT_MS, has_failed, NULL));
    apply("rowpost.receipts.a", "", ""); /* the same values: the same reader, failures and all */
    receipts_role_turn(role);
    assert_true(has_failed(NULL));
    apply("rowpost.receipts.a", "", "receipt_retention = 1h\n");
    receipts_role_turn(role);
    assert_true(wait_until(WAIT_MS, is_replaced, NULL));
}

static void a_stop_ends_all(void **state)
{
    (void)state;
    apply("rowpost.receipts.a", "rowpost.receipts.b", "");
    receipts_role_turn(role);
    receipts_role_stop(role);
    assert_true(wait_until(WAIT_MS, has_none, NULL));
    receipts_role_turn(role);
    assert_true(receipts_role_is_idle(role));
    assert_true(receipts_role_is_idle(NULL));
    receipts_role_stop(NULL);
}

static void destroyed_in_the_middle(void **state)
{
    (void)state;
    apply("rowpost.receipts.a", "rowpost.receipts.b", "");
    assert_false(wait_until(1, has_one, NULL)); /* two of them run */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_for_each_source_that_names_a_queue),
        TEST(a_change_replaces_its_reader),
        TEST(a_stop_ends_all),
        TEST(destroyed_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
