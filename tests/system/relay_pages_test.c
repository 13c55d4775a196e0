/*
 * The pages of the real outbox-relay: /healthz, /readyz, /metrics, /status with right numbers after
 * known traffic, read by a strict reader of Prometheus' format; on the loopback alone unless told
 * otherwise; and alive whatever comes in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cut_proxy.h"
#include "http_raw.h"
#include "program_rig.h"
#include "prom_text.h"
#include "wait.h"

#define LANE "{source=\"shop\",outbox=\"outbox\"}"

static void read_metrics(struct program_rig *rig, unsigned i, struct prom_text *out)
{
    struct obx_buf body = {0};

    assert_int_equal(rig_get(rig, i, "/metrics", &body), 200);
    prom_read(body.data, out);
    buf_fini(&body);
}

static void expect_series(const struct prom_text *text, const char *series, double value)
{
    const double found = prom_value(text, series);

    if (found < value || found > value)
        fail_msg("%s is %g, not %g", series, found, value);
}

/* Every number that the contract names is there, with its type. */
static void every_metric_is_there(void **state)
{
    static const struct {
        const char *name, *type;
    } wanted[] = {
        {"rowpost_rows_waiting", "gauge"},
        {"rowpost_rows_waiting_capped", "gauge"},
        {"rowpost_oldest_age_seconds", "gauge"},
        {"rowpost_published_total", "counter"},
        {"rowpost_confirmed_total", "counter"},
        {"rowpost_returned_total", "counter"},
        {"rowpost_nacked_total", "counter"},
        {"rowpost_parked_total", "counter"},
        {"rowpost_parked_rows", "gauge"},
        {"rowpost_db_connects_total", "counter"},
        {"rowpost_broker_connects_total", "counter"},
        {"rowpost_broker_blocked", "gauge"},
        {"rowpost_broker_blocked_total", "counter"},
        {"rowpost_lease_held", "gauge"},
        {"rowpost_lease_epoch", "gauge"},
        {"rowpost_lease_lost_total", "counter"},
        {"rowpost_lane_state", "gauge"},
        {"rowpost_commit_to_confirm_seconds", "histogram"},
        {"rowpost_publish_to_confirm_seconds", "histogram"},
        {"rowpost_ready", "gauge"},
        {"process_resident_memory_bytes", "gauge"},
        {"process_cpu_seconds_total", "counter"},
    };
    struct program_rig *rig = *state;
    struct prom_text text;

    rig_start_ready(rig, 0, NULL);
    read_metrics(rig, 0, &text);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const struct prom_family *family = prom_find(&text, wanted[i].name);

        if (family == NULL || family->count == 0)
            fail_msg("%s is not there", wanted[i].name);
        assert_string_equal(family->type, wanted[i].type);
    }
    prom_fini(&text);
}

