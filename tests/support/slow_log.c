/*
 * Loaded into a database server with LD_PRELOAD: as long as the file that SLOW_LOG_WHILE names is
 * there, nothing gets into InnoDB's redo log. What is written elsewhere goes through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "obx/export.h"

/* Checkpoints are written there, and everybody waits for those. */
enum { HEADER_LEN = 0x3000 };

typedef ssize_t pwrite_fn(int fd, const void *bytes, size_t len, off_t at);

/* ib_logfile0 of MariaDB, #innodb_redo/#ib_redo... of MySQL. */
static bool is_redo_log(int fd)
{
    char link[32], path[4096];
    ssize_t len = 0;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    if (len <= 0)
        return false;
    path[len] = '\0';
    return strstr(path, "/ib_logfile") != NULL || strstr(path, "/#ib_redo") != NULL;
}

static void wait_while_slow(int fd, off_t at)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    const char *file = getenv("SLOW_LOG_WHILE");

    if (file == NULL || at < HEADER_LEN || access(file, F_OK) != 0 || !is_redo_log(fd))
        return;
    while (access(file, F_OK) == 0)
        (void)nanosleep(&pause, NULL);
}

OBX_API ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    static pwrite_fn *real;

    if (real == NULL)
        *(void **)(&real) = dlsym(RTLD_NEXT, "pwrite");
    wait_while_slow(fd, at);
    return real(fd, bytes, len, at);
}

OBX_API ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    return pwrite(fd, bytes, len, at);
}
