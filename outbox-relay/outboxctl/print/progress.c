/*
 * The bar: "[#####...............] 120 of 3,000 resumed, 4 s". Called by the parked commands.
 */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "ops/human.h"

enum { QUIET_MS = 1000, WIDTH = 30, US_PER_MS = 1000 };

void progress_begin(struct progress *progress, const char *word, uint64_t total)
{
    *progress = (struct progress){.word = word,
                                  .total = total,
                                  .start_ms = clock_now_ms(),
                                  .is_terminal = isatty(STDERR_FILENO) != 0};
}

void progress_set(struct progress *progress, uint64_t done)
{
    const uint64_t spent_ms = clock_now_ms() - progress->start_ms;
    const uint64_t filled = progress->total == 0 ? WIDTH : done * WIDTH / progress->total;
    char bar[WIDTH + 1], number[HUMAN_MAX], total[HUMAN_MAX], age[HUMAN_MAX];

    if (!progress->is_terminal || (!progress->is_shown && spent_ms < QUIET_MS))
        return;
    for (unsigned i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    /* Back to the start of the line, and what is left of a longer one is wiped out. */
    fprintf(stderr, "\r[%s] %s of %s %s, %s\033[K", bar, human_count(done, false, number),
            human_count(progress->total, false, total), progress->word,
            human_age(spent_ms * US_PER_MS, age));
    progress->is_shown = true;
}

void progress_end(struct progress *progress)
{
    if (progress->is_shown)
        fprintf(stderr, "\r\033[K");
    progress->is_shown = false;
}
