/*
 * Datagrams to the workers of a service, after a commit that brought them something. A hint: what
 * cannot be sent at once is not sent.
 */
#ifndef INBOX_WAKE_H
#define INBOX_WAKE_H

#include <stddef.h>
#include <stdint.h>

#include "obx/err.h"

struct waker;

/**
 * To each of these: a directory, to every socket in it; a path of a socket; or HOST:PORT, where
 * HOST is an address. Texts are copied. OBX_E_CONFIG: neither a path nor an address, or a path that
 * is too long for a socket.
 */
OBX_NODISCARD enum obx_code waker_create(const char *const *to, size_t count, struct waker **out,
                                         struct obx_err *err);
void waker_destroy(struct waker *waker);
/** Send the queue's name to all; never waits. How many were sent. Any thread. */
size_t waker_ring(struct waker *waker, const char *queue);
/** How many were refused by somebody who is there, most often for want of rights. Any thread. */
uint64_t waker_refused(struct waker *waker);

#endif
