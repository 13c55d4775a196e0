/*
 * Servers that are absent at start, go away, come back: the real outbox-relay says what is wrong,
 * stays alive, works again by itself, and loses nothing. Proxies stand in for servers that are
 * away; relay_restart_test restarts the servers themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cut_proxy.h"
#include "program_rig.h"
#include "wait.h"

/* Both servers behind proxies. */
struct away {
    struct cut_proxy *db, *broker;
    char db_port[48], addresses[64];
};

static void go_between(struct away *away, const struct program_rig *rig)
{
    away->db = cut_proxy_create(rig->relay.opts.host, rig->relay.opts.port);
    away->broker = cut_proxy_create(rig->broker.host, (uint16_t)rig->broker.port);
    assert_non_null(away->db);
    assert_non_null(away->broker);
    snprintf(away->db_port, sizeof(away->db_port), "OBX_SOURCE_SHOP_PORT=%u",
             (unsigned)cut_proxy_port(away->db));
    snprintf(away->addresses, sizeof(away->addresses), "OBX_BROKER_ADDRESSES=127.0.0.1:%u",
             (unsigned)cut_proxy_port(away->broker));
}

static void end_between(struct away *away)
{
    cut_proxy_destroy(away->db);
    cut_proxy_destroy(away->broker);
}

static void take_away(struct cut_proxy *proxy)
{
    cut_proxy_set_refuse(proxy, true);
    cut_proxy_cut_all(proxy);
}

static void bring_back(struct cut_proxy *proxy)
{
    cut_proxy_set_refuse(proxy, false);
}

static void assert_healthy(struct program_rig *rig)
{
    struct obx_buf body = {0};

    assert_int_equal(rig_get(rig, 0, "/healthz", &body), 200);
    assert_string_equal(body.data, "ok\n");
    buf_fini(&body);
}

static void database_absent_at_start(void **state)
{
    struct program_rig *rig = *state;
    struct away away;

    go_between(&away, rig);
    take_away(away.db);
    rig_start(rig, 0, WORDS(away.db_port, away.addresses));
    rig_wait_unready(rig, 0, "cannot connect to the database");
    assert_healthy(rig);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    bring_back(away.db);
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    end_between(&away);
}

static void broker_absent_at_start(void **state)
{
    struct program_rig *rig = *state;
    struct away away;

    go_between(&away, rig);
    take_away(away.broker);
    rig_start(rig, 0, WORDS(away.db_port, away.addresses));
    rig_wait_unready(rig, 0, "cannot connect to the broker");
    assert_healthy(rig);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    bring_back(away.broker);
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    assert_int_equal(broker_count(rig->admin, rig->queue), 1);
    end_between(&away);
}

/* Either one goes while the relay works, and comes back; then both at once. */
static void gone_and_back(void **state)
{
    struct program_rig *rig = *state;
    struct away away;

    go_between(&away, rig);
    rig_start_ready(rig, 0, WORDS(away.db_port, away.addresses));
    for (unsigned round = 1; round <= 3; round++) {
        if ((round & 1U) != 0)
            take_away(away.db);
        if ((round & 2U) != 0)
            take_away(away.broker);
        rig_wait_unready(rig, 0, round == 2 ? "broker" : "database");
        assert_healthy(rig);
        rig_fill(rig, "outbox", "t.x", 100, 3);
        bring_back(away.db);
        bring_back(away.broker);
        rig_wait_empty(rig, "outbox");
        rig_wait_ready(rig, 0);
    }
    assert_true(broker_count(rig->admin, rig->queue) >= 300);
    assert_true(rig_lane_metric(rig, 0, "rowpost_db_connects_total") >= 3);
    assert_true(rig_lane_metric(rig, 0, "rowpost_broker_connects_total") >= 3);
    rig_stop(rig, 0);
    end_between(&away);
}

/* A server that takes connections and says nothing must not stop the pages, nor the other half. */
static void servers_that_say_nothing(void **state)
{
    struct program_rig *rig = *state;
    struct away away;

    go_between(&away, rig);
    rig_start_ready(rig, 0,
                    WORDS(away.db_port, away.addresses, "OBX_SOURCE_SHOP_READ_TIMEOUT=1s",
                          "OBX_SOURCE_SHOP_CONNECT_TIMEOUT=1s", "OBX_BROKER_CONNECT_TIMEOUT=1s"));
    cut_proxy_set_flow(away.db, CUT_TO_CLIENT, CUT_HOLD);
    rig_wait_unready(rig, 0, "database");
    assert_healthy(rig);
    cut_proxy_set_flow(away.db, CUT_TO_CLIENT, CUT_PASS);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    end_between(&away);
}

/* What is wrong at start and is fixed later needs no restart. */
static void wrong_at_start_and_fixed(void **state)
{
    struct program_rig *rig = *state;

    rig_sql(rig, "RENAME TABLE outbox_lease TO away");
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_start(rig, 0, NULL);
    rig_wait_unready(rig, 0, "outbox_lease");
    rig_sql(rig, "RENAME TABLE away TO outbox_lease");
    rig_wait_empty(rig, "outbox");
    rig_stop(rig, 0);

    rig_sql(rig, "INSERT INTO rowpost_schema (side, version, name) VALUES ('producer', 1000, 'x')");
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_start(rig, 0, NULL);
    rig_wait_unready(rig, 0, "upgrade the program");
    rig_sql(rig, "DELETE FROM rowpost_schema WHERE version = 1000");
    rig_wait_empty(rig, "outbox");
    rig_stop(rig, 0);

    rig_sql(rig, "REVOKE DELETE ON `%s`.`outbox` FROM '%s'@'%%'", rig->test_db.name,
            rig->relay.name);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_start(rig, 0, NULL);
    rig_wait_unready(rig, 0, "DELETE command denied");
    rig_sql(rig, "GRANT DELETE ON `%s`.`outbox` TO '%s'@'%%'", rig->test_db.name, rig->relay.name);
    rig_wait_empty(rig, "outbox");
}

