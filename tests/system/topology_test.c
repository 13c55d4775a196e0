/*
 * Topology declared and verified on a real broker: what is the same is success, what differs or is
 * missing says so by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bridge/topology.h"
#include "broker.h"

#define EXCHANGE "topology_test_x"
#define QUEUE    "topology_test_q"
#define OTHER    "topology_test_q2"

enum { SHORT_MS = 300 };

struct fixture {
    struct broker broker;
    struct broker_admin *admin;
    struct bridge_opts opts;
    char addresses[400];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    if (!broker_from_env(&f->broker)) {
        print_message("no broker: eval \"$(tests/support/servers env)\"\n");
        free(f);
        return -1;
    }
    f->admin = broker_admin_open(&f->broker);
    broker_delete_queue(f->admin, QUEUE);
    broker_delete_queue(f->admin, OTHER);
    broker_delete_exchange(f->admin, EXCHANGE);
    f->opts = (struct bridge_opts){.addresses = f->broker.address,
                                   .vhost = f->broker.vhost,
                                   .user = f->broker.user,
                                   .password = f->broker.password,
                                   .connection_name = "topology_test"};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    broker_delete_queue(f->admin, QUEUE);
    broker_delete_queue(f->admin, OTHER);
    broker_delete_exchange(f->admin, EXCHANGE);
    broker_admin_close(f->admin);
    free(f);
    return 0;
}

static const struct topology_exchange exchanges[] = {{.name = EXCHANGE, .type = "topic"}};
static const struct topology_arg args[] = {
    {.name = "x-delivery-limit", .number = 20},
    {.name = "x-overflow", .text = "reject-publish"},
};
static const struct topology_queue queues[] = {
    {.name = QUEUE, .args = args, .arg_count = 2},
    {.name = OTHER, .type = "classic", .single_active_consumer = true},
};
static const struct topology_binding bindings[] = {
    {.exchange = EXCHANGE, .queue = QUEUE, .routing_key = "order.#"},
    {.exchange = EXCHANGE, .queue = OTHER, .routing_key = "order.#"},
};
static const struct topology whole = {
    .exchanges = exchanges,
    .exchange_count = 1,
    .queues = queues,
    .queue_count = 2,
    .bindings = bindings,
    .binding_count = 2,
};

static void expect(const struct fixture *f, const struct topology *topology,
                   enum topology_mode mode, enum obx_code code, struct obx_err *err)
{
    const enum obx_code rc = bridge_topology_apply(&f->opts, topology, mode, err);

    if (rc != code)
        fail_msg("%s instead of %s: %s", obx_code_name(rc), obx_code_name(code), err->text);
}

static void declares_and_then_finds_it_the_same(void **state)
{
    const struct fixture *f = *state;
    struct obx_err err = {0};

    expect(f, &whole, TOPOLOGY_DECLARE, OBX_OK, &err);
    expect(f, &whole, TOPOLOGY_DECLARE, OBX_OK, &err);
    expect(f, &whole, TOPOLOGY_VERIFY, OBX_OK, &err);
    assert_int_equal(bridge_topology_apply(&f->opts, &whole, TOPOLOGY_DECLARE, NULL), OBX_OK);
}

static void a_queue_without_arguments_is_like_a_classic_one(void **state)
{
    const struct fixture *f = *state;
    const struct topology_queue queue = {.name = QUEUE, .type = "classic"};
    const struct topology topology = {.queues = &queue, .queue_count = 1};
    struct obx_err err = {0};

    broker_queue(f->admin, QUEUE, NULL, 0);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_OK, &err);
}

static void a_queue_of_another_type_is_named_with_both_sides(void **state)
{
    const struct fixture *f = *state;
    const struct broker_arg classic = {.name = "x-queue-type", .text = "classic"};
    struct obx_err err = {0};

    const struct topology_queue queue = {.name = QUEUE};
    const struct topology topology = {.queues = &queue, .queue_count = 1};

    broker_queue(f->admin, QUEUE, &classic, 1);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, QUEUE));
    assert_non_null(strstr(err.text, "quorum"));
    assert_non_null(strstr(err.text, "classic"));
    assert_int_equal(err.sys, 406);
}

struct warnings {
    unsigned count;
    char text[OBX_ERR_TEXT_MAX];
};

static void on_warning(const char *text, void *ctx)
{
    struct warnings *warnings = ctx;

    warnings->count++;
    (void)snprintf(warnings->text, sizeof(warnings->text), "%s", text);
}

/* Quorum queues are made with a limit that is never reached. One that is there without it (made by
 * an older version) or with another one is taken, with a warning; any other difference is not. */
