/*
 * Tells the service manager how we are: READY, RELOADING, STOPPING, WATCHDOG and a line of text, as
 * one datagram to the socket that NOTIFY_SOCKET names (the protocol of sd_notify(3), without its
 * library). Without that variable every call does nothing. Belongs to the main thread; a send never
 * blocks.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

struct notify;

/** Read the environment. NULL when no manager listens, which every call below takes. */
struct notify *notify_open(void);
/** NULL is fine. */
void notify_close(struct notify *notify);
/** Up and working. */
void notify_ready(struct notify *notify);
/** A reload has begun; notify_ready ends it. */
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);
/** Still alive; to be sent at least every notify_watchdog_us. */
void notify_watchdog(struct notify *notify);
/** One line for people: `systemctl status` shows it. Sent only when it differs from the last one.
 */
void notify_status(struct notify *notify, const char *text);
/** Microseconds within which the manager wants to hear of us; 0: it does not. */
uint64_t notify_watchdog_us(const struct notify *notify);

#endif
