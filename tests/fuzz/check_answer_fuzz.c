/*
 * Fuzz target of a producer's answer to a check: the first two bytes are the HTTP status, the rest
 * the body. Only a 200 that says so decides, 404 is never "rolled back", and no answer makes the
 * parser allocate anything.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "fuzz.h"
#include "half/checkback/check_answer.h"

enum { STATUS_BYTES = 2, HTTP_OK = 200, HTTP_NOT_FOUND = 404 };

static bool has_word(struct obx_bytes body, const char *word)
{
    const size_t len = strlen(word);

    for (size_t i = 0; i + len <= body.len; i++)
        if (memcmp((const char *)body.p + i, word, len) == 0)
            return true;
    return false;
}

/* A JSON text may write any letter as \u0063: then the word itself need not be there. */
static bool may_say(struct obx_bytes body, const char *word)
{
    return has_word(body, word) || has_word(body, "\\u");
}

static bool refuse_memory(void *ctx)
{
    (void)ctx;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long status;
    struct obx_bytes body;
    enum check_answer answer;

    if (size < STATUS_BYTES)
        return 0;
    status = data[0] * 256L + data[1];
    body = (struct obx_bytes){.p = data + STATUS_BYTES, .len = size - STATUS_BYTES};
    obx_alloc_set_hook(refuse_memory, NULL);
    answer = check_answer_parse(status, body);
    obx_alloc_set_hook(NULL, NULL);
    FUZZ_CHECK(check_answer_name(answer) != NULL);
    if (status == HTTP_NOT_FOUND)
        FUZZ_CHECK(answer == CHECK_UNKNOWN);
    else if (status != HTTP_OK || body.len > CHECK_ANSWER_MAX)
        FUZZ_CHECK(answer == CHECK_NO_ANSWER);
    if (answer == CHECK_COMMITTED)
        FUZZ_CHECK(may_say(body, "committed"));
    if (answer == CHECK_ROLLED_BACK)
        FUZZ_CHECK(may_say(body, "rolled_back"));
    return 0;
}
