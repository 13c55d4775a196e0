/*
 * A tap on the line between the relay and RabbitMQ: a forwarder on the loopback that reads the AMQP
 * frames which pass, and notes when the broker's confirm for each message came by.
 *
 * It measures from outside, so that no figure rests on the relay's own clockwork. Messages are told
 * apart by the decimal number that their body begins with. It runs in a thread of its own.
 */
#ifndef BENCH_TAP_H
#define BENCH_TAP_H

#include <stddef.h>
#include <stdint.h>

struct tap;

/**
 * Listen on 127.0.0.1:port and forward to 127.0.0.1:server_port. Numbers from 0 to slots - 1 are
 * noted. NULL, with the cause on stderr, when that fails.
 */
struct tap *tap_create(uint16_t port, uint16_t server_port, size_t slots);
/** Close all connections and end the thread. NULL is fine. */
void tap_destroy(struct tap *tap);
/** When the first confirm for message `number` passed, in microseconds of the monotonic clock; 0:
 * not yet. Any thread. */
uint64_t tap_confirmed_us(const struct tap *tap, size_t number);
/** How many different numbers were confirmed so far. Any thread. */
size_t tap_confirmed_count(const struct tap *tap);

#endif
