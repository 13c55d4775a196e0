/*
 * Child programs of a test: start, signal, wait with a deadline, look into the log.
 *
 * A child runs in a process group of its own, gets SIGKILL when the thread that started it ends,
 * and inherits no open file but its log. Nothing here fails a test by itself: what went wrong is
 * printed to stderr and returned. A struct proc belongs to one thread at a time.
 */
#ifndef OBX_TEST_PROCESS_H
#define OBX_TEST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc;

struct proc_opts {
    const char *const
        *argv; /* NULL at the end; argv[0] is the program, looked up in PATH if it has no slash */
    const char *const
        *env; /* "NAME=value" added to our environment, NULL at the end; NULL: nothing */
    const char *log_path; /* stdout and stderr are appended to it; NULL: they are thrown away */
};

/** How a program ended. */
struct proc_exit {
    int code;   /* exit status, or -1 when a signal ended it */
    int signal; /* the signal that ended it, or 0 */
};

/**
 * Start a program. Success means that it was executed, not that it is ready.
 *
 * @return the child, to be given to proc_destroy; NULL when it could not be started
 */
struct proc *proc_start(const struct proc_opts *opts);

/** Kill the child's process group with SIGKILL if it is still there, reap it and free it. NULL is
 * fine. */
void proc_destroy(struct proc *proc);

pid_t proc_pid(const struct proc *proc);

/** Whether the child has not ended; a stopped one (SIGSTOP) is alive. */
bool proc_is_alive(struct proc *proc);

/** Send a signal to the child alone. False when it has ended. */
bool proc_signal(struct proc *proc, int signal);

/** SIGKILL to the whole process group, and reap. The child is gone when this returns. */
void proc_kill(struct proc *proc);

/** Wait until the child has ended. False when it has not by then; how may be NULL. */
bool proc_wait(struct proc *proc, int64_t timeout_ms, struct proc_exit *how);

/** Whether the log holds the text, from the given byte on. */
bool proc_log_has(const struct proc *proc, int64_t from, const char *text);

/** Size of the log in bytes, to look later only at what came after. 0 without a log. */
int64_t proc_log_size(const struct proc *proc);

/** Wait until the log holds the text, from the given byte on. False at the deadline or when the
 * child ended. */
bool proc_wait_log(struct proc *proc, int64_t from, const char *text, int64_t timeout_ms);

/**
 * Start a program and wait until it ends; it is killed at the deadline.
 *
 * @return true when it ended by itself in time; how then says how
 */
bool proc_run(const struct proc_opts *opts, int64_t timeout_ms, struct proc_exit *how);

/** A port of the loopback that nobody listens on just now. 0 when there is none. */
uint16_t proc_free_port(void);

#endif
