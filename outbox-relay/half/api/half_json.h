/*
 * The JSON of the half-message API: bodies of requests into half_request, records and errors into
 * answers. No I/O, no state; every byte of the input is hostile. Fuzzed by
 * tests/fuzz/half_json_fuzz.c. The contract is docs/openapi.yaml.
 */
#ifndef RELAY_HALF_JSON_H
#define RELAY_HALF_JSON_H

#include "base/bytes.h"
#include "half/half.h"

/** A refusal: HTTP status, the machine-readable reason, and a sentence for people. */
struct half_refusal {
    int status;
    const char *reason; /* static: bad_json, unknown_field, missing_field, invalid_value, ... */
    char text[OBX_ERR_TEXT_MAX];
};

/** A parsed prepare: owns all that req points to. Free with half_prepare_free. */
struct half_prepare;

/**
 * Parse the body of a prepare. On success *out is the caller's and half_prepare_request(*out) is
 * ready for the store but for done and ctx. On failure *out is NULL and refusal says why (400, 413;
 * 503 when out of memory).
 * @param default_first_check_ms  the silence after which the first check is due, where the body
 * does not say
 */
OBX_NODISCARD enum obx_code half_json_parse_prepare(struct obx_bytes body,
                                                    uint32_t default_first_check_ms,
                                                    struct half_prepare **out,
                                                    struct half_refusal *refusal);
struct half_request *half_prepare_request(struct half_prepare *prepare);
void half_prepare_free(struct half_prepare *prepare);

/** Whether gid may name a half-message: 1 to 128 of letters, digits and -._:~ */
bool half_gid_is_valid(struct obx_bytes gid);
/** Whether name may name a producer: 1 to 64 of letters, digits and -._ */
bool half_producer_is_valid(struct obx_bytes name);

/** Append the answer to a request: its record, and the ids of its messages if it wanted them.
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_json_add_answer(struct obx_buf *out,
                                                 const struct half_request *req);
/** Append {"gid":...,"state":"accepted","verdict":...}: of a verdict that is queued. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_json_add_accepted(struct obx_buf *out, struct obx_bytes gid,
                                                   enum half_verdict verdict);
/** Append {"items":[...],"next":gid or null}. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_json_add_list(struct obx_buf *out, const struct half_list *list);
/** Append {"error":{"reason":...,"message":...}}, with the record beside it where there is one.
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_json_add_error(struct obx_buf *out, const char *reason,
                                                const char *text, struct obx_bytes gid,
                                                const struct half_record *rec);

#endif
