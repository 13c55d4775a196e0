/* See publisher_rig.h. */
#include "publisher_rig.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "test_log.h"

enum { TURN_MS = 20 };

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct rig *rig = ctx;

    assert_true(token < rig->next_token);
    rig->calls[token]++;
    rig->outcomes[token] = (uint8_t)outcome;
    rig->order[rig->settled++] = token;
    rig->by_outcome[outcome]++;
    if (outcome == PUB_UNKNOWN) {
        assert_true(token >= rig->last_unknown);
        rig->last_unknown = token + 1;
    }
    if (why != NULL)
        (void)snprintf(rig->why, sizeof(rig->why), "%s", why);
}

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    if (getenv("OBX_TEST_LOG") != NULL)
        log_setup(LOG_LVL_DEBUG, LOG_FMT_TEXT, test_log_line, NULL);
    assert_non_null(rig);
    if (!broker_from_env(&rig->broker)) {
        free(rig);
        print_message("no broker: eval \"$(tests/support/servers env)\"\n");
        return -1;
    }
    rig->calls = calloc(RIG_TOKENS_MAX, sizeof(*rig->calls));
    rig->outcomes = calloc(RIG_TOKENS_MAX, sizeof(*rig->outcomes));
    rig->order = calloc(RIG_TOKENS_MAX, sizeof(*rig->order));
    rig->ids = calloc(RIG_TOKENS_MAX, sizeof(*rig->ids));
    rig->done = calloc(RIG_TOKENS_MAX, sizeof(*rig->done));
    assert_true(rig->calls != NULL && rig->outcomes != NULL && rig->order != NULL &&
                rig->ids != NULL && rig->done != NULL);
    rig->admin = broker_admin_open(&rig->broker);
    rig->opts = (struct bridge_publisher_opts){
        .bridge = {.addresses = rig->broker.address,
                   .vhost = rig->broker.vhost,
                   .user = rig->broker.user,
                   .password = rig->broker.password,
                   .connection_name = "publisher_test",
                   .reconnect_min_ms = 20,
                   .reconnect_cap_ms = 200},
        .on_result = on_result,
        .ctx = rig,
    };
    *state = rig;
    return 0;
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;

    bridge_publisher_destroy(rig->pub);
    broker_admin_close(rig->admin);
    free(rig->calls);
    free(rig->outcomes);
    free(rig->order);
    free(rig->ids);
    free(rig->done);
    free(rig);
    return 0;
}

void rig_start(struct rig *rig)
{
    struct obx_err err = {0};

    if (bridge_publisher_create(&rig->opts, &rig->pub, &err) != OBX_OK)
        fail_msg("create: %s", err.text);
}

void rig_stop(struct rig *rig)
{
    bridge_publisher_destroy(rig->pub);
    rig->pub = NULL;
}

void rig_turn(struct rig *rig, int max_ms)
{
    struct pollfd pfd = {.events = POLLIN};
    int wait_ms;

    bridge_publisher_service(rig->pub);
    rig->service_calls++;
    pfd.fd = bridge_publisher_fd(rig->pub);
    wait_ms = clock_left_ms(bridge_publisher_next_due_ms(rig->pub));
    (void)poll(&pfd, 1, wait_ms < max_ms ? wait_ms : max_ms);
}

void rig_until(struct rig *rig, rig_fn *condition)
{
    const uint64_t due_ms = clock_now_ms() + RIG_WAIT_MS;

    while (!condition(rig)) {
        if (clock_now_ms() >= due_ms)
            fail_msg("not in time; state %s, in flight %u, settled %llu, trouble: %s",
                     bridge_state_name(bridge_publisher_state(rig->pub)),
                     bridge_publisher_inflight(rig->pub), (unsigned long long)rig->settled,
                     bridge_publisher_trouble(rig->pub)->text);
        rig_turn(rig, TURN_MS);
    }
}

bool rig_is_up(struct rig *rig)
{
    return bridge_publisher_state(rig->pub) == BRIDGE_UP;
}

bool rig_is_down(struct rig *rig)
{
    return bridge_publisher_state(rig->pub) == BRIDGE_DOWN;
}

bool rig_is_blocked(struct rig *rig)
{
    return bridge_publisher_state(rig->pub) == BRIDGE_BLOCKED;
}

bool rig_all_settled(struct rig *rig)
{
    return rig->settled == rig->next_token;
}

void rig_message(struct rig *rig, const char *queue, struct rig_message *out)
{
    memset(out, 0, sizeof(*out));
    (void)snprintf(out->id, sizeof(out->id), "id-%llu", (unsigned long long)rig->next_token);
    (void)snprintf(out->body, sizeof(out->body), "body-%llu", (unsigned long long)rig->next_token);
    out->msg.exchange = bytes_of("");
    out->msg.routing_key = bytes_of(queue);
    out->msg.message_id = bytes_of(out->id);
    out->msg.content_type = bytes_of("text/plain");
    out->msg.body = bytes_of(out->body);
}

