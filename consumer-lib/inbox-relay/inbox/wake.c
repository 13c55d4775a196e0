/*
 * One socket of each family, made at the start. A directory is read at each ring, so that workers
 * come and go as they like; a socket in it that nobody listens to is of a worker that has died, and
 * is removed.
 */
#include "wake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fail.h"
#include "base/log.h"

/* A directory is read on the thread that stores: anybody may have put anything into it. */
enum { HOST_SIZE = 256, ENTRIES_MAX = 1024 };
static const size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("/x");

struct target {
    char *path; /* NULL: an address */
    struct sockaddr_storage address;
    socklen_t len;
};

struct waker {
    int local, inet, inet6; /* -1: none */
    struct target *targets;
    size_t count;
    atomic_uint_fast64_t refused;
    atomic_bool is_logged;
};

static int make_socket(int family)
{
    return socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A path, or "127.0.0.1:9400", or "[::1]:9400": numbers only, since a name would be looked up at
 * each start, and a start must not hang on a name server. */
static enum obx_code parse(const char *text, struct target *target, struct obx_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const char *colon = strrchr(text, ':');
    const bool is_bracketed = text[0] == '[';
    char host[HOST_SIZE];
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);

    if (text[0] == '/') {
        if (strlen(text) > path_max)
            return obx_fail(err, OBX_E_CONFIG, "wake: \"%s\" is longer than %zu bytes", text,
                            path_max);
        target->path = obx_strdup(text);
        return target->path == NULL ? obx_fail(err, OBX_E_NOMEM, "wake") : OBX_OK;
    }
    if (is_bracketed && len >= 2)
        len -= 2;
    if (len == 0 || len >= sizeof(host))
        return obx_fail(err, OBX_E_CONFIG, "wake: \"%s\" is neither a path nor ADDRESS:PORT", text);
    memcpy(host, text + is_bracketed, len);
    host[len] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return obx_fail(err, OBX_E_CONFIG, "wake: \"%s\" is neither a path nor ADDRESS:PORT", text);
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->len = found->ai_addrlen;
    freeaddrinfo(found);
    return OBX_OK;
}

enum obx_code waker_create(const char *const *to, size_t count, struct waker **out,
                           struct obx_err *err)
{
    struct waker *waker = obx_calloc(1, sizeof(*waker));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (waker == NULL)
        return obx_fail(err, OBX_E_NOMEM, "wake");
    waker->local = make_socket(AF_UNIX);
    waker->inet = make_socket(AF_INET);
    waker->inet6 = make_socket(AF_INET6);
    waker->targets = obx_calloc(count + 1, sizeof(*waker->targets));
    if (waker->targets == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "wake");
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        waker->count++;
        rc = parse(to[i], &waker->targets[i], err);
    }
    if (rc != OBX_OK) {
        waker_destroy(waker);
        return rc;
    }
    *out = waker;
    return OBX_OK;
}

void waker_destroy(struct waker *waker)
{
    if (waker == NULL)
        return;
    for (size_t i = 0; i < waker->count; i++)
        obx_free(waker->targets[i].path);
    obx_free(waker->targets);
    if (waker->local >= 0)
        (void)close(waker->local);
    if (waker->inet >= 0)
        (void)close(waker->inet);
    if (waker->inet6 >= 0)
        (void)close(waker->inet6);
    obx_free(waker);
}

/* Somebody who listens and cannot be woken polls, and does not know why it is slow. Once is enough:
 * the counter goes on. */
static void refuse(struct waker *waker, const char *path, int sys)
{
    struct obx_err err = {0};

    atomic_fetch_add(&waker->refused, 1);
    if (atomic_exchange(&waker->is_logged, true))
        return;
    (void)obx_fail_errno(&err, OBX_E_SYSTEM, sys, "%s", path);
    OBX_LOG(LOG_LVL_WARN, "inbox", "wake.refused", KV_STR("path", path),
            KV_STR("fix", "its user has to let others write to it, as docs/inbox.md has it"),
            KV_ERR(&err));
}

/* Whether it was sent; errno says why not. A full socket has been woken; behind one that refuses
 * the connection, or is not there, nobody listens. */
static bool ring_path(struct waker *waker, const char *path, const char *queue)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sys;

    memcpy(address.sun_path, path, strlen(path));
    if (sendto(waker->local, queue, strlen(queue), MSG_DONTWAIT | MSG_NOSIGNAL,
               (const struct sockaddr *)&address, sizeof(address)) >= 0)
        return true;
    sys = errno;
    if (sys != EAGAIN && sys != ENOBUFS && sys != ENOENT && sys != ECONNREFUSED)
        refuse(waker, path, sys);
    errno = sys;
    return false;
}

static size_t ring_directory(struct waker *waker, DIR *dir, const char *path, const char *queue)
{
    const struct dirent *entry;
    size_t sent = 0;

    for (int i = 0; i < ENTRIES_MAX && (entry = readdir(dir)) != NULL; i++) {
        char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
        struct stat info;

        /* Nothing but sockets is written to or removed, and no link is followed: the directory
         * belongs to the service, this program to somebody else. */
        if (fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISSOCK(info.st_mode))
            continue;
        if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int)sizeof(name))
            refuse(waker, entry->d_name, ENAMETOOLONG);
        else if (ring_path(waker, name, queue))
            sent++;
        else if (errno == ECONNREFUSED)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    return sent;
}

uint64_t waker_refused(struct waker *waker)
{
    return atomic_load(&waker->refused);
}

static size_t ring_target(struct waker *waker, const struct target *target, const char *queue)
{
    DIR *dir = NULL;
    size_t sent;

    if (target->path == NULL)
        return sendto(target->address.ss_family == AF_INET ? waker->inet : waker->inet6, queue,
                      strlen(queue), MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&target->address, target->len) >= 0;
    dir = opendir(target->path);
    if (dir == NULL)
        return ring_path(waker, target->path, queue);
    sent = ring_directory(waker, dir, target->path, queue);
    (void)closedir(dir);
    return sent;
}

size_t waker_ring(struct waker *waker, const char *queue)
{
    size_t sent = 0;

    for (size_t i = 0; i < waker->count; i++)
        sent += ring_target(waker, &waker->targets[i], queue);
    return sent;
}