static void a_delivery_limit_of_its_own_is_taken_with_a_warning(void **state)
{
    const struct fixture *f = *state;
    const struct topology_arg limit = {.name = TOPOLOGY_DELIVERY_LIMIT_ARG,
                                       .number = TOPOLOGY_DELIVERY_LIMIT,
                                       .is_preferred = true};
    const struct broker_arg there[] = {{.name = "x-queue-type", .text = "quorum"},
                                       {.name = "x-delivery-limit", .number = 20},
                                       {.name = "x-max-length", .number = 5}};
    const struct topology_queue queue = {.name = QUEUE, .args = &limit, .arg_count = 1};
    struct warnings warnings = {0};
    const struct topology topology = {
        .queues = &queue, .queue_count = 1, .on_warning = on_warning, .ctx = &warnings};
    struct obx_err err = {0};

    broker_queue(f->admin, QUEUE, there, 1);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_OK, &err);
    assert_int_equal(warnings.count, 1);
    assert_non_null(strstr(warnings.text, "x-delivery-limit"));
    broker_queue(f->admin, QUEUE, there, 2);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_OK, &err);
    assert_int_equal(warnings.count, 2);
    assert_non_null(strstr(warnings.text, "20"));
    broker_delete_queue(f->admin, QUEUE);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_OK, &err); /* made */
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_OK, &err);
    assert_int_equal(warnings.count, 2);
    broker_queue(f->admin, QUEUE, (const struct broker_arg[]){there[0], there[2]}, 2);
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_MQ_TOPOLOGY, &err);
}

static void an_exchange_of_another_type_is_named_with_both_sides(void **state)
{
    const struct fixture *f = *state;
    struct obx_err err = {0};

    broker_exchange(f->admin, EXCHANGE);
    expect(f, &whole, TOPOLOGY_DECLARE, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, EXCHANGE));
    assert_non_null(strstr(err.text, "topic"));
    assert_non_null(strstr(err.text, "direct"));
    /* The rest was declared all the same. */
    assert_int_equal(broker_count(f->admin, QUEUE), 0);
    assert_int_equal(broker_count(f->admin, OTHER), 0);
}

static void verify_names_what_is_missing_and_counts_it(void **state)
{
    const struct fixture *f = *state;
    struct obx_err err = {0};

    expect(f, &whole, TOPOLOGY_VERIFY, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, EXCHANGE));
    assert_non_null(strstr(err.text, "3 refused"));
    assert_int_equal(err.sys, 404);
    broker_exchange(f->admin, EXCHANGE);
    broker_queue(f->admin, QUEUE, NULL, 0);
    expect(f, &whole, TOPOLOGY_VERIFY, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, OTHER));
    assert_null(strstr(err.text, "refused, first"));
}

static void verify_changes_nothing(void **state)
{
    const struct fixture *f = *state;
    struct obx_err err = {0};

    expect(f, &whole, TOPOLOGY_VERIFY, OBX_E_MQ_TOPOLOGY, &err);
    expect(f, &whole, TOPOLOGY_VERIFY, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, "3 refused"));
}

static void a_binding_to_a_missing_exchange_is_refused(void **state)
{
    const struct fixture *f = *state;
    const struct topology topology = {
        .queues = queues, .queue_count = 1, .bindings = bindings, .binding_count = 1};
    struct obx_err err = {0};

    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_MQ_TOPOLOGY, &err);
    assert_non_null(strstr(err.text, EXCHANGE));
}

