/* Random numbers that come again for the same seed, for the crash tests. One state per thread. */
#ifndef CRASH_DICE_H
#define CRASH_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

/** A number below limit, which is at least 1. The splitmix64 sequence: every seed is as good as
 * another. */
static inline uint64_t dice_below(struct dice *dice, uint64_t limit)
{
    uint64_t mixed = dice->state += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return (mixed ^ (mixed >> 31)) % limit;
}

static inline bool dice_percent(struct dice *dice, uint32_t percent)
{
    return dice_below(dice, 100) < percent;
}

#endif
