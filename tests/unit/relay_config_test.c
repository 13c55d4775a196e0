/*
 * Unit tests of the relay's configuration: the key table, the rules over several keys, and what
 * becomes of the values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/config.h"
#include "config/relay_config.h"
#include "config/relay_keys.h"

#define SOURCE "[source shop]\nuser = u\ndatabase = d\n"

static enum obx_code load(const char *text, char *const *env, struct relay_config **out,
                          struct obx_buf *problems)
{
    const struct cfg_input input = {.path = "relay.conf", .text = bytes_of(text), .env = env};

    return relay_config_load(&input, out, problems, NULL);
}

static struct relay_config *good(const char *text)
{
    struct relay_config *config = NULL;
    struct obx_buf problems = {0};

    if (load(text, NULL, &config, &problems) != OBX_OK)
        fail_msg("%s", problems.data);
    buf_fini(&problems);
    return config;
}

/* The configuration is refused and the problems have this text. */
static void bad(const char *text, const char *expected)
{
    struct relay_config *config = NULL;
    struct obx_buf problems = {0};

    assert_int_equal(load(text, NULL, &config, &problems), OBX_E_CONFIG);
    assert_null(config);
    if (strstr(problems.data, expected) == NULL)
        fail_msg("no \"%s\" in:\n%s", expected, problems.data);
    buf_fini(&problems);
}

/* All of a file, with a NUL behind it. */
static struct obx_buf read_file(const char *path)
{
    struct obx_buf text = {0};
    char part[4096];
    FILE *file = fopen(path, "re");
    size_t got;

    if (file == NULL)
        fail_msg("cannot open %s", path);
    while ((got = fread(part, 1, sizeof(part), file)) > 0)
        assert_int_equal(buf_add(&text, part, got), OBX_OK);
    fclose(file);
    assert_true(text.len > 0);
    return text;
}

/* The text with "#key =" and "#[section]" made into what they stand for; prose begins with "# ".
 * Files of secrets are left out: they are not there, and their key is given already. */
static void uncomment(char *text)
{
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        const char *file = strstr(line, "_file = /run/");

        if (line[0] == '#' && line[1] != ' ' && (file == NULL || file > end))
            line[0] = ' ';
        line = end != NULL ? end + 1 : NULL;
    }
}

static void the_shipped_example_can_be_loaded(void **state)
{
    struct obx_buf text = read_file(OBX_TEST_EXAMPLE_CONFIG);
    struct relay_config *config = good(text.data);

    (void)state;
    assert_int_equal(config->source_count, 1);
    assert_string_equal(config->sources[0].name, "shop");
    assert_int_equal(config->rule_count, 0);
    relay_config_unref(config);
    uncomment(text.data);
    config = good(text.data);
    assert_int_equal(config->rule_count, 1);
    assert_int_equal(config->topology.queue_count, 1);
    relay_config_unref(config);
    buf_fini(&text);
}

static void little_is_needed(void **state)
{
    struct relay_config *config = good(SOURCE);
    const struct source_config *source = &config->sources[0];

    (void)state;
    assert_null(config->name);
    assert_int_equal(config->log_level, LOG_LVL_INFO);
    assert_string_equal(config->http.address, "127.0.0.1");
    assert_int_equal(config->http.port, 8377);
    assert_null(config->doorbell_socket);
    assert_null(config->advertise_address);
    assert_int_equal(config->topology_policy, TOPOLOGY_POLICY_DECLARE);
    assert_int_equal(config->source_count, 1);
    assert_string_equal(source->name, "shop");
    assert_string_equal(source->outboxes[0], "outbox");
    assert_string_equal(source->lane.db.host, "127.0.0.1");
    assert_int_equal(source->lane.db.port, 3306);
    assert_int_equal(source->lane.window, 2000);
    assert_int_equal(source->lane.lease_ms, 10000);
    assert_int_equal(source->lane.drain_ms, 5000);
    assert_int_equal(source->lane.max_body_bytes, 16 * 1024 * 1024);
    assert_string_equal(source->lane.exchange, "rowpost");
    assert_int_equal(config->topology.exchange_count, 1);
    assert_string_equal(config->topology.exchanges[0].name, "rowpost");
    assert_string_equal(config->topology.exchanges[0].type, "topic");
    relay_config_unref(config);
}

