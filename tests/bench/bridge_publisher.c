/*
 * The same work as bare_publisher, over the bridge: mandatory messages, returns watched for, an
 * outcome for each. The ratio of the two is what the bridge costs (or saves).
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "bridge/publisher.h"
#include "publish_opts.h"

struct bench {
    struct publish_opts opts;
    struct bridge_publisher *pub;
    struct bridge_message msg;
    uint64_t published;
    uint64_t confirmed;
};

_Noreturn static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bridge_publisher: %s: %s\n", what, why);
    exit(1);
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct bench *bench = ctx;

    (void)token;
    if (outcome != PUB_CONFIRMED)
        die(pub_outcome_name(outcome), why != NULL ? why : "");
    bench->confirmed++;
}

static void create(struct bench *bench)
{
    char address[300];
    const struct bridge_publisher_opts opts = {
        .bridge = {.addresses = address,
                   .vhost = bench->opts.vhost,
                   .user = bench->opts.user,
                   .password = bench->opts.password,
                   .connection_name = "bridge_publisher"},
        .window = (uint32_t)bench->opts.window,
        .on_result = on_result,
        .ctx = bench,
    };
    struct obx_err err = {0};

    (void)snprintf(address, sizeof(address), "%s:%d", bench->opts.host, bench->opts.port);
    if (bridge_publisher_create(&opts, &bench->pub, &err) != OBX_OK)
        die("create", err.text);
}

static void wait_turn(struct bench *bench)
{
    struct pollfd pfd = {.fd = bridge_publisher_fd(bench->pub), .events = POLLIN};

    (void)poll(&pfd, 1, clock_left_ms(bridge_publisher_next_due_ms(bench->pub)));
    bridge_publisher_service(bench->pub);
}

static void publish(struct bench *bench)
{
    char id[PUBLISH_ID_LEN + 1];
    struct obx_err err = {0};

    publish_id(bench->published, id);
    bench->msg.message_id = (struct obx_bytes){.p = id, .len = PUBLISH_ID_LEN};
    if (bridge_publisher_publish(bench->pub, &bench->msg, bench->published, &err) != OBX_OK)
        die("publish", err.text);
    bench->published++;
}

static void run_rate(struct bench *bench)
{
    const uint64_t start_us = publish_now_us();

    while (bench->confirmed < bench->opts.count) {
        while (bench->published < bench->opts.count && bridge_publisher_room(bench->pub) > 0)
            publish(bench);
        wait_turn(bench);
    }
    publish_print_rate(&bench->opts, start_us);
}

static void run_latency(struct bench *bench)
{
    uint64_t *us = calloc(bench->opts.count, sizeof(*us));
    const uint64_t start_us = publish_now_us();

    if (us == NULL)
        die("calloc", "out of memory");
    for (uint64_t n = 0; n < bench->opts.count; n++) {
        uint64_t sent_us;

        publish_wait_due(&bench->opts, start_us, n);
        sent_us = publish_now_us();
        publish(bench);
        while (bench->confirmed <= n)
            wait_turn(bench);
        us[n] = publish_now_us() - sent_us;
    }
    publish_print_latency(us, bench->opts.count);
    free(us);
}

int main(int argc, char **argv)
{
    struct bench bench = {.published = 0};
    char *body;

    publish_opts_parse(&bench.opts, argc, argv);
    body = malloc(bench.opts.body_len + 1);
    if (body == NULL)
        die("malloc", "out of memory");
    memset(body, 'x', bench.opts.body_len);
    bench.msg.exchange = bytes_of("");
    bench.msg.routing_key = bytes_of(bench.opts.queue);
    bench.msg.body = (struct obx_bytes){.p = body, .len = bench.opts.body_len};
    create(&bench);
    while (bridge_publisher_state(bench.pub) != BRIDGE_UP) {
        wait_turn(&bench);
        if (bridge_publisher_trouble(bench.pub)->code != OBX_OK)
            die("connect", bridge_publisher_trouble(bench.pub)->text);
    }
    if (bench.opts.rate > 0)
        run_latency(&bench);
    else
        run_rate(&bench);
    bridge_publisher_destroy(bench.pub);
    free(body);
    return 0;
}
