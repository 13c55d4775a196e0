/*
 * Reads /proc/self and the resource limits. Called for each /metrics and /status.
 */
#include "process_stats.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

enum { US_PER_S = 1000000, STATM_MAX = 256, DECIMAL = 10 };

/* The second number of statm: pages in memory. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    char line[STATM_MAX];
    char *second = line;
    uint64_t pages;
    bool is_read;

    if (file == NULL)
        return 0;
    is_read = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    if (!is_read)
        return 0;
    (void)strtoull(line, &second, DECIMAL);
    pages = strtoull(second, NULL, DECIMAL);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t cpu_us(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * US_PER_S +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static uint64_t open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    /* Less ".", ".." and the folder's own descriptor. */
    return count > 3 ? count - 3 : 0;
}

static uint64_t max_fds(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    return (uint64_t)limit.rlim_cur;
}

void process_stats_read(struct process_stats *out)
{
    out->resident_bytes = resident_bytes();
    out->cpu_us = cpu_us();
    out->open_fds = open_fds();
    out->max_fds = max_fds();
    out->log_dropped = log_dropped();
}
