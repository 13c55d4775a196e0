/* Numeric "host:port" and "[v6]:port" texts. Names are refused, because the main thread must not
 * wait for a name server. */
#ifndef DAEMON_ADDRESS_H
#define DAEMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};

/** Read a numeric address with a port of 1 to 65535. False when it is anything else. */
bool address_parse(const char *text, struct address *out);
/** Whether it is 0.0.0.0 or [::]: good to listen on, of no use to others. */
bool address_is_any(const struct address *address);

#endif
