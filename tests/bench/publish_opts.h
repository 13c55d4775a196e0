/*
 * What the two publishing yardsticks (bare_publisher, bridge_publisher) share, so that they do the
 * same work: options, the coordinates of the broker, message ids, the clock, and how results are
 * printed. Knows neither library.
 */
#ifndef BENCH_PUBLISH_OPTS_H
#define BENCH_PUBLISH_OPTS_H

#include <stddef.h>
#include <stdint.h>

enum { PUBLISH_ID_LEN = 36 };

struct publish_opts {
    const char *host;
    const char *user;
    const char *password;
    const char *vhost;
    int port;
    const char *queue;    /* --queue: must exist; published to by the default exchange, unless */
    const char *exchange; /* --exchange: by this one, which must exist, */
    const char *key;      /* --key: with this routing key */
    uint64_t
        is_like_relay; /* --like-relay: mandatory, with the properties and headers of a relay */
    uint64_t count;    /* --count */
    uint64_t window;   /* --window: unconfirmed messages at most */
    uint64_t body_len; /* --size: bytes */
    uint64_t rate; /* --rate: messages per second, one at a time, latencies printed; 0: as fast as
                      it goes */
};

/** Ends the program with a message when an option is wrong or no broker is named by
 * OBX_TEST_AMQP_... */
void publish_opts_parse(struct publish_opts *opts, int argc, char **argv);
/** An id of PUBLISH_ID_LEN characters, different for each n. */
void publish_id(uint64_t n, char id[PUBLISH_ID_LEN + 1]);
uint64_t publish_now_us(void);
/** Wait until the nth message of a schedule that began at start_us is due. */
void publish_wait_due(const struct publish_opts *opts, uint64_t start_us, uint64_t n);
/** "rate <messages per second>" */
void publish_print_rate(const struct publish_opts *opts, uint64_t start_us);
/** "p50_us <n>" and "p99_us <n>"; sorts the values. */
void publish_print_latency(uint64_t *us, size_t count);

#endif
