/*
 * Child programs of a test. Called by system and crash tests, which start the relay, consumers and
 * the server script with it.
 *
 * Invariant: pid > 0 exactly while the child is not reaped, so no signal ever goes to a reused pid.
 */
#define _GNU_SOURCE
#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wait.h"

struct proc {
    pid_t pid; /* 0 once reaped */
    struct proc_exit how;
    char *log_path; /* NULL: none */
};

extern char **environ;

static bool is_same_name(const char *a, const char *b)
{
    const size_t len = strcspn(a, "=");

    return len == strcspn(b, "=") && memcmp(a, b, len) == 0;
}

static bool is_replaced(const char *entry, const char *const *additions)
{
    for (; additions != NULL && *additions != NULL; additions++) {
        if (is_same_name(entry, *additions))
            return true;
    }
    return false;
}

/* The child's environment: ours, less what is set again, and the additions. Entries are borrowed.
 */
static char **merged_env(const char *const *additions)
{
    size_t count = 0;
    size_t n = 0;
    char **merged = NULL;

    for (char **entry = environ; *entry != NULL; entry++)
        count++;
    for (const char *const *entry = additions; entry != NULL && *entry != NULL; entry++)
        count++;
    merged = calloc(count + 1, sizeof(*merged));
    if (merged == NULL)
        return NULL;
    for (char **entry = environ; *entry != NULL; entry++) {
        if (!is_replaced(*entry, additions))
            merged[n++] = *entry;
    }
    for (; additions != NULL && *additions != NULL; additions++) {
        /* execvpe() wants char *, and does not write. */
        memcpy(&merged[n++], additions, sizeof(*merged));
    }
    return merged;
}

/* Runs in the child between fork and exec: only async-signal-safe calls. */
static void become(const struct proc_opts *opts, char **env, int report, pid_t parent)
{
    const char *log_path = opts->log_path == NULL ? "/dev/null" : opts->log_path;
    const int in = open("/dev/null", O_RDONLY);
    const int out = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    char **argv = NULL;
    int cause = 0;

    memcpy(&argv, &opts->argv, sizeof(argv));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    if (getppid() == parent && in >= 0 && out >= 0 && dup2(in, 0) == 0 && dup2(out, 1) == 1 &&
        dup2(out, 2) == 2) {
        dup2(report, 3);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        report = 3;
        close_range(4, ~0U, 0);
        execvpe(argv[0], argv, env);
    }
    cause = errno;
    (void)!write(report, &cause, sizeof(cause));
    _exit(127);
}

static struct proc *proc_new(const struct proc_opts *opts)
{
    struct proc *proc = calloc(1, sizeof(*proc));

    if (proc != NULL && opts->log_path != NULL) {
        proc->log_path = strdup(opts->log_path);
        if (proc->log_path == NULL) {
            free(proc);
            proc = NULL;
        }
    }
    return proc;
}

/* Forks, and waits until the child has become the program. Returns 0 or the cause of the failure.
 */
static int spawn(struct proc *proc, const struct proc_opts *opts, char **env)
{
    int report[2] = {-1, -1};
    const pid_t parent = getpid();
    int cause = 0;

    if (pipe2(report, O_CLOEXEC) != 0)
        return errno;
    proc->pid = fork();
    if (proc->pid == 0)
        become(opts, env, report[1], parent);
    close(report[1]);
    if (proc->pid < 0) {
        cause = errno;
        proc->pid = 0;
    } else if (read(report[0], &cause, sizeof(cause)) != (ssize_t)sizeof(cause)) {
        cause = 0; /* the pipe was closed by exec */
    }
    close(report[0]);
    return cause;
}

struct proc *proc_start(const struct proc_opts *opts)
{
    struct proc *proc = proc_new(opts);
    char **env = merged_env(opts->env);
    int cause = ENOMEM;

    if (proc != NULL && env != NULL)
        cause = spawn(proc, opts, env);
    free(env);
    if (cause != 0) {
        fprintf(stderr, "cannot start %s: %s\n", opts->argv[0], strerror(cause));
        proc_destroy(proc);
        return NULL;
    }
    return proc;
}

