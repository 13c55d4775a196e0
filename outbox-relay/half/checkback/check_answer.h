/*
 * What a producer's check address said. The rule: only a well-formed 200 decides or says "not yet";
 * "not found" is "unknown", never "rolled back"; everything else is not an answer and uses up no
 * try. Fuzzed by tests/fuzz/check_answer_fuzz.c.
 */
#ifndef RELAY_HALF_CHECK_ANSWER_H
#define RELAY_HALF_CHECK_ANSWER_H

#include "obx/bytes.h"

enum check_answer {
    CHECK_COMMITTED,
    CHECK_ROLLED_BACK,
    CHECK_IN_PROGRESS, /* received, decides nothing: the local transaction still runs */
    CHECK_UNKNOWN,     /* received, decides nothing: the producer does not know the gid */
    CHECK_NO_ANSWER    /* nothing received that means anything */
};

/** An answer may be at most this long; a longer one is CHECK_NO_ANSWER. */
#define CHECK_ANSWER_MAX 4096

enum check_answer check_answer_parse(long http_status, struct obx_bytes body);
const char *check_answer_name(enum check_answer answer);

#endif
