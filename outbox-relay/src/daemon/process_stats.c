/*
 * Reads /proc/self and the resource limits. Called for each /metrics and /status.
 */
#include "process_stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { US_PER_S = 1000000 };

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    uint64_t pages = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
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
}
