/*
 * Which hosts a request may name. A page of another origin can make a browser send requests to us
 * by letting its own name resolve to our address, and then reads the answers; its name in the Host
 * gives it away. Addresses cannot be claimed in that way. Called by http.c.
 */
#ifndef SERVICE_HTTP_HOST_H
#define SERVICE_HTTP_HOST_H

#include <stdbool.h>
#include <stddef.h>

/** Whether host ("name", "name:port", "192.0.2.1:80", "[::1]") is localhost, an address, or one of
 * names ("*": anything well-formed). */
bool http_host_is_ours(const char *host, char *const *names, size_t count);

#endif