static void values_reach_their_places(void **state)
{
    struct relay_config *config =
        good("[relay]\nname = r1\nlog_level = debug\nlog_format = json\nhttp_port = 0\n"
             "doorbell_socket = /run/x/bell\ndoorbell_address = 127.0.0.1:8378\ndrain = 2s\n"
             "[broker]\naddresses = a:1, b:2\nvhost = v\nuser = bu\npassword = bp\ntls = yes\n"
             "tls_verify = no\nheartbeat = 1500ms\ntopology = verify\nexchange = ex\n"
             "[lane]\nwindow = 11\nlease = 30s\n"
             "[source shop]\nsocket = /s\nuser = su\npassword = sp\ndatabase = d\n"
             "outboxes = a, b\ntls = verify-full\nlock_wait = 2500ms\nwindow = 12\n"
             "[source mall]\nhost = h\nport = 3307\nuser = u\ndatabase = e\n");
    const struct source_config *shop = relay_config_source(config, "shop");
    const struct source_config *mall = relay_config_source(config, "mall");

    (void)state;
    assert_string_equal(config->name, "r1");
    assert_int_equal(config->log_level, LOG_LVL_DEBUG);
    assert_int_equal(config->log_format, LOG_FMT_JSON);
    assert_string_equal(config->doorbell_socket, "/run/x/bell");
    assert_string_equal(config->advertise_address, "127.0.0.1:8378");
    assert_int_equal(config->topology_policy, TOPOLOGY_POLICY_VERIFY);
    assert_string_equal(config->broker.addresses, "a:1, b:2");
    assert_true(config->broker.tls.enabled);
    assert_true(config->broker.tls.insecure);
    assert_int_equal(config->broker.heartbeat_s, 2);
    assert_int_equal(relay_config_lane_count(config), 3);
    assert_null(shop->lane.db.host);
    assert_string_equal(shop->lane.db.unix_socket, "/s");
    assert_string_equal(shop->lane.db.password, "sp");
    assert_int_equal(shop->lane.db.tls, DB_TLS_VERIFY_FULL);
    assert_int_equal(shop->lane.db.lock_wait_s, 3);
    assert_int_equal(shop->lane.window, 12);
    assert_int_equal(shop->lane.lease_ms, 30000);
    assert_string_equal(shop->lane.bridge.user, "bu");
    assert_int_equal(mall->lane.window, 11);
    assert_int_equal(mall->lane.db.port, 3307);
    relay_config_unref(config);
}

static void topics_and_topology(void **state)
{
    struct relay_config *config =
        good(SOURCE "[topic order.*]\nexchange = orders\non_park = skip\nmax_attempts = 3\n"
                    "pack = 100\npack_bytes = 64KiB\n"
                    "[topic mail]\nrouting_key = post\nexchange = amq.topic\n"
                    "[exchange orders]\ntype = direct\n"
                    "[queue q1]\nbind = orders:a.b, rowpost:#, rowpost:x:y\n"
                    "arguments = x-delivery-limit=20, x-overflow=reject-publish\n"
                    "[queue q2]\ntype = classic\nsingle_active_consumer = yes\n"
                    "[queue q3]\n");
    const struct topology *topology = &config->topology;

    (void)state;
    assert_int_equal(config->rule_count, 2);
    assert_string_equal(config->rules[0].pattern, "order.*");
    assert_string_equal(config->rules[0].exchange, "orders");
    assert_null(config->rules[0].routing_key);
    assert_int_equal(config->rules[0].on_park, PARK_SKIP);
    assert_int_equal(config->rules[0].max_attempts, 3);
    assert_int_equal(config->rules[0].pack, 100);
    assert_int_equal(config->rules[0].pack_bytes, 65536);
    assert_int_equal(config->rules[1].pack, 1);
    assert_string_equal(config->rules[1].routing_key, "post");
    assert_ptr_equal(config->sources[0].lane.rules, config->rules);
    assert_int_equal(topology->exchange_count, 2); /* the broker's own amq.topic is not declared */
    assert_string_equal(topology->exchanges[0].name, "orders");
    assert_string_equal(topology->exchanges[0].type, "direct");
    assert_int_equal(topology->queue_count, 3);
    assert_string_equal(topology->queues[0].type, "quorum");
    assert_int_equal(topology->queues[0].arg_count, 2);
    assert_string_equal(topology->queues[0].args[0].name, "x-delivery-limit");
    assert_null(topology->queues[0].args[0].text);
    assert_int_equal(topology->queues[0].args[0].number, 20);
    assert_string_equal(topology->queues[0].args[1].text, "reject-publish");
    assert_true(topology->queues[1].single_active_consumer);
    assert_int_equal(topology->queues[1].arg_count, 0); /* a classic queue has no such limit */
    assert_int_equal(topology->queues[2].arg_count, 1);
    assert_string_equal(topology->queues[2].args[0].name, "x-delivery-limit");
    assert_int_equal(topology->queues[2].args[0].number, 2147483647);
    assert_true(topology->queues[2].args[0].is_preferred);
    assert_false(topology->queues[0].args[0].is_preferred); /* somebody's word */
    assert_int_equal(topology->binding_count, 3);
    assert_string_equal(topology->bindings[2].exchange, "rowpost");
    assert_string_equal(topology->bindings[2].routing_key, "x:y");
    assert_string_equal(topology->bindings[2].queue, "q1");
    relay_config_unref(config);
}

