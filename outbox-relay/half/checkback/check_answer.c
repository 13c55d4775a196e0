/* Parsing of a check-back answer: {"state": "committed" | "rolled_back" | "in_progress" |
 * "unknown", ...}. */
#include "check_answer.h"

#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json_span.h"

/* Room for the longest word that means anything, with each letter as \u0063. */
#define STATE_SIZE (sizeof("rolled_back") * 6)

static const char *const names[] = {"committed", "rolled_back", "in_progress", "unknown",
                                    "no_answer"};

const char *check_answer_name(enum check_answer answer)
{
    return names[answer];
}

/* A string as text; false when it is too long to be one of the words, or is no text. */
static bool read_text(struct obx_bytes string, char text[STATE_SIZE])
{
    size_t len = 0;

    if (string.len > STATE_SIZE || !json_span_decode(string, text, &len))
        return false;
    text[len] = '\0';
    return memchr(text, '\0', len) == NULL;
}

/* The state of an answer, with its quotes; absent when there is none, or when it is there twice. */
static struct obx_bytes find_state(struct obx_bytes root)
{
    struct json_span_rest rest = json_span_enter(root);
    struct obx_bytes name, value;
    struct obx_bytes state = {0};

    while (json_span_next_member(&rest, &name, &value)) {
        char text[STATE_SIZE];

        if (!read_text(name, text) || strcmp(text, "state") != 0)
            continue;
        if (!bytes_is_absent(state))
            return (struct obx_bytes){0};
        state = value;
    }
    return state;
}

/* Without a byte of memory of its own: what comes from outside cannot use any up. */
enum check_answer check_answer_parse(long http_status, struct obx_bytes body)
{
    struct json_span_fault fault = {0};
    struct obx_bytes root, state;
    char text[STATE_SIZE];

    if (http_status == 404)
        return CHECK_UNKNOWN;
    if (http_status != 200 || body.p == NULL || body.len > CHECK_ANSWER_MAX ||
        !json_span_check(body, &root, &fault) || json_span_type(root) != JSON_SPAN_OBJECT)
        return CHECK_NO_ANSWER;
    state = find_state(root);
    if (bytes_is_absent(state) || json_span_type(state) != JSON_SPAN_STRING)
        return CHECK_NO_ANSWER;
    /* Further fields are the producer's own business; a state that is not of the four decides
     * nothing. */
    for (unsigned i = 0; read_text(state, text) && i < CHECK_UNKNOWN; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum check_answer)i;
    return CHECK_UNKNOWN;
}
