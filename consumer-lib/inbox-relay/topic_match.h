/* Topic patterns as RabbitMQ's topic exchanges have them. Pure; any thread. */
#ifndef NOTIFY_TOPIC_MATCH_H
#define NOTIFY_TOPIC_MATCH_H

#include <stdbool.h>

#include "obx/bytes.h"

/** Words are separated by dots; `*` stands for one word, `#` for none or more. */
bool topic_match(const char *pattern, struct obx_bytes topic);

#endif