/* What is bound reads the same with and without partitions: the word in front is put there. */
static void partitions_make_queues_and_bindings(void **state)
{
    struct relay_config *config =
        good(SOURCE "[broker]\nexchange = orders\n[topic mail]\nexchange = plain\n"
                    "[topic stock]\nexchange = orders\n[topic order]\non_park = skip\n"
                    "[exchange orders]\npartitions = 3\n"
                    "[queue stock]\npartitions = 3\nbind = orders:order.*, orders:#\n"
                    "[queue audit]\nbind = orders:order.*, plain:mail\n");
    const struct topology *topology = &config->topology;

    (void)state;
    assert_int_equal(config->sources[0].lane.partitions, 3);
    assert_int_equal(config->rules[0].partitions, 0);
    assert_int_equal(config->rules[1].partitions, 3);
    assert_int_equal(topology->queue_count, 4);
    assert_string_equal(topology->queues[0].name, "stock.0");
    assert_string_equal(topology->queues[2].name, "stock.2");
    assert_true(topology->queues[2].single_active_consumer);
    assert_string_equal(topology->queues[3].name, "audit");
    assert_false(topology->queues[3].single_active_consumer);
    assert_int_equal(topology->binding_count, 8);
    assert_string_equal(topology->bindings[0].queue, "stock.0");
    assert_string_equal(topology->bindings[0].routing_key, "0.order.*");
    assert_string_equal(topology->bindings[5].queue, "stock.2");
    assert_string_equal(topology->bindings[5].routing_key, "2.#");
    assert_string_equal(topology->bindings[6].routing_key, "*.order.*");
    assert_string_equal(topology->bindings[7].routing_key, "mail");
    assert_int_equal(topology->exchange_count, 2);
    relay_config_unref(config);
}

static void partitions_that_do_not_fit_are_named(void **state)
{
    (void)state;
    bad(SOURCE "[exchange orders]\ntype = direct\npartitions = 4\n",
        "exchange.orders.partitions: needs type = topic");
    bad(SOURCE "[exchange orders]\npartitions = 4\n[queue q]\npartitions = 8\nbind = orders:#\n",
        "queue.q.partitions: is 8, and exchange 'orders' has partitions = 4");
    bad(SOURCE "[queue q]\npartitions = 8\nbind = orders:#\n",
        "queue.q.partitions: is 8, and exchange 'orders' has partitions = 0");
    bad(SOURCE "[exchange orders]\npartitions = 257\n", "exchange.orders.partitions: \"257\"");
}