static void wrong_passwords(void **state)
{
    struct program_rig *rig = *state;
    char real[192];

    rig_start(rig, 0, WORDS("OBX_SOURCE_SHOP_PASSWORD=a-wrong-secret"));
    rig_wait_unready(rig, 0, "Access denied");
    assert_false(rig_has_logged(rig, 0, "a-wrong-secret"));
    rig_stop(rig, 0);
    rig_start(rig, 1, WORDS("OBX_BROKER_PASSWORD=a-wrong-secret"));
    rig_wait_unready(rig, 1, "ACCESS_REFUSED");
    assert_false(rig_has_logged(rig, 1, "a-wrong-secret"));
    rig_stop(rig, 1);
    /* The account gets the password that the relay has: no restart. */
    rig_sql(rig, "ALTER USER '%s'@'%%' IDENTIFIED BY 'Other-1-Password'", rig->relay.name);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_start(rig, 2, NULL);
    rig_wait_unready(rig, 2, "Access denied");
    snprintf(real, sizeof(real), "ALTER USER '%s'@'%%' IDENTIFIED BY '%s'", rig->relay.name,
             rig->relay.opts.password);
    rig_sql(rig, "%s", real);
    rig_wait_empty(rig, "outbox");
}

/* topology = verify: nothing is published before exchange and queue are there. */
static void missing_topology_then_created(void **state)
{
    struct program_rig *rig = *state;
    const char *const env[] = {"OBX_BROKER_TOPOLOGY=verify", NULL};

    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_start(rig, 0, env);
    rig_wait_unready(rig, 0, "404");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 1);
    rig_start_ready(rig, 1, NULL); /* this one declares */
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    rig_stop(rig, 1);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
}

/* The queue is deleted under a working relay: the row is returned, tried again, parked, resumed. */
static void queue_deleted_and_made_again(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    broker_delete_queue(rig->admin, rig->queue);
    rig_insert(rig, "outbox", "t.x", "k", "b");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_lane_metric(rig, 0, "rowpost_returned_total", 3);
    broker_queue(rig->admin, rig->queue, NULL, 0);
    broker_bind(rig->admin, rig->queue, rig->exchange, "t.#");
    if (rig_run_ctl(rig, NULL, WORDS("parked", "resume", "--all", "--wait", "50")) != 0)
        fail_msg("%s", rig->out.data);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    assert_int_equal(broker_count(rig->admin, rig->queue), 1);
}

/* Under a connection that lives nobody says that an exchange is gone, but the next message. */
static void exchange_deleted_and_declared_again(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, WORDS("OBX_LANE_MAX_ATTEMPTS=1000"));
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
    broker_delete_exchange(rig->admin, rig->exchange);
    rig_fill(rig, "outbox", "t.x", 100, 3);
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    assert_int_equal(broker_count(rig->admin, rig->queue), 101);
    assert_true(rig_lane_metric(rig, 0, "rowpost_broker_connects_total") == 1);
}

/* One that may not declare it says so, for as long as it is missing. */
static void exchange_deleted_under_one_that_verifies(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 1, NULL); /* this one declares, and ends */
    rig_stop(rig, 1);
    rig_start_ready(rig, 0, WORDS("OBX_BROKER_TOPOLOGY=verify", "OBX_LANE_MAX_ATTEMPTS=1000"));
    broker_delete_exchange(rig->admin, rig->exchange);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_unready(rig, 0, "404");
    broker_topic_exchange(rig->admin, rig->exchange);
    broker_bind(rig->admin, rig->queue, rig->exchange, "t.#");
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
}

/* A queue that is there with other arguments: told, and nobody else's affair. */
static void a_refused_queue_holds_up_nobody(void **state)
{
    struct program_rig *rig = *state;
    const struct broker_arg other = {.name = "x-max-length", .number = 7};
    struct obx_buf text = {0};

    broker_queue(rig->admin, "relay_outage_refused", &other, 1);
    rig_config_text(rig, &text);
    assert_int_equal(buf_add_text(&text, "[queue relay_outage_refused]\ntype = classic\n"), OBX_OK);
    rig_write(rig, "relay.conf", text.data, rig->config);
    buf_fini(&text);
    rig_start(rig, 0, NULL);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
    rig_wait_unready(rig, 0, "relay_outage_refused");
    assert_int_equal(broker_count(rig->admin, rig->queue), 1);
    broker_delete_queue(rig->admin, "relay_outage_refused");
}

/* Long before the row is parked it is said which topic no queue takes. */
static void an_unroutable_topic_is_told_at_once(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, WORDS("OBX_LANE_MAX_ATTEMPTS=1000"));
    rig_insert(rig, "outbox", "nowhere.x", NULL, "b");
    rig_wait_unready(rig, 0, "routing key 'nowhere.x'");
    rig_wait_log(rig, 0, "message.returned");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    broker_bind(rig->admin, rig->queue, rig->exchange, "nowhere.#");
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(database_absent_at_start),
        CASE(broker_absent_at_start),
        CASE(gone_and_back),
        CASE(servers_that_say_nothing),
        CASE(wrong_at_start_and_fixed),
        CASE(wrong_passwords),
        CASE(missing_topology_then_created),
        CASE(queue_deleted_and_made_again),
        CASE(exchange_deleted_and_declared_again),
        CASE(exchange_deleted_under_one_that_verifies),
        CASE(a_refused_queue_holds_up_nobody),
        CASE(an_unroutable_topic_is_told_at_once),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