/* Known traffic: 7 rows that go out, 2 that nobody takes (3 tries each), 1 that is too large. */
static void numbers_after_known_traffic(void **state)
{
    struct program_rig *rig = *state;
    struct prom_text text;

    rig_start_ready(rig, 0, NULL);
    rig_fill(rig, "outbox", "t.x", 7, 0);
    rig_fill(rig, "outbox", "n.x", 2, 0);
    rig_sql(rig, "INSERT INTO outbox (topic, payload) VALUES (REPEAT('x', 255), '')");
    rig_wait_empty(rig, "outbox");
    rig_wait_number(rig, 3, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_lane_metric(rig, 0, "rowpost_parked_total", 3);
    rig_wait_lane_metric(rig, 0, "rowpost_settled_total", 7);
    rig_wait_lane_metric(rig, 0, "rowpost_parked_rows", 3);
    read_metrics(rig, 0, &text);
    expect_series(&text, "rowpost_read_total" LANE, 10);
    expect_series(&text, "rowpost_confirmed_total" LANE, 7);
    expect_series(&text, "rowpost_returned_total" LANE, 9);
    expect_series(&text, "rowpost_published_total" LANE, 16);
    expect_series(&text, "rowpost_nacked_total" LANE, 0);
    expect_series(&text, "rowpost_settled_total" LANE, 7);
    expect_series(&text, "rowpost_inflight" LANE, 0);
    /* Less what was confirmed while the database's clock was not known. */
    assert_true(prom_value(&text, "rowpost_commit_to_confirm_seconds_count" LANE) >= 1);
    assert_true(prom_value(&text, "rowpost_commit_to_confirm_seconds_count" LANE) <= 7);
    assert_true(prom_value(&text, "rowpost_publish_to_confirm_seconds_count" LANE) >= 7);
    assert_true(prom_value(&text, "rowpost_commit_to_confirm_seconds_sum" LANE) > 0);
    expect_series(&text, "rowpost_lease_held" LANE, 1);
    expect_series(&text, "rowpost_lease_epoch" LANE, 1);
    expect_series(&text, "rowpost_broker_up" LANE, 1);
    expect_series(&text, "rowpost_ready", 1);
    expect_series(&text, "rowpost_lane_state{source=\"shop\",outbox=\"outbox\",state=\"owner\"}",
                  1);
    prom_fini(&text);
}

/* A full queue that rejects: nacks are counted, the rows wait and are counted with their age. */
static void waiting_rows_and_nacks(void **state)
{
    static const struct broker_arg full[] = {{.name = "x-max-length", .number = 1},
                                             {.name = "x-overflow", .text = "reject-publish"}};
    struct program_rig *rig = *state;

    broker_queue(rig->admin, rig->queue, full, 2);
    rig_start_ready(rig, 0, WORDS("OBX_BROKER_TOPOLOGY=no"));
    broker_exchange(rig->admin, rig->exchange);
    broker_bind(rig->admin, rig->queue, rig->exchange, "t.x");
    rig_fill(rig, "outbox", "t.x", 20, 0);
    rig_wait_lane_metric(rig, 0, "rowpost_nacked_total", 20);
    rig_wait_lane_metric(rig, 0, "rowpost_rows_waiting", 15);
    rig_wait_lane_metric(rig, 0, "rowpost_retrying", 15);
    rig_wait_lane_metric(rig, 0, "rowpost_oldest_age_seconds", 0.001);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    broker_queue(rig->admin, rig->queue, NULL, 0); /* one with room */
    broker_bind(rig->admin, rig->queue, rig->exchange, "t.x");
    rig_wait_empty(rig, "outbox");
}

/* Names that need escaping, several lanes, several states: still one strict page. */
static void pages_stay_valid_in_trouble(void **state)
{
    struct program_rig *rig = *state;
    struct prom_text text;
    struct obx_buf body = {0};

    rig_start(rig, 0,
              WORDS("OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_gone", "OBX_SOURCES=a.b-c",
                    "OBX_SOURCE_A_B_C_USER=u", "OBX_SOURCE_A_B_C_DATABASE=d",
                    "OBX_SOURCE_A_B_C_PORT=1"));
    rig_wait_unready(rig, 0, "a.b-c");
    read_metrics(rig, 0, &text);
    expect_series(&text, "rowpost_ready", 0);
    expect_series(&text, "rowpost_lane_ready{source=\"a.b-c\",outbox=\"outbox\"}", 0);
    prom_fini(&text);
    assert_int_equal(rig_get(rig, 0, "/status", &body), 200);
    assert_non_null(strstr(body.data, "\"ready\":false"));
    assert_non_null(strstr(body.data, "\"outbox\":\"outbox_gone\""));
    assert_int_equal(rig_get(rig, 0, "/healthz", &body), 200);
    buf_fini(&body);
}

static bool can_connect(uint32_t address, uint16_t port)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_connected = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;

    (void)close(fd);
    return is_connected;
}

