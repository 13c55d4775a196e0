/*
 * SIGPIPE kept away from the process while the client library writes to a socket that the server
 * may have closed. The process's own disposition is not touched: the signal is blocked for this
 * thread, and one that came up meanwhile is taken back.
 */
#ifndef SQL_DB_PIPE_H
#define SQL_DB_PIPE_H

#include <signal.h>
#include <stdbool.h>

struct db_pipe_guard {
    sigset_t before;
    bool was_pending;
};

void db_pipe_enter(struct db_pipe_guard *guard);
void db_pipe_leave(const struct db_pipe_guard *guard);

#endif