static void the_environment_alone_will_do(void **state)
{
    static char sources[] = "OBX_SOURCES=shop", user[] = "OBX_SOURCE_SHOP_USER=u",
                database[] = "OBX_SOURCE_SHOP_DATABASE=d", window[] = "OBX_LANE_WINDOW=9",
                port[] = "OBX_RELAY_HTTP_PORT=1234";
    char *const env[] = {sources, user, database, window, port, NULL};
    const struct cfg_input input = {.env = env};
    struct relay_config *config = NULL;
    struct obx_err err = {0};

    (void)state;
    if (relay_config_load(&input, &config, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(config->http.port, 1234);
    assert_int_equal(config->sources[0].lane.window, 9);
    relay_config_unref(config);
}

static void wrong_values_name_file_line_and_key(void **state)
{
    (void)state;
    bad("", "relay.conf: there is no [source NAME] section");
    bad(SOURCE "windwo = 5\n",
        "relay.conf:4: source.shop: unknown key windwo (did you mean window?)");
    bad("[source a/c]\nuser = u\ndatabase = d\n", "relay.conf:1: source.a/c: the name of a source");
    bad(SOURCE "host =\n", "relay.conf:4: source.shop.host: is empty");
    bad(SOURCE "outboxes = a, out-box\n", "relay.conf:4: source.shop.outboxes: 'out-box'");
    bad(SOURCE "[topic a]\npack = 1001\n", "topic.a.pack: \"1001\"");
    bad(SOURCE "[topic a]\npack = 0\n", "topic.a.pack: \"0\"");
    bad(SOURCE "[topic a]\npack_bytes = 5MiB\n", "topic.a.pack_bytes: \"5MiB\"");
    bad(SOURCE "[lane]\nmax_body = 100KiB\n[topic a]\npack = 2\n",
        "topic.a.pack_bytes: is larger than lane.max_body");
    bad(SOURCE "[exchange h]\ntype = headers\n[topic a]\npack = 2\nexchange = h\n",
        "topic.a.pack: cannot be with exchange 'h'");
    bad(SOURCE "outboxes = a, b, a\n", "'a' is there twice");
    /* One table where the server does not tell them apart (lower_case_table_names = 1). */
    bad(SOURCE "outboxes = orders, Orders\n", "'Orders' is there twice");
    /* A lane would publish what is parked, awaited or delayed there, and delete it. */
    bad(SOURCE "outboxes = outbox, outbox_parked\n",
        "relay.conf:4: source.shop.outboxes: 'outbox_parked' is no outbox, but a table beside it");
    bad(SOURCE "outboxes = outbox_delayed\n", "'outbox_delayed' is no outbox");
    bad(SOURCE "outboxes = Outbox_Awaiting\n", "'Outbox_Awaiting' is no outbox");
    bad(SOURCE "outboxes = outbox_audit\n", "'outbox_audit' is no outbox");
    bad(SOURCE "outboxes = half_part\n", "'half_part' is no outbox");
    bad(SOURCE "outboxes = inbox\n", "'inbox' is no outbox");
    bad(SOURCE "lease = 5ms\n",
        "relay.conf:4: source.shop.lease: \"5ms\" does not fit; expected a duration from 1s to 1h, "
        "or 0");
    bad(SOURCE "window = 5\nkey_window = 6\n", "source.shop.key_window: is larger than window");
    bad(SOURCE "[lane]\npoll_min = 1s\n", "lane.poll_min: is longer than poll_max");
    bad(SOURCE "[lane]\nretry_min = 1m\n", "lane.retry_min: is longer than retry_max");
    bad(SOURCE "[lane]\nmax_body = 4KiB\n", "lane.inline_size: is larger than max_body");
    bad(SOURCE "[lane]\nlease = 5s\n", "relay.conf:5: lane.lease: is not longer than relay.drain");
    bad(SOURCE "[broker]\nreconnect_min = 1h\n",
        "broker.reconnect_min: is longer than reconnect_max");
    bad(SOURCE "[broker]\ntls_cert_file = x\n", "broker.tls_key_file: is missing");
    bad(SOURCE "[source s2]\nuser = v\ndatabase = d\n", "belongs to [source shop] already");
    bad(SOURCE "[topic a*b]\n", "relay.conf:4: topic.a*b: a '*' may stand only at the end");
    bad(SOURCE "[queue q]\nbind = nocolon\n",
        "relay.conf:5: queue.q.bind: 'nocolon' is not exchange:routing.key");
    bad(SOURCE "[queue q]\narguments = x-foo\n", "'x-foo' is not x-name=value");
    bad(SOURCE "[queue q]\narguments = x-queue-type=classic\n", "has a key of its own");
}

static void addresses_are_numeric(void **state)
{
    static const char *const wrong[] = {
        "localhost:1",  "127.0.0.1",  "127.0.0.1:0", "127.0.0.1:65536",
        "127.0.0.1:1x", "::1:5",      ":5",          "[::1]",
        "[1.2.3.4]:5",  "127.0.0.1:", "[::1]:",      "127.0.0.1:-1"};
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        snprintf(text, sizeof(text), "[relay]\ndoorbell_address = %s\n" SOURCE, wrong[i]);
        bad(text, "relay.conf:2: relay.doorbell_address: is not a numeric host:port");
    }
    bad("[relay]\nadvertise_address = 1.2.3.4:5\n" SOURCE, "without doorbell_address");
    bad("[relay]\ndoorbell_address = 0.0.0.0:5\nadvertise_address = 0.0.0.0:5\n" SOURCE,
        "stands for all addresses");
    relay_config_unref(good("[relay]\ndoorbell_address = [::1]:8378\n" SOURCE));
}

static void addresses_of_brokers_can_be_read(void **state)
{
    static const char *const wrong[][2] = {
        {"127.0.0.1:abc", "broker port 'abc' is not a number from 1 to 65535"},
        {"a:1, b:0", "broker port '0'"},
        {"a:65536", "broker port '65536'"},
        {"a:", "broker port ''"},
        {"a,,b", "is no host name"},
        {":5672", "is no host name"},
        {"my host", "'my host' is no host name"},
        {"amqp://host:5672", "leave out amqp://"},
        {"amqps://user:secret@host/v", "tls = yes"},
        {"user:secret@host", "not a URL"},
        {"host/vhost", "is no host name"},
        {"::1", "in brackets: [::1]"},
        {"::1:5672", "in brackets"},
        {"[::1", "lacks a closing ]"},
        {"[::1]5672", "in brackets stands an IPv6 address"},
        {"[host]:5672", "in brackets stands an IPv6 address"},
        {"[]:5672", "in brackets stands an IPv6 address"},
    };
    static const char *const right[] = {"host", "10.0.0.1:5673", "[::1]", "[fe80::1]:5672 , b.c",
                                        "rabbit_1.example-2.com:1"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        snprintf(text, sizeof(text), "[broker]\naddresses = %s\n" SOURCE, wrong[i][0]);
        bad(text, "relay.conf:2: broker.addresses: ");
        bad(text, wrong[i][1]);
    }
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        snprintf(text, sizeof(text), "[broker]\naddresses = %s\n" SOURCE, right[i]);
        relay_config_unref(good(text));
    }
}

