/*
 * What sessions of outboxctl and of the console share. Called by the resources.
 */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/address.h"
#include "obx/doorbell.h"
#include "outbox/bell_msg.h"

enum { DECIMAL = 10 };

bool ctl_parse_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoull(text, &end, DECIMAL);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out <= max;
}

/* The owner is on another machine, or this one has no doorbell socket. A datagram that is lost costs
 * a poll interval, so nothing is waited for. */
static void ring_by_udp(const char *address, const char *outbox)
{
    struct address to;
    int fd;

    if (!address_parse(address, &to))
        return;
    fd = socket(to.sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, outbox, strlen(outbox), MSG_NOSIGNAL, (const struct sockaddr *)&to.sa, to.len);
    close(fd);
}

void target_ring(const struct targets *targets, const struct target *target, const char *outbox,
                 const char *owner_address)
{
    char name[BELL_MSG_MAX];

    if (targets->config != NULL && targets->config->doorbell_socket != NULL) {
        snprintf(name, sizeof(name), "%s/%s", target->source, outbox);
        if (obx_doorbell_ring(targets->config->doorbell_socket, name, NULL) == OBX_OK)
            return;
    }
    ring_by_udp(owner_address, outbox);
}
