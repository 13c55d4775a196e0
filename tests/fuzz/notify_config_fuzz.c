/*
 * Fuzz target of the notifications' configuration: the input is a file. Schedules, secrets, topics
 * and addresses are read out of texts by parsers of their own; whatever they are given, what is
 * taken is within its bounds, and what is refused is named.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz.h"
#include "inbox-relay/notify_config.h"
#include "inbox-relay/record.h"
#include "memory.h"

enum { FIXED = 256 * 1024, FACTOR = 200 };

static void check_endpoint(const struct endpoint_config *endpoint)
{
    uint64_t sum = 0;

    FUZZ_CHECK(strncmp(endpoint->url, "http", 4) == 0);
    FUZZ_CHECK(endpoint->schedule_count >= 1 && endpoint->schedule_count <= NOTIFY_SCHEDULE_MAX);
    for (size_t i = 0; i < endpoint->schedule_count; i++)
        sum += endpoint->schedule_ms[i];
    FUZZ_CHECK(endpoint->schedule_sum_ms == sum);
    FUZZ_CHECK(endpoint->keys.count <= SIGN_KEYS_MAX);
    for (size_t i = 0; i < endpoint->keys.count; i++)
        FUZZ_CHECK(endpoint->keys.items[i].len >= SIGN_KEY_MIN &&
                   endpoint->keys.items[i].len <= SIGN_KEY_MAX);
    FUZZ_CHECK(endpoint->topics.count >= 1);
    for (size_t i = 0; i < endpoint->topics.count; i++)
        (void)topic_match(endpoint->topics.items[i], bytes_of("order.placed.eu"));
    FUZZ_CHECK(endpoint->breaker_min_ms <= endpoint->breaker_max_ms);
}

static void check_config(const struct notify_config *config)
{
    struct obx_buf dump = {0};

    FUZZ_CHECK(config->endpoint_count >= 1 && config->endpoint_count <= NOTIFY_ENDPOINTS_MAX);
    for (size_t i = 0; i < config->endpoint_count; i++)
        check_endpoint(&config->endpoints[i]);
    FUZZ_CHECK(cfg_dump(config->cfg, &dump) == OBX_OK);
    FUZZ_CHECK(strstr(dump.data, "\nsecrets = ***") != NULL ||
               strstr(dump.data, "\nsecrets = ;") != NULL);
    buf_fini(&dump);
}

/* See config_fuzz.c. */
static bool names_a_file(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 4 <= size; at++) {
        if (memcmp(data + at, "file", 4) == 0)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cfg_input input = {
        .path = "fuzz.conf", .text = {.p = size == 0 ? (const void *)"" : data, .len = size}};
    struct notify_config *config = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    size_t before = fuzz_memory();
    enum obx_code rc;

    if (names_a_file(data, size))
        return 0;
    rc = notify_config_load(&input, &config, &problems, &err);
    FUZZ_MEMORY(before, size, FIXED, FACTOR);
    FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_CONFIG);
    FUZZ_CHECK((rc == OBX_OK) == (config != NULL));
    FUZZ_CHECK(rc == OBX_OK || (problems.len > 0 && err.text[0] != '\0'));
    FUZZ_CHECK(utf8_is_valid(buf_bytes(&problems)));
    if (config != NULL)
        check_config(config);
    notify_config_unref(config);
    buf_fini(&problems);
    return 0;
}
