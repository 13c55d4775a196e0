/*
 * A bar on standard error for work that takes a while: only on a terminal, and only after the first
 * second, so that scripts and quick commands see nothing of it.
 */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *word; /* what is done to each: "resumed". Static text */
    uint64_t total;
    uint64_t start_ms;
    bool is_terminal;
    bool is_shown;
};

void progress_begin(struct progress *progress, const char *word, uint64_t total);
/** So many are done now. */
void progress_set(struct progress *progress, uint64_t done);
/** Take the bar away; what comes next starts on an empty line. */
void progress_end(struct progress *progress);

#endif
