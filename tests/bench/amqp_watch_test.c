/* Unit tests of the bench's frame reader: publishes, bodies and confirms are seen, in pieces of any
 * size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "bench/amqp_watch.h"

/* From the client: protocol header, heartbeat, basic.publish, content header, body "12345 xx". */
static const uint8_t client[] = {
    'A',  'M', 'Q', 'P', 0, 0, 9, 1,    /**/
    8,    0,   0,   0,   0, 0, 0, 0xce, /* heartbeat */
    1,    0,   1,   0,   0, 0, 9, 0,    60,  0,   40,  0,    0,   0,   0,   0,
    0xce,                                                    /* basic.publish */
    2,    0,   1,   0,   0, 0, 4, 0,    60,  0,   0,   0xce, /* content header */
    3,    0,   1,   0,   0, 0, 8, '1',  '2', '3', '4', '5',  ' ', 'x', 'x', 0xce, /* body */
};
/* From the server: connection.blocked (10, 60), basic.ack of tag 258, basic.ack of all up to tag 3.
 */
static const uint8_t server[] = {
    1, 0, 0, 0, 0, 0, 5,  0, 10, 0, 60, 0, 0xce,                            /**/
    1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0,    0, 0, 0, 0, 1, 2, 0, 0xce, /**/
    1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0,    0, 0, 0, 0, 0, 3, 1, 0xce,
};

struct seen {
    size_t publishes, bodies, acks;
    uint64_t tags[4];
    bool are_multiple[4];
    char body[AMQP_WATCH_KEPT + 1];
};

static void note(const struct amqp_event *event, void *ctx)
{
    struct seen *seen = ctx;

    if (event->what == AMQP_SEEN_PUBLISH) {
        seen->publishes++;
    } else if (event->what == AMQP_SEEN_BODY) {
        seen->bodies++;
        memcpy(seen->body, event->head, event->head_len);
    } else {
        seen->tags[seen->acks] = event->tag;
        seen->are_multiple[seen->acks++] = event->is_multiple;
    }
}

static void feed_in_pieces(struct amqp_watch *watch, const uint8_t *bytes, size_t len, size_t piece,
                           struct seen *seen)
{
    for (size_t at = 0; at < len; at += piece)
        amqp_watch_feed(watch, bytes + at, len - at < piece ? len - at : piece, note, seen);
}

static void publishes_and_bodies_are_seen(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= sizeof(client); piece++) {
        struct amqp_watch watch;
        struct seen seen = {0};

        amqp_watch_init(&watch, true);
        feed_in_pieces(&watch, client, sizeof(client), piece, &seen);
        assert_int_equal(seen.publishes, 1);
        assert_int_equal(seen.bodies, 1);
        assert_int_equal(seen.acks, 0);
        assert_string_equal(seen.body, "12345 xx");
    }
}

static void confirms_are_seen(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= sizeof(server); piece++) {
        struct amqp_watch watch;
        struct seen seen = {0};

        amqp_watch_init(&watch, false);
        feed_in_pieces(&watch, server, sizeof(server), piece, &seen);
        assert_int_equal(seen.acks, 2);
        assert_int_equal(seen.tags[0], 258);
        assert_false(seen.are_multiple[0]);
        assert_int_equal(seen.tags[1], 3);
        assert_true(seen.are_multiple[1]);
        assert_int_equal(seen.publishes + seen.bodies, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_and_bodies_are_seen),
        cmocka_unit_test(confirms_are_seen),
    };

    return cmocka_run_group_tests_name("bench_amqp_watch", tests, NULL, NULL);
}
