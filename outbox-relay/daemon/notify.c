/*
 * The sender's half of sd_notify. A datagram that cannot be sent is dropped: the service manager is
 * repeated by the next one, and the relay must not stop because its manager is slow. Called by
 * daemon.c only.
 */
#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

enum { STATUS_MAX = 320, NS_PER_US = 1000, US_PER_S = 1000000 };

struct notify {
    int fd;
    struct sockaddr_un addr;
    socklen_t addr_len;
    uint64_t watchdog_us;
    char status[STATUS_MAX];
};

/* The address of a path, or of an abstract name, which starts with '@'. */
static int set_address(struct notify *notify, const char *path)
{
    size_t len = strlen(path);

    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(notify->addr.sun_path))
        return -1;
    notify->addr.sun_family = AF_UNIX;
    memcpy(notify->addr.sun_path, path, len + 1);
    notify->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (path[0] == '@')
        notify->addr.sun_path[0] = '\0';
    return 0;
}

/* WATCHDOG_PID says whom WATCHDOG_USEC is meant for: a child of the service must not answer for it.
 */
static uint64_t watchdog_from_env(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    char *end = NULL;
    unsigned long long value;

    if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    errno = 0;
    value = strtoull(usec, &end, 10);
    return errno == 0 && end != usec && *end == '\0' ? value : 0;
}

struct notify *notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct notify *notify;

    if (path == NULL)
        return NULL;
    notify = obx_calloc(1, sizeof(*notify));
    if (notify == NULL)
        return NULL;
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0 || set_address(notify, path) != 0) {
        notify_close(notify);
        return NULL;
    }
    notify->watchdog_us = watchdog_from_env();
    return notify;
}

void notify_close(struct notify *notify)
{
    if (notify == NULL)
        return;
    if (notify->fd >= 0)
        close(notify->fd);
    obx_free(notify);
}

static void send_text(struct notify *notify, const char *text)
{
    if (notify != NULL)
        (void)sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL,
                     (const struct sockaddr *)&notify->addr, notify->addr_len);
}

void notify_ready(struct notify *notify)
{
    send_text(notify, "READY=1");
}

void notify_reloading(struct notify *notify)
{
    struct timespec now = {0};
    char text[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US);
    send_text(notify, text);
}

void notify_stopping(struct notify *notify)
{
    send_text(notify, "STOPPING=1");
}

void notify_watchdog(struct notify *notify)
{
    send_text(notify, "WATCHDOG=1");
}

void notify_status(struct notify *notify, const char *text)
{
    char line[STATUS_MAX + 16];

    if (notify == NULL || strcmp(notify->status, text) == 0)
        return;
    snprintf(notify->status, sizeof(notify->status), "%s", text);
    snprintf(line, sizeof(line), "STATUS=%s", notify->status);
    send_text(notify, line);
}

uint64_t notify_watchdog_us(const struct notify *notify)
{
    return notify == NULL ? 0 : notify->watchdog_us;
}
