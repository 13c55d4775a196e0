/*
 * The lane against chance: thousands of small worlds, each with its own bounds, producers, faults,
 * kills and stops, and the invariants of docs/adr/0002-lane.md checked at every message and every
 * delete. P1, P2, P4, P6, P7, P9.
 *
 * OBX_SIM_SEED=n runs one world, OBX_SIM_SEEDS=n so many. OBX_SIM_LOG=1 prints what the lanes log, at the
 * time of their world; OBX_SIM_TRACE=1 a line for each world.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "lane_sim.h"

enum { SEEDS = 600 };

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void print_line(enum log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)len;
    (void)ctx;
    print_message("%llu %s\n", sim == NULL ? 0ULL : (unsigned long long)sim->now_us, line);
}

static void every_world_ends_well(void **state)
{
    uint64_t only = number_of("OBX_SIM_SEED", 0);
    uint64_t seeds = number_of("OBX_SIM_SEEDS", SEEDS);

    (void)state;
    if (getenv("OBX_SIM_LOG") != NULL)
        log_setup(LOG_LVL_INFO, LOG_FMT_TEXT, print_line, NULL);
    if (only != 0) {
        sim_run(only);
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        sim_run(seed);
    print_message("evidence: worlds=%llu\n", (unsigned long long)seeds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_world_ends_well)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