static bool has_room(struct rig *rig)
{
    return bridge_publisher_room(rig->pub) > 0;
}

_Noreturn static void fail_with_outcomes(const struct rig *rig)
{
    fail_msg("of %llu messages %llu were confirmed, %llu nacked, %llu returned, %llu unknown: %s",
             (unsigned long long)rig->next_token,
             (unsigned long long)rig->by_outcome[PUB_CONFIRMED],
             (unsigned long long)rig->by_outcome[PUB_NACKED],
             (unsigned long long)rig->by_outcome[PUB_RETURNED],
             (unsigned long long)rig->by_outcome[PUB_UNKNOWN], rig->why);
    abort(); /* not reached: fail_msg leaves by longjmp */
}

static void publish(struct rig *rig, const struct rig_message *message)
{
    struct obx_err err = {0};
    const uint64_t start_ms = clock_now_ms();
    uint64_t took_ms;

    if (rig->next_token == RIG_TOKENS_MAX)
        fail_with_outcomes(rig);
    if (bridge_publisher_publish(rig->pub, &message->msg, rig->next_token, &err) != OBX_OK)
        fail_msg("publish: %s", err.text);
    rig->next_token++;
    took_ms = clock_now_ms() - start_ms;
    if (took_ms > rig->longest_publish_ms)
        rig->longest_publish_ms = took_ms;
}

void rig_send(struct rig *rig, const struct rig_message *message)
{
    rig_until(rig, has_room);
    publish(rig, message);
}

void rig_send_many(struct rig *rig, const char *queue, size_t count)
{
    struct rig_message message;

    for (size_t i = 0; i < count; i++) {
        rig_message(rig, queue, &message);
        rig_send(rig, &message);
    }
}

static void publish_number(struct rig *rig, const char *queue, uint32_t number)
{
    struct rig_message message;

    rig_message(rig, queue, &message);
    (void)snprintf(message.id, sizeof(message.id), "id-%u", number);
    message.msg.message_id = bytes_of(message.id);
    rig->ids[rig->next_token] = number;
    publish(rig, &message);
}

/* What became of the tokens since the last look: numbers that were not confirmed are put on the
 * list again. */
static uint32_t look_at_outcomes(struct rig *rig, uint64_t *seen, uint32_t *again)
{
    uint32_t count = 0;

    for (; *seen < rig->settled; (*seen)++) {
        const uint64_t token = rig->order[*seen];

        if (rig->outcomes[token] == PUB_CONFIRMED)
            rig->done[rig->ids[token]] = 1;
        else
            again[count++] = rig->ids[token];
    }
    return count;
}

void rig_deliver_all(struct rig *rig, const char *queue, uint32_t count,
                     void (*disturb)(struct rig *rig))
{
    const uint64_t due_ms = clock_now_ms() + 2 * RIG_WAIT_MS;
    uint32_t *list = calloc((size_t)count * 2, sizeof(*list)); /* to be published */
    uint64_t seen = rig->settled;
    uint32_t length = 0;

    assert_non_null(list);
    for (uint32_t number = count; number > 0; number--)
        list[length++] = number - 1;
    while (length > 0 || bridge_publisher_inflight(rig->pub) > 0) {
        if (clock_now_ms() >= due_ms)
            fail_msg("not in time; %u to publish, trouble: %s", length,
                     bridge_publisher_trouble(rig->pub)->text);
        while (length > 0 && bridge_publisher_room(rig->pub) > 0) {
            if (disturb != NULL)
                disturb(rig);
            publish_number(rig, queue, list[--length]);
        }
        if (disturb != NULL)
            disturb(rig);
        rig_turn(rig, TURN_MS);
        length += look_at_outcomes(rig, &seen, list + length);
    }
    free(list);
    rig_expect_once_each(rig);
    for (uint32_t number = 0; number < count; number++)
        assert_int_equal(rig->done[number], 1);
}

uint32_t rig_expect_all_there(struct rig *rig, const char *queue, uint32_t count)
{
    struct broker_message got;
    uint32_t twice = 0;
    uint8_t *times = calloc(count, sizeof(*times));

    assert_non_null(times);
    while (broker_get(rig->admin, queue, &got)) {
        const unsigned long number = strtoul(got.id + strlen("id-"), NULL, 10);

        assert_true(number < count);
        twice += times[number]++ == 1;
    }
    for (uint32_t number = 0; number < count; number++)
        assert_true(times[number] > 0);
    free(times);
    return twice;
}

void rig_expect_once_each(const struct rig *rig)
{
    assert_int_equal(rig->settled, rig->next_token);
    for (uint64_t token = 0; token < rig->next_token; token++)
        assert_int_equal(rig->calls[token], 1);
}

void rig_expect_all(const struct rig *rig, enum pub_outcome outcome)
{
    rig_expect_once_each(rig);
    if (rig->by_outcome[outcome] != rig->next_token)
        fail_with_outcomes(rig);
}
