/*
 * Doorbell sockets. Called by daemon.c.
 *
 * The socket file is created under a umask that leaves it to owner and group; who may ring is then
 * a matter of the group of the folder or of the process, as the operator sets it.
 */
#include "doorbell.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/alloc.h"
#include "base/log.h"
#include "config/address.h"

enum { READS_PER_TURN = 256, SOCKET_UMASK = 0117, LOG_EVERY_MS = 10000 };

struct doorbell {
    struct doorbell_opts opts;
    int unix_fd;
    int udp_fd;
    int send_v4_fd; /* opened when first needed */
    int send_v6_fd;
    struct event *unix_event;
    struct event *udp_event;
    dev_t socket_dev; /* of the file that we made */
    ino_t socket_ino;
    struct bell_stats stats;
    struct log_limit malformed_limit;
};

static void take_datagram(struct doorbell *doorbell, const char *data, size_t len)
{
    struct bell_msg msg;
    uint64_t dropped = 0;

    if (!bell_msg_parse((struct obx_bytes){.p = data, .len = len}, &msg)) {
        doorbell->stats.malformed++;
        if (log_limit_pass(&doorbell->malformed_limit, LOG_EVERY_MS, &dropped))
            OBX_LOG(LOG_LVL_WARN, "doorbell", "ring.malformed", KV_U64("bytes", len),
                    KV_U64("more", dropped));
        return;
    }
    doorbell->stats.rings++;
    if (!doorbell->opts.on_ring(&msg, doorbell->opts.ctx))
        doorbell->stats.unknown++;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct doorbell *doorbell = ctx;
    char data[BELL_MSG_MAX + 1];

    (void)what;
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t len = recv((int)fd, data, sizeof(data), 0);

        if (len < 0)
            break;
        take_datagram(doorbell, data, (size_t)len);
    }
    doorbell->opts.on_turn_end(doorbell->opts.ctx);
}

static enum obx_code watch(struct doorbell *doorbell, int fd, struct event **event,
                           struct obx_err *err)
{
    *event = event_new(doorbell->opts.base, fd, EV_READ | EV_PERSIST, on_readable, doorbell);
    if (*event == NULL || event_add(*event, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "doorbell");
    return OBX_OK;
}

static bool somebody_listens(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_alive;

    if (fd < 0)
        return true; /* not known: rather leave the file alone */
    is_alive = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0;
    is_alive = is_alive || errno != ECONNREFUSED;
    close(fd);
    return is_alive;
}

/* A socket file is left when its process is killed. Only that is removed, nothing else. */
static enum obx_code remove_stale(const struct sockaddr_un *addr, struct obx_err *err)
{
    struct stat st;

    if (lstat(addr->sun_path, &st) != 0)
        return OBX_OK;
    if (!S_ISSOCK(st.st_mode))
        return obx_fail(err, OBX_E_CONFIG, "doorbell_socket %s exists and is not a socket",
                        addr->sun_path);
    if (somebody_listens(addr))
        return obx_fail(err, OBX_E_CONFIG, "doorbell_socket %s is another process's",
                        addr->sun_path);
    unlink(addr->sun_path);
    return OBX_OK;
}

static enum obx_code bind_unix(struct doorbell *doorbell, const struct sockaddr_un *addr,
                               struct obx_err *err)
{
    mode_t old = umask(SOCKET_UMASK);
    int rc = bind(doorbell->unix_fd, (const struct sockaddr *)addr, sizeof(*addr));
    int sys = errno;
    struct stat st;

