/*
 * Fuzz target of the configuration: the input is a file, and behind the byte 0x01 environment
 * variables, separated by 0x01. Whatever it is, the answer is a configuration or problems; a
 * configuration can be dumped and does not differ from itself.
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/config_sample.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "memory.h"

enum { VARIABLES_MAX = 16, FIXED = 256 * 1024, FACTOR = 200 };

static void show(const struct cfg *cfg)
{
    struct obx_buf dump = {0};
    struct cfg_changes changes = {0};

    FUZZ_CHECK(cfg_dump(cfg, &dump) == OBX_OK);
    FUZZ_CHECK(utf8_is_valid(buf_bytes(&dump)) || strstr(dump.data, "content of") != NULL);
    FUZZ_CHECK(cfg_compare(cfg, cfg, &changes) == OBX_OK);
    FUZZ_CHECK(changes.count == 0);
    buf_fini(&dump);
    buf_fini(&changes.lines);
}

static void load(struct obx_bytes text, char *const *env)
{
    const struct cfg_input input = {.path = "fuzz.conf", .text = text, .env = env};
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    struct cfg *cfg = NULL;
    size_t before = fuzz_memory();
    enum obx_code rc = cfg_load(&sample_schema, &input, &cfg, &problems, &err);

    FUZZ_MEMORY(before, text.len, FIXED, FACTOR);
    FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_CONFIG);
    FUZZ_CHECK((rc == OBX_OK) == (cfg != NULL));
    FUZZ_CHECK((rc == OBX_OK) == (problems.len == 0));
    FUZZ_CHECK(utf8_is_valid(buf_bytes(&problems)));
    FUZZ_CHECK(utf8_is_valid(bytes_of(err.text)));
    if (cfg != NULL)
        show(cfg);
    cfg_destroy(cfg);
    buf_fini(&problems);
}

/* Opening what an input names could block on a pipe or a terminal, so such an input is passed over.
 */
static bool names_a_file(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 4 <= size; at++) {
        if (memcmp(data + at, "file", 4) == 0 || memcmp(data + at, "FILE", 4) == 0)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *env[VARIABLES_MAX + 1] = {NULL};
    char *copy = malloc(size + 1);
    size_t text_len = 0;
    size_t count = 0;

    if (copy == NULL || names_a_file(data, size)) {
        free(copy);
        return 0;
    }
    memcpy(copy, data, size);
    copy[size] = '\0';
    while (text_len < size && copy[text_len] != 1)
        text_len++;
    for (size_t at = text_len; at < size && count < VARIABLES_MAX; at++) {
        if (copy[at] == 1) {
            copy[at] = '\0';
            env[count++] = copy + at + 1;
        }
    }
    load((struct obx_bytes){copy, text_len}, env);
    free(copy);
    return 0;
}
