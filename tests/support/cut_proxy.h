/*
 * A TCP proxy on the loopback that breaks connections on command, to stand between the relay or a
 * consumer and RabbitMQ or the database.
 *
 * It runs in a thread of its own. Every call below is safe from any thread and has taken effect
 * when it returns: what is read from a socket after that sees it. A fault that is set holds for the
 * connections there are and for those to come, until it is taken back.
 */
#ifndef OBX_TEST_CUT_PROXY_H
#define OBX_TEST_CUT_PROXY_H

#include <stdbool.h>
#include <stdint.h>

struct cut_proxy;

enum cut_dir { CUT_TO_SERVER, CUT_TO_CLIENT };

enum cut_flow {
    CUT_PASS,
    CUT_HOLD,   /* nothing is read: it waits in the kernel's buffers and goes on after CUT_PASS */
    CUT_SWALLOW /* read and thrown away. A connection that lost a byte stays mute in that direction
                   for good */
};

struct cut_stats {
    uint64_t accepted;  /* connections taken, also those whose server could not be reached */
    uint64_t open;      /* connections through the proxy now */
    uint64_t passed[2]; /* bytes written on, by enum cut_dir */
    uint64_t swallowed[2];
};

/**
 * Listen on a free port of 127.0.0.1 and forward to a server on an IPv4 address.
 *
 * @return the proxy, to be given to cut_proxy_destroy; NULL (the cause is on stderr) when it failed
 */
struct cut_proxy *cut_proxy_create(const char *server_address, uint16_t server_port);

/** Close everything (with RST) and end the thread. NULL is fine. */
void cut_proxy_destroy(struct cut_proxy *proxy);

uint16_t cut_proxy_port(const struct cut_proxy *proxy);

/** Where connections made from now on go; for a server that came back on another port. */
void cut_proxy_set_server_port(struct cut_proxy *proxy, uint16_t server_port);

/** Reset (RST, to both sides) every connection now. What the proxy holds of them is lost. */
void cut_proxy_cut_all(struct cut_proxy *proxy);

/**
 * Let exactly `bytes` more bytes pass in a direction, counted over all connections; the connection
 * that has one byte more is reset, after the other side has taken what passed. Then the fault is
 * over. 0 cuts at the next byte.
 */
void cut_proxy_cut_after(struct cut_proxy *proxy, enum cut_dir dir, uint64_t bytes);

/** Whether the cut asked for by cut_proxy_cut_after has not happened yet. */
bool cut_proxy_cut_is_pending(struct cut_proxy *proxy, enum cut_dir dir);

/** Pass, hold or swallow what goes in a direction. While it does not pass, an end of stream does
 * not either. */
void cut_proxy_set_flow(struct cut_proxy *proxy, enum cut_dir dir, enum cut_flow flow);

/** Hold every piece back this long before it goes on; 0: none. */
void cut_proxy_set_delay(struct cut_proxy *proxy, enum cut_dir dir, int64_t delay_ms);

/** Refuse (true) or take (false) new connections. Those there are stay. The port stays the same. */
void cut_proxy_set_refuse(struct cut_proxy *proxy, bool refuse);

void cut_proxy_get_stats(struct cut_proxy *proxy, struct cut_stats *stats);

#endif