    umask(old);
    if (rc != 0)
        return obx_fail_sys(err, OBX_E_SYSTEM, sys, "doorbell_socket %s: %s", addr->sun_path,
                            strerror(sys));
    if (stat(addr->sun_path, &st) == 0) {
        doorbell->socket_dev = st.st_dev;
        doorbell->socket_ino = st.st_ino;
    }
    return OBX_OK;
}

static enum obx_code open_unix(struct doorbell *doorbell, struct obx_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(doorbell->opts.socket_path);
    enum obx_code rc;

    if (len >= sizeof(addr.sun_path))
        return obx_fail(err, OBX_E_CONFIG, "doorbell_socket is longer than a socket's path may be");
    memcpy(addr.sun_path, doorbell->opts.socket_path, len + 1);
    doorbell->unix_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (doorbell->unix_fd < 0)
        return obx_fail_sys(err, OBX_E_SYSTEM, errno, "doorbell: %s", strerror(errno));
    rc = remove_stale(&addr, err);
    if (rc == OBX_OK)
        rc = bind_unix(doorbell, &addr, err);
    if (rc == OBX_OK)
        rc = watch(doorbell, doorbell->unix_fd, &doorbell->unix_event, err);
    return rc;
}

static enum obx_code open_udp(struct doorbell *doorbell, struct obx_err *err)
{
    const char *text = doorbell->opts.udp_address;
    struct address address;
    int sys;

    if (!address_parse(text, &address))
        return obx_fail(err, OBX_E_CONFIG, "doorbell_address %s is not a numeric host:port", text);
    doorbell->udp_fd = socket(address.sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (doorbell->udp_fd < 0 ||
        bind(doorbell->udp_fd, (const struct sockaddr *)&address.sa, address.len) != 0) {
        sys = errno;
        return obx_fail_sys(err, sys == EADDRINUSE ? OBX_E_CONFIG : OBX_E_SYSTEM, sys,
                            "doorbell_address %s: %s", text, strerror(sys));
    }
    return watch(doorbell, doorbell->udp_fd, &doorbell->udp_event, err);
}

enum obx_code doorbell_create(const struct doorbell_opts *opts, struct doorbell **out,
                              struct obx_err *err)
{
    struct doorbell *doorbell = obx_calloc(1, sizeof(*doorbell));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (doorbell == NULL)
        return obx_fail(err, OBX_E_NOMEM, "doorbell");
    doorbell->opts = *opts;
    doorbell->unix_fd = doorbell->udp_fd = doorbell->send_v4_fd = doorbell->send_v6_fd = -1;
    if (opts->socket_path != NULL)
        rc = open_unix(doorbell, err);
    if (rc == OBX_OK && opts->udp_address != NULL)
        rc = open_udp(doorbell, err);
    if (rc != OBX_OK) {
        doorbell_destroy(doorbell);
        return rc;
    }
    *out = doorbell;
    return OBX_OK;
}

static void remove_socket_file(const struct doorbell *doorbell)
{
    struct stat st;

    if (doorbell->socket_ino != 0 && lstat(doorbell->opts.socket_path, &st) == 0 &&
        st.st_dev == doorbell->socket_dev && st.st_ino == doorbell->socket_ino)
        unlink(doorbell->opts.socket_path);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void doorbell_destroy(struct doorbell *doorbell)
{
    if (doorbell == NULL)
        return;
    if (doorbell->unix_event != NULL)
        event_free(doorbell->unix_event);
    if (doorbell->udp_event != NULL)
        event_free(doorbell->udp_event);
    remove_socket_file(doorbell);
    close_fd(doorbell->unix_fd);
    close_fd(doorbell->udp_fd);
    close_fd(doorbell->send_v4_fd);
    close_fd(doorbell->send_v6_fd);
    obx_free(doorbell);
}

/* The sending socket of a family; unbound, because rings may go to other hosts than those that come
 * in. */
static int sender_for(struct doorbell *doorbell, sa_family_t family)
{
    int *fd = family == AF_INET6 ? &doorbell->send_v6_fd : &doorbell->send_v4_fd;

    if (*fd < 0)
        *fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return *fd;
}

bool doorbell_pass_on(struct doorbell *doorbell, const char *address, const char *source,
                      const char *outbox)
{
    char text[BELL_MSG_MAX];
    size_t len = bell_msg_forward(text, sizeof(text), source, outbox);
    struct address to;
    int fd;

    if (len == 0 || !address_parse(address, &to))
        return false;
    fd = sender_for(doorbell, to.sa.ss_family);
    return fd >= 0 && sendto(fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&to.sa,
                             to.len) == (ssize_t)len;
}

void doorbell_get_stats(const struct doorbell *doorbell, struct bell_stats *out)
{
    out->rings = doorbell->stats.rings;
    out->malformed = doorbell->stats.malformed;
    out->unknown = doorbell->stats.unknown;
}
