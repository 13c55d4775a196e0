/*
 * The programs' log: one thread writes to a descriptor of which nobody knows where it leads.
 *
 * A pipe whose reader stands still, a terminal that was stopped, a file on a server that is gone:
 * each may hold a write(2) for as long as it likes, and O_NONBLOCK is no remedy, for it belongs to
 * the open file, which other processes share. So the threads that log only copy their line into a
 * ring of a fixed size, and the writer alone waits. What does not fit is dropped and counted;
 * where lines are missing, a line says how many.
 *
 * Invariants: the ring holds whole lines, each with its newline; the lock is never held over a
 * system call that may wait. Proved by tests/unit/log_test.c and, with the whole program, by
 * tests/system/relay_life_test.c.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/thread.h"
#include "log_format.h"

enum { RING_SIZE = 256 * 1024, REOPEN_AT = RING_SIZE / 2 };

/* A line is at most what a pipe takes in one piece, so lines of several processes do not mix. */
_Static_assert(LOG_LINE_MAX + 1 <= PIPE_BUF, "a line and its newline fit into one write");

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* for the writer: lines came, or it is to end */
    pthread_cond_t written; /* for log_flush */
    struct thread thread;
    enum log_format format;
    int fd;
    bool is_started;
    bool is_ending;
    bool has_ended;
    bool is_writing; /* lines that left the ring are on their way */
    bool is_full;    /* until half of it is free again: runs of lines rather than single ones */
    size_t head, len;
    uint64_t dropped; /* since the start */
    uint64_t untold;  /* of them: since the last line that said so */
    char ring[RING_SIZE];
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the ring, under the lock ---- */

static void put_bytes(const char *p, size_t len)
{
    size_t at = (writer.head + writer.len) % RING_SIZE;
    size_t first = len < RING_SIZE - at ? len : RING_SIZE - at;

    memcpy(writer.ring + at, p, first);
    memcpy(writer.ring, p + first, len - first);
    writer.len += len;
}

static bool put_line(const char *line, size_t len)
{
    if (len + 1 > RING_SIZE - writer.len)
        return false;
    put_bytes(line, len);
    put_bytes("\n", 1);
    return true;
}

static void tell_dropped(void)
{
    const struct log_kv kv[] = {KV_U64("dropped", writer.untold), KV_U64("total", writer.dropped)};
    const struct log_record record = log_record_now(LOG_LVL_WARN, "log", "lines.dropped", kv, 2);
    char line[LOG_LINE_MAX];

    if (writer.untold > 0 && put_line(line, log_format_line(writer.format, &record, line)))
        writer.untold = 0;
}

static void drop(uint64_t lines)
{
    writer.dropped += lines;
    writer.untold += lines;
}

/* Moves the whole lines of the ring that fit into chunk; returns their bytes. */
static size_t take_lines(char *chunk)
{
    size_t most = writer.len < PIPE_BUF ? writer.len : PIPE_BUF;
    size_t first = most < RING_SIZE - writer.head ? most : RING_SIZE - writer.head;

    memcpy(chunk, writer.ring + writer.head, first);
    memcpy(chunk + first, writer.ring, most - first);
    while (most > 0 && chunk[most - 1] != '\n')
        most--;
    writer.head = (writer.head + most) % RING_SIZE;
    writer.len -= most;
    return most;
}

/* ---- the thread ---- */

/* False when the rest cannot be written. Somebody who shares the open file may have made it
 * non-blocking. */
static bool write_all(const char *p, size_t len)
{
    while (len > 0) {
        ssize_t done = write(writer.fd, p, len);

        if (done >= 0) {
            p += done;
            len -= (size_t)done;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            (void)poll(&(struct pollfd){.fd = writer.fd, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static uint64_t count_lines(const char *p, size_t len)
{
    uint64_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += p[i] == '\n';
    return count;
}

/* The lock is held before and after. */
static void write_lines(void)
{
    char chunk[PIPE_BUF];
    size_t len = take_lines(chunk);
    bool is_written = false;

    writer.is_writing = true;
    (void)pthread_mutex_unlock(&writer.lock);
    is_written = write_all(chunk, len);
    (void)pthread_mutex_lock(&writer.lock);
    writer.is_writing = false;
    if (!is_written)
        drop(count_lines(chunk, len));
    else if (writer.len == 0)
        tell_dropped();
    (void)pthread_cond_broadcast(&writer.written);
}

static void *run(void *ctx)
{
    (void)ctx;
    (void)pthread_mutex_lock(&writer.lock);
    while (writer.len > 0 || !writer.is_ending) {
        if (writer.len > 0)
            write_lines();
        else
            (void)pthread_cond_wait(&writer.changed, &writer.lock);
    }
    writer.has_ended = true;
    (void)pthread_cond_broadcast(&writer.written);
    (void)pthread_mutex_unlock(&writer.lock);
    return NULL;
}

/* ---- calls from any thread ---- */

static void sink(enum log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)ctx;
    (void)pthread_mutex_lock(&writer.lock);
    writer.is_full = writer.is_full && writer.len > REOPEN_AT;
    if (!writer.is_full)
        tell_dropped();
    if (writer.is_full || !put_line(line, len)) {
        writer.is_full = true;
        drop(1);
    }
    (void)pthread_cond_signal(&writer.changed);
    (void)pthread_mutex_unlock(&writer.lock);
}

enum obx_code log_start(enum log_level min_level, enum log_format format, int fd,
                        struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    OBX_ASSERT(!writer.is_started);
    writer.format = format;
    writer.fd = fd;
    writer.is_ending = writer.has_ended = writer.is_full = false;
    writer.head = writer.len = 0;
    writer.dropped = writer.untold = 0;
    cond_init(&writer.changed);
    cond_init(&writer.written);
    rc = thread_start(&writer.thread, run, NULL, "the log", err);
    if (rc != OBX_OK)
        return rc;
    writer.is_started = true;
    log_setup(min_level, format, sink, NULL);
    return OBX_OK;
}

/* Until all is written, and when the writer is to end until it has. The lock is held. */
static void await_idle(uint32_t wait_ms)
{
    uint64_t until_ms = clock_now_ms() + wait_ms;

    while (!writer.has_ended && (writer.len > 0 || writer.is_writing || writer.is_ending) &&
           cond_wait_ms(&writer.written, &writer.lock, (uint64_t)clock_left_ms(until_ms)))
        ;
}

void log_flush(uint32_t wait_ms)
{
    if (!writer.is_started)
        return;
    (void)pthread_mutex_lock(&writer.lock);
    await_idle(wait_ms);
    (void)pthread_mutex_unlock(&writer.lock);
}

void log_end(uint32_t wait_ms)
{
    bool has_ended = false;

    if (!writer.is_started)
        return;
    (void)pthread_mutex_lock(&writer.lock);
    writer.is_ending = true;
    (void)pthread_cond_signal(&writer.changed);
    await_idle(wait_ms);
    has_ended = writer.has_ended;
    (void)pthread_mutex_unlock(&writer.lock);
    if (!has_ended)
        return; /* the process ends without it; nothing it uses is freed */
    thread_join(&writer.thread);
    log_setup(LOG_LVL_OFF, writer.format, NULL, NULL);
    writer.is_started = false;
}

uint64_t log_dropped(void)
{
    uint64_t dropped = 0;

    (void)pthread_mutex_lock(&writer.lock);
    dropped = writer.dropped;
    (void)pthread_mutex_unlock(&writer.lock);
    return dropped;
}
