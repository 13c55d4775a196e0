/* What librabbitmq and the broker report, as an obx_code with the broker's own words. See
 * amqp_errors.c. */
#ifndef BRIDGE_AMQP_ERRORS_H
#define BRIDGE_AMQP_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

#include "amqp_include.h"
#include "obx/err.h"

/** What was being done decides what a code means: 403 at login is a wrong password, later a missing
 * permission. */
enum amqp_phase { AMQP_CONNECTING, AMQP_WORKING };

/** Fill err from a close's reply code and text. */
enum obx_code amqp_fail_close(struct obx_err *err, unsigned reply_code, amqp_bytes_t reply_text,
                              enum amqp_phase phase, const char *what);

/** Fill err from connection.blocked's reason. */
enum obx_code amqp_fail_blocked(struct obx_err *err, amqp_bytes_t reason);

/** Fill err from a status of the library. */
enum obx_code amqp_fail_status(struct obx_err *err, int status, enum amqp_phase phase,
                               const char *what);

/** What the broker says, as text for a log line or a reason. */
void amqp_copy_text(amqp_bytes_t text, char *dst, size_t dst_size);

/**
 * The name of the exchange that a close's text complains about ("... exchange 'x' in vhost ..."),
 * borrowed from text. False when the text names none.
 */
bool amqp_exchange_of_text(amqp_bytes_t text, struct obx_bytes *exchange);

/**
 * The exchange and the topic (routing key) of "access to topic 'x' in exchange 'y' in vhost ...",
 * borrowed from text. False when the text is not of that form.
 */
bool amqp_topic_of_text(amqp_bytes_t text, struct obx_bytes *exchange, struct obx_bytes *topic);

/** The size of the message that was refused, from "message size N is larger than ..."; false when
 * it is not that. */
bool amqp_size_of_text(amqp_bytes_t text, uint64_t *size);

#endif