static void what_listens_everywhere_is_not_advertised(void **state)
{
    struct relay_config *config = good("[relay]\ndoorbell_address = 0.0.0.0:8378\n" SOURCE);

    (void)state;
    assert_null(config->advertise_address);
    relay_config_unref(config);
    config =
        good("[relay]\ndoorbell_address = [::]:8378\nadvertise_address = 10.0.0.1:8378\n" SOURCE);
    assert_string_equal(config->advertise_address, "10.0.0.1:8378");
    relay_config_unref(config);
}

static void expect_same_lane(const char *a, const char *b, bool is_same)
{
    struct relay_config *before = good(a), *after = good(b);

    if (relay_config_is_same(before, after, RESTARTS_LANE, "shop") != is_same)
        fail_msg("\"%s\" against \"%s\" is wrong", a, b);
    relay_config_unref(before);
    relay_config_unref(after);
}

static void a_lane_differs_when_anything_it_is_made_from_does(void **state)
{
    static const char *const changes[] = {"password = x\n",
                                          "host = h\n",
                                          "port = 1\n",
                                          "socket = /s\n",
                                          "tls = required\n",
                                          "read_timeout = 9s\n",
                                          "window = 3\n",
                                          "max_attempts = 4\n",
                                          "settle_age = 9ms\n",
                                          "confirm_timeout = 9s\n",
                                          "[broker]\npassword = x\n",
                                          "[broker]\nexchange = x\n",
                                          "[broker]\ntls = yes\n",
                                          "[topic t]\n",
                                          "[relay]\ndrain = 1s\n",
                                          "[lane]\nsweep = 9s\n"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        snprintf(text, sizeof(text), SOURCE "%s", changes[i]);
        expect_same_lane(SOURCE, text, false);
        expect_same_lane(text, text, true);
    }
    expect_same_lane(SOURCE, SOURCE "lease = 10000ms\noutboxes = outbox, b\n", true);
    expect_same_lane(SOURCE, SOURCE "[relay]\nlog_level = debug\n[queue q]\n", true);
}