static void bad_names_are_configuration_errors(void **state)
{
    const struct fixture *f = *state;
    char name[257];
    const struct topology_queue queue = {.name = name};
    const struct topology topology = {.queues = &queue, .queue_count = 1};
    struct obx_err err = {0};

    memset(name, 'q', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_CONFIG, &err);
    name[0] = '\0';
    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_CONFIG, &err);
}

static void a_reserved_name_is_a_missing_permission(void **state)
{
    const struct fixture *f = *state;
    const struct topology_queue queue = {.name = "amq.not-ours"};
    const struct topology topology = {.queues = &queue, .queue_count = 1};
    struct obx_err err = {0};

    expect(f, &topology, TOPOLOGY_DECLARE, OBX_E_MQ_DENIED, &err);
    assert_non_null(strstr(err.text, "amq.not-ours"));
}

static void check_logs_in_and_nothing_more(void **state)
{
    const struct fixture *f = *state;
    struct obx_err err = {0};

    assert_int_equal(bridge_check(&f->opts, &err), OBX_OK);
    assert_int_equal(bridge_check(&f->opts, NULL), OBX_OK);
}

static void check_tells_a_wrong_password_without_showing_it(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};

    f->opts.password = "wrong-secret";
    assert_int_equal(bridge_check(&f->opts, &err), OBX_E_MQ_AUTH);
    assert_int_equal(err.sys, 403);
    assert_null(strstr(err.text, "wrong-secret"));
    assert_non_null(strstr(err.text, f->broker.address));
}

static void check_tells_a_wrong_vhost(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};

    f->opts.vhost = "no-such-vhost";
    assert_int_equal(bridge_check(&f->opts, &err), OBX_E_MQ_AUTH);
    assert_non_null(strstr(err.text, "no-such-vhost"));
}

static void check_tells_that_nobody_listens(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};

    f->opts.addresses = "127.0.0.1:1";
    assert_int_equal(bridge_check(&f->opts, &err), OBX_E_MQ_CONNECT);
    assert_non_null(strstr(err.text, "127.0.0.1:1"));
    assert_non_null(strstr(err.text, "refused"));
}

static void check_tries_all_addresses(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};

    (void)snprintf(f->addresses, sizeof(f->addresses), "127.0.0.1:1, %s ,127.0.0.1:2",
                   f->broker.address);
    f->opts.addresses = f->addresses;
    for (int i = 0; i < 5; i++)
        assert_int_equal(bridge_check(&f->opts, &err), OBX_OK);
}

static void check_does_not_wait_longer_than_its_timeout(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};
    uint64_t start_ms;

    /* TEST-NET-1: packets go nowhere, or the machine has no route at all. */
    f->opts.addresses = "192.0.2.1";
    f->opts.connect_timeout_ms = SHORT_MS;
    start_ms = clock_now_ms();
    assert_int_equal(bridge_check(&f->opts, &err), OBX_E_MQ_CONNECT);
    assert_true(clock_now_ms() - start_ms < SHORT_MS + 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(declares_and_then_finds_it_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_queue_without_arguments_is_like_a_classic_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_queue_of_another_type_is_named_with_both_sides, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_delivery_limit_of_its_own_is_taken_with_a_warning, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_exchange_of_another_type_is_named_with_both_sides, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(verify_names_what_is_missing_and_counts_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(verify_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_binding_to_a_missing_exchange_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(bad_names_are_configuration_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reserved_name_is_a_missing_permission, setup, teardown),
        cmocka_unit_test_setup_teardown(check_logs_in_and_nothing_more, setup, teardown),
        cmocka_unit_test_setup_teardown(check_tells_a_wrong_password_without_showing_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(check_tells_a_wrong_vhost, setup, teardown),
        cmocka_unit_test_setup_teardown(check_tells_that_nobody_listens, setup, teardown),
        cmocka_unit_test_setup_teardown(check_tries_all_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(check_does_not_wait_longer_than_its_timeout, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
