/*
 * Called by the main files of outbox-relay and outboxctl.
 */
#include "config_or_say.h"

#include <stdio.h>

#include "base/config.h"

struct relay_config *config_or_say(const char *program, const char *path, char *const *env,
                                   enum obx_code *rc)
{
    const struct cfg_input input = {.path = path, .env = env};
    struct relay_config *config = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};

    *rc = relay_config_load(&input, &config, &problems, &err);
    /* All problems at once: somebody who corrects a file wants to start the program twice, not ten times. */
    if (*rc != OBX_OK && problems.len > 0)
        fwrite(problems.data, 1, problems.len, stderr);
    else if (*rc != OBX_OK)
        fprintf(stderr, "%s: %s\n", program, err.text);
    if (*rc == OBX_E_CONFIG && path == NULL)
        fprintf(stderr, "%s: no configuration file was named; --config FILE or OBX_CONFIG does\n",
                program);
    buf_fini(&problems);
    return config;
}
