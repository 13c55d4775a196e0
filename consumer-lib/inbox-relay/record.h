/*
 * The handler: writes one row for each endpoint whose topics fit the message, in the transaction in
 * which the message is applied. Runs on the workers of consumer-lib.
 */
#ifndef NOTIFY_RECORD_H
#define NOTIFY_RECORD_H

#include "handover.h"
#include "notify_config.h"

struct recorder {
    struct config_box *box; /* borrowed like the rest */
    struct outlets *outlets;
    struct handover *handover;
    atomic_uint_fast64_t messages, unmatched;
};

/** ctx is the struct recorder. */
obx_handler_fn record_message;

/** Topic patterns as RabbitMQ's topic exchanges have them: words are separated by dots; `*` stands
 * for one word, `#` for none or more. Pure; any thread. */
bool topic_match(const char *pattern, struct obx_bytes topic);

#endif
