/* Parsing of a check-back answer: {"state": "committed" | "rolled_back" | "in_progress" |
 * "unknown", ...}. */
#include "half/check_answer.h"

#include <stdbool.h>
#include <string.h>

#include <jansson.h>

#include "base/json_bounds.h"

static const char *const names[] = {"committed", "rolled_back", "in_progress", "unknown",
                                    "no_answer"};

const char *check_answer_name(enum check_answer answer)
{
    return names[answer];
}

/* Further fields are the producer's own business; a state that is not of the four decides nothing.
 */
static enum check_answer read_state(const char *state)
{
    for (unsigned i = 0; i < CHECK_UNKNOWN; i++)
        if (strcmp(state, names[i]) == 0)
            return (enum check_answer)i;
    return CHECK_UNKNOWN;
}

/* A producer's own fields may stand beside the state, but not without bound. */
static const struct json_bounds bounds = {.bytes = CHECK_ANSWER_MAX, .depth = 32, .values = 1000};

enum check_answer check_answer_parse(long http_status, struct obx_bytes body)
{
    enum check_answer answer = CHECK_NO_ANSWER;
    json_t *root, *state;

    if (http_status == 404)
        return CHECK_UNKNOWN;
    if (http_status != 200 || body.p == NULL || json_bounds_check(body, &bounds, NULL) != OBX_OK)
        return CHECK_NO_ANSWER;
    root = json_loadb(body.p, body.len, JSON_REJECT_DUPLICATES, NULL);
    state = json_object_get(root, "state");
    if (json_is_string(state))
        answer = read_state(json_string_value(state));
    json_decref(root);
    return answer;
}