void proc_destroy(struct proc *proc)
{
    if (proc == NULL)
        return;
    proc_kill(proc);
    free(proc->log_path);
    free(proc);
}

pid_t proc_pid(const struct proc *proc)
{
    return proc->pid;
}

/* Takes the exit status if the child has ended (or waits for it with flags 0). */
static void reap(struct proc *proc, int flags)
{
    int status = 0;
    pid_t ended = 0;

    if (proc->pid == 0)
        return;
    do {
        ended = waitpid(proc->pid, &status, flags);
    } while (ended < 0 && errno == EINTR);
    if (ended != proc->pid)
        return;
    proc->pid = 0;
    proc->how.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    proc->how.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

bool proc_is_alive(struct proc *proc)
{
    reap(proc, WNOHANG);
    return proc->pid != 0;
}

bool proc_signal(struct proc *proc, int signal)
{
    return proc_is_alive(proc) && kill(proc->pid, signal) == 0;
}

void proc_kill(struct proc *proc)
{
    if (proc->pid == 0)
        return;
    /* The group may be there although its leader has ended. */
    kill(-proc->pid, SIGKILL);
    kill(proc->pid, SIGKILL);
    reap(proc, 0);
}

static bool has_ended(void *ctx)
{
    return !proc_is_alive(ctx);
}

bool proc_wait(struct proc *proc, int64_t timeout_ms, struct proc_exit *how)
{
    if (!wait_until(timeout_ms, has_ended, proc))
        return false;
    if (how != NULL)
        *how = proc->how;
    return true;
}

int64_t proc_log_size(const struct proc *proc)
{
    struct stat info = {0};

    if (proc->log_path == NULL || stat(proc->log_path, &info) != 0)
        return 0;
    return info.st_size;
}

/* The log from a byte on, with a NUL behind it; NULL when there is nothing. */
static char *log_read(const struct proc *proc, int64_t from)
{
    const int64_t size = proc_log_size(proc) - from;
    FILE *file = NULL;
    char *text = NULL;
    size_t len = 0;

    if (size <= 0)
        return NULL;
    file = fopen(proc->log_path, "re");
    text = calloc(1, (size_t)size + 1);
    if (file != NULL && text != NULL && fseeko(file, from, SEEK_SET) == 0)
        len = fread(text, 1, (size_t)size, file);
    if (file != NULL)
        fclose(file);
    if (len == 0) {
        free(text);
        text = NULL;
    }
    return text;
}

bool proc_log_has(const struct proc *proc, int64_t from, const char *text)
{
    char *log = log_read(proc, from);
    const bool has = log != NULL && strstr(log, text) != NULL;

    free(log);
    return has;
}

struct log_wait {
    struct proc *proc;
    int64_t from;
    const char *text;
    bool found;
};

static bool found_or_ended(void *ctx)
{
    struct log_wait *wait = ctx;
    /* Asked before the log is read: what an ended child wrote is all there. */
    const bool alive = proc_is_alive(wait->proc);

    wait->found = proc_log_has(wait->proc, wait->from, wait->text);
    return wait->found || !alive;
}

bool proc_wait_log(struct proc *proc, int64_t from, const char *text, int64_t timeout_ms)
{
    struct log_wait wait = {.proc = proc, .from = from, .text = text, .found = false};

    wait_until(timeout_ms, found_or_ended, &wait);
    return wait.found;
}

bool proc_run(const struct proc_opts *opts, int64_t timeout_ms, struct proc_exit *how)
{
    struct proc *proc = proc_start(opts);
    const bool ended = proc != NULL && proc_wait(proc, timeout_ms, how);

    if (proc != NULL && !ended)
        fprintf(stderr, "%s did not end within %lld ms\n", opts->argv[0], (long long)timeout_ms);
    proc_destroy(proc);
    return ended;
}

uint16_t proc_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool is_found = fd >= 0 && bind(fd, (const struct sockaddr *)&address, len) == 0 &&
                          getsockname(fd, (struct sockaddr *)&address, &len) == 0;

    if (fd >= 0)
        close(fd);
    return is_found ? ntohs(address.sin_port) : 0;
}
