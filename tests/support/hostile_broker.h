/*
 * A broker that means harm, on the loopback. It speaks enough AMQP 0-9-1 to be believed, and then
 * attacks: methods that do not belong there, doubled closes, frames of wrong channels and sizes,
 * headers that lie, tables nested deeply, confirms and returns of messages that were never sent,
 * floods, silence and cuts at any step. What it does follows from its seed and the number of the
 * connection alone, as far as the client lets it. One thread, one connection at a time.
 */
#ifndef OBX_TEST_HOSTILE_BROKER_H
#define OBX_TEST_HOSTILE_BROKER_H

#include <stdbool.h>
#include <stdint.h>

struct hostile_broker;

/** For which client: what an honest broker would answer it. */
enum hostile_client { HOSTILE_PUBLISHER, HOSTILE_CONSUMER };

/** Listen and begin. NULL when that fails. */
struct hostile_broker *hostile_broker_create(enum hostile_client client, uint64_t seed);
/** Ends the thread. NULL is fine. */
void hostile_broker_destroy(struct hostile_broker *broker);
uint16_t hostile_broker_port(const struct hostile_broker *broker);
/** From the next connection on it is honest: it confirms, and delivers one message a connection. */
void hostile_broker_behave(struct hostile_broker *broker);
/** Connections that have ended, and attacks begun in them. */
unsigned hostile_broker_connections(const struct hostile_broker *broker);
unsigned hostile_broker_attacks(const struct hostile_broker *broker);
/** How many connections got through the login. */
unsigned hostile_broker_logins(const struct hostile_broker *broker);

#endif