static void on_the_loopback_alone(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    assert_true(can_connect(INADDR_LOOPBACK, rig->http_ports[0]));
    assert_false(can_connect(INADDR_LOOPBACK + 1, rig->http_ports[0])); /* 127.0.0.2 */
    rig_start_ready(rig, 1, WORDS("OBX_RELAY_HTTP_ADDRESS=0.0.0.0"));
    assert_true(can_connect(INADDR_LOOPBACK + 1, rig->http_ports[1]));
    /* A port that is taken, and an address that is not ours: an end with a reason. */
    rig_start(rig, 2, WORDS("OBX_RELAY_HTTP_ADDRESS=192.0.2.1"));
    assert_int_equal(rig_wait_end(rig, 2), 1);
    assert_true(rig_has_logged(rig, 2, "cannot listen on http://192.0.2.1"));
    rig->http_ports[3] = rig->http_ports[0];
    rig_start(rig, 3, NULL);
    assert_int_equal(rig_wait_end(rig, 3), 1);
    assert_true(rig_has_logged(rig, 3, "Address already in use"));
}

static int ask(struct program_rig *rig, const char *request, struct obx_buf *answer)
{
    return http_raw_request(rig->http_ports[0], request, strlen(request), answer);
}

static void bad_requests(void **state)
{
    struct program_rig *rig = *state;
    struct obx_buf answer = {0};
    struct obx_buf large = {0};

    rig_start_ready(rig, 0, NULL);
    assert_int_equal(ask(rig, "POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer), 405);
    assert_non_null(strstr(answer.data, "Allow: GET, HEAD\r\n"));
    assert_int_equal(ask(rig, "GET /metric HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer), 404);
    assert_int_equal(ask(rig, "GET /metrics HTTP/2.0\r\n\r\n", &answer), 505);
    assert_int_equal(ask(rig, "BEGONE\r\n\r\n", &answer), 400);
    assert_int_equal(ask(rig, "GET metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer), 400);
    assert_int_equal(ask(rig, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer), 200);
    assert_null(strstr(answer.data, "ok\n"));
    assert_int_equal(ask(rig, "GET /healthz?a=b HTTP/1.0\r\n\r\n", &answer), 200);
    assert_int_equal(buf_add_text(&large, "GET /healthz HTTP/1.1\r\nX: "), OBX_OK);
    for (unsigned i = 0; i < 20000; i++)
        assert_int_equal(buf_add_text(&large, "y"), OBX_OK);
    assert_int_equal(ask(rig, large.data, &answer), 431);
    assert_int_equal(ask(rig, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer), 200);
    buf_fini(&large);
    buf_fini(&answer);
    rig_stop(rig, 0);
}

/* A thousand open connections cost the relay no descriptor that it needs. */
static void a_thousand_connections(void **state)
{
    struct program_rig *rig = *state;
    char address[64];
    struct cut_proxy *proxy = cut_proxy_create(rig->broker.host, (uint16_t)rig->broker.port);
    static int crowd[900];

    assert_non_null(proxy);
    snprintf(address, sizeof(address), "OBX_BROKER_ADDRESSES=127.0.0.1:%u",
             (unsigned)cut_proxy_port(proxy));
    rig_start_ready(rig, 0, WORDS(address));
    for (size_t i = 0; i < sizeof(crowd) / sizeof(crowd[0]); i++)
        crowd[i] = http_raw_connect(rig->http_ports[0]);
    assert_true(rig_metric(rig, 0, "process_open_fds") < 150);
    cut_proxy_cut_all(proxy); /* it can still connect */
    rig_fill(rig, "outbox", "t.x", 10, 0);
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, 0);
    for (size_t i = 0; i < sizeof(crowd) / sizeof(crowd[0]); i++) {
        if (crowd[i] >= 0)
            (void)close(crowd[i]);
    }
    rig_stop(rig, 0);
    cut_proxy_destroy(proxy);
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_metric_is_there),  CASE(numbers_after_known_traffic),
        CASE(waiting_rows_and_nacks), CASE(pages_stay_valid_in_trouble),
        CASE(on_the_loopback_alone),  CASE(bad_requests),
        CASE(a_thousand_connections),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