/* What half-messages keep until a restart, and what they do not depend on. */
static void a_sources_database_is_known_from_its_lane(void **state)
{
    static const char *const changes[] = {"password = x\n", "host = h\n", "port = 1\n",
                                          "socket = /s\n", "tls = required\n"};
    char text[256];

    (void)state;
    for (size_t i = 0; i <= sizeof(changes) / sizeof(changes[0]); i++) {
        const bool is_lane = i == sizeof(changes) / sizeof(changes[0]);
        struct relay_config *before = good(SOURCE), *after = NULL;

        snprintf(text, sizeof(text), SOURCE "%s", is_lane ? "window = 3\n" : changes[i]);
        after = good(text);
        assert_int_equal(relay_config_is_same(before, after, RESTARTS_DATABASE, "shop"), is_lane);
        relay_config_unref(before);
        relay_config_unref(after);
    }
}

static void expect_same_topology(const char *a, const char *b, bool is_same)
{
    struct relay_config *before = good(a), *after = good(b);

    if (relay_config_is_same(before, after, RESTARTS_TOPOLOGY, NULL) != is_same)
        fail_msg("\"%s\" against \"%s\" is wrong", a, b);
    relay_config_unref(before);
    relay_config_unref(after);
}

static void a_topology_differs_when_any_of_it_does(void **state)
{
    static const char *const queue = SOURCE "[queue q]\nbind = e:k\narguments = x-a=1\n";

    (void)state;
    expect_same_topology(queue, queue, true);
    expect_same_topology(queue, SOURCE "[queue q]\nbind = e:k\narguments = x-a=2\n", false);
    expect_same_topology(queue, SOURCE "[queue q]\nbind = e:k2\narguments = x-a=1\n", false);
    expect_same_topology(queue, SOURCE "[queue r]\nbind = e:k\narguments = x-a=1\n", false);
    expect_same_topology(queue, SOURCE, false);
    expect_same_topology(SOURCE, SOURCE "[broker]\ntopology = verify\n", false);
    expect_same_topology(SOURCE, SOURCE "[broker]\nvhost = v\n", false);
    expect_same_topology(SOURCE, SOURCE "[exchange rowpost]\ntype = direct\n", false);
    expect_same_topology(SOURCE, SOURCE "window = 4\n", true);
}

static bool allow_some(void *ctx)
{
    int *left = ctx;

    return (*left)-- > 0;
}

static void without_memory_nothing_is_half_made(void **state)
{
    static const char *const text = SOURCE "[topic t]\n[queue q]\nbind = e:k\narguments = x-a=b\n";
    enum obx_code rc = OBX_E_NOMEM;
    int allowed = 0;

    (void)state;
    while (rc != OBX_OK) {
        struct relay_config *config = NULL;
        int left = allowed++;

        assert_true(allowed < 10000);
        obx_alloc_set_hook(allow_some, &left);
        rc = load(text, NULL, &config, NULL);
        obx_alloc_set_hook(NULL, NULL);
        assert_true(rc == OBX_OK || rc == OBX_E_NOMEM);
        assert_true((config != NULL) == (rc == OBX_OK));
        relay_config_unref(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_example_can_be_loaded),
        cmocka_unit_test(little_is_needed),
        cmocka_unit_test(values_reach_their_places),
        cmocka_unit_test(topics_and_topology),
        cmocka_unit_test(partitions_make_queues_and_bindings),
        cmocka_unit_test(partitions_that_do_not_fit_are_named),
        cmocka_unit_test(the_environment_alone_will_do),
        cmocka_unit_test(wrong_values_name_file_line_and_key),
        cmocka_unit_test(addresses_are_numeric),
        cmocka_unit_test(addresses_of_brokers_can_be_read),
        cmocka_unit_test(what_listens_everywhere_is_not_advertised),
        cmocka_unit_test(a_lane_differs_when_anything_it_is_made_from_does),
        cmocka_unit_test(a_sources_database_is_known_from_its_lane),
        cmocka_unit_test(a_topology_differs_when_any_of_it_does),
        cmocka_unit_test(without_memory_nothing_is_half_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
