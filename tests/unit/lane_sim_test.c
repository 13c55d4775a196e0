/*
 * The lane against chance: thousands of small worlds, each with its own bounds, producers, faults,
 * kills and stops, and the invariants of docs/adr/0002-lane.md checked at every message and every
 * delete. P1, P2, P4, P6, P7, P9.
 *
 * OBX_SIM_SEED=n runs one world, OBX_SIM_SEEDS=n so many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lane_sim.h"

enum { SEEDS = 600 };

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void every_world_ends_well(void **state)
{
    uint64_t only = number_of("OBX_SIM_SEED", 0);
    uint64_t seeds = number_of("OBX_SIM_SEEDS", SEEDS);

    (void)state;
    if (only != 0) {
        sim_run(only);
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        sim_run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_world_ends_well)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
