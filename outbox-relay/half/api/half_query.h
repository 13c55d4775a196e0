/* The query of GET /v1/half-messages. No I/O, no state; every byte is hostile. Fuzzed by
 * tests/fuzz/half_json_fuzz.c. */
#ifndef RELAY_HALF_QUERY_H
#define RELAY_HALF_QUERY_H

#include "half_json.h"

/**
 * Parse "state=parked&producer=orders&limit=50&after=GID", each of them optional, percent-encoded
 * or not. query may be NULL. On success *out is ready for half_list_run; on failure refusal says
 * why (400).
 */
OBX_NODISCARD enum obx_code half_query_parse(const char *query, struct half_list *out,
                                             struct half_refusal *refusal);

#endif
