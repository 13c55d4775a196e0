/*
 * The life of the real outbox-relay: start, ready, drain, second signal, reload, what the service
 * manager is told, and what the log looks like.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cut_proxy.h"
#include "program_rig.h"
#include "wait.h"

/* A broker address that goes through a proxy; the setting is "OBX_BROKER_ADDRESSES=...". */
static struct cut_proxy *proxy_to_broker(const struct program_rig *rig, char setting[64])
{
    struct cut_proxy *proxy = cut_proxy_create(rig->broker.host, (uint16_t)rig->broker.port);

    assert_non_null(proxy);
    snprintf(setting, 64, "OBX_BROKER_ADDRESSES=127.0.0.1:%u", (unsigned)cut_proxy_port(proxy));
    return proxy;
}

/* Start a relay and let rows pile up unconfirmed behind a proxy that holds the broker's answers. */
static void start_and_hold(struct program_rig *rig, struct cut_proxy *proxy, const char *const *env)
{
    rig_start_ready(rig, 0, env);
    rig_insert(rig, "outbox", "t.x", NULL, "first");
    rig_wait_empty(rig, "outbox");
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_HOLD);
    rig_fill(rig, "outbox", "t.x", 50, 0);
    rig_wait_lane_metric(rig, 0, "rowpost_inflight", 50);
}

/* ---------------------------------------------------------------- signals */

static void rows_go_out_and_term_ends_well(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    rig_fill(rig, "outbox", "t.x", 500, 7);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(broker_count(rig->admin, rig->queue), 500);
    rig_stop(rig, 0);
    assert_true(rig_has_logged(rig, 0, " daemon stop.begun signal=15"));
    assert_true(rig_has_logged(rig, 0, " daemon stopped "));
    /* The lease was given back: the next one owns at once, not after its expiry. */
    assert_int_equal(
        rig_number(rig, "SELECT expires_at > UTC_TIMESTAMP(6) AND owner <> '' FROM outbox_lease"),
        0);
}

static void int_ends_as_term_does(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    assert_true(proc_signal(rig->relays[0], SIGINT));
    assert_int_equal(rig_wait_end(rig, 0), 0);
    assert_true(rig_has_logged(rig, 0, "signal=2"));
}

/* Confirms are held back: the drain waits for them, and settles when they come. */
static void term_waits_for_confirms(void **state)
{
    struct program_rig *rig = *state;
    char address[64];
    struct cut_proxy *proxy = proxy_to_broker(rig, address);

    start_and_hold(rig, proxy, WORDS(address, "OBX_RELAY_DRAIN=40s", "OBX_LANE_LEASE=50s"));
    assert_true(proc_signal(rig->relays[0], SIGTERM));
    rig_wait_log(rig, 0, "to=draining");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 50);
    rig_wait_unready(rig, 0, "stopping");
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_PASS);
    assert_int_equal(rig_wait_end(rig, 0), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 0);
    cut_proxy_destroy(proxy);
}

static void second_term_ends_at_once(void **state)
{
    struct program_rig *rig = *state;
    char address[64];
    struct cut_proxy *proxy = proxy_to_broker(rig, address);

    /* To leave at once is not to join: the one process whose threads are no leak. */
    start_and_hold(rig, proxy,
                   WORDS(address, "OBX_RELAY_DRAIN=50m", "OBX_LANE_LEASE=1h",
                         "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:"
                         "report_thread_leaks=0"));
    assert_true(proc_signal(rig->relays[0], SIGTERM));
    rig_wait_log(rig, 0, "stop.begun");
    assert_true(proc_signal(rig->relays[0], SIGTERM));
    assert_int_equal(rig_wait_end(rig, 0), 1);
    assert_true(rig_has_logged(rig, 0, "exit.at_once"));
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 50); /* nothing lost */
    cut_proxy_destroy(proxy);
}

/* A drain that cannot end ends: after drain, confirms that never come are left to the next owner.
 */
static void drain_has_an_end(void **state)
{
    struct program_rig *rig = *state;
    char address[64];
    struct cut_proxy *proxy = proxy_to_broker(rig, address);

    start_and_hold(rig, proxy, WORDS(address, "OBX_RELAY_DRAIN=200ms"));
    assert_true(proc_signal(rig->relays[0], SIGTERM));
    assert_int_equal(rig_wait_end(rig, 0), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 50);
    cut_proxy_destroy(proxy);
    rig_start_ready(rig, 1, NULL);
    rig_wait_empty(rig, "outbox");
}

/* Signals that come while the first server is still being tried. */
static void term_before_anything_is_reachable(void **state)
{
    struct program_rig *rig = *state;

    rig_start(rig, 0, WORDS("OBX_SOURCE_SHOP_PORT=1", "OBX_BROKER_ADDRESSES=127.0.0.1:1"));
    rig_wait_unready(rig, 0, "");
    rig_stop(rig, 0);
}

/* ---------------------------------------------------------------- reload */

static void append_to_config(struct program_rig *rig, const char *more)
{
    struct obx_buf text = {0};

    rig_config_text(rig, &text);
    assert_int_equal(buf_add_text(&text, more), OBX_OK);
    rig_write(rig, "relay.conf", text.data, rig->config);
    buf_fini(&text);
}

static void replace_in_config(struct program_rig *rig, const char *from, const char *to)
{
    struct obx_buf text = {0}, after = {0};
    const char *at;

    rig_config_text(rig, &text);
    at = strstr(text.data, from);
    assert_non_null(at);
    assert_int_equal(
        buf_addf(&after, "%.*s%s%s", (int)(at - text.data), text.data, to, at + strlen(from)),
        OBX_OK);
    rig_write(rig, "relay.conf", after.data, rig->config);
    buf_fini(&text);
    buf_fini(&after);
}

static void hup(struct program_rig *rig, const char *result)
{
    const int64_t from = proc_log_size(rig->relays[0]);

    assert_true(proc_signal(rig->relays[0], SIGHUP));
    if (!proc_wait_log(rig->relays[0], from, result, RIG_WAIT_MS))
        fail_msg("no \"%s\" after SIGHUP", result);
}

static void hup_takes_a_new_outbox(void **state)
{
    struct program_rig *rig = *state;

    rig_add_outbox(rig, "outbox_two");
    rig_start_ready(rig, 0, NULL);
    replace_in_config(rig, "[queue ", "outboxes = outbox, outbox_two\n[queue ");
    hup(rig, "reload.taken");
    rig_insert(rig, "outbox_two", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox_two");
    rig_wait_ready(rig, 0);
    assert_true(rig_metric(rig, 0, "rowpost_reloads_total") == 1);
    /* The lane that had not changed was left alone. */
    assert_true(rig_lane_metric(rig, 0, "rowpost_lane_starts") == 1);
    replace_in_config(rig, "outboxes = outbox, outbox_two\n", "");
    hup(rig, "lane.ended source=shop outbox=outbox_two");
    rig_stop(rig, 0);
}

static void hup_refuses_what_is_wrong_and_says_why(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    append_to_config(rig, "[lane]\nwindo = 1\n");
    hup(rig, "reload.refused");
    assert_true(rig_has_logged(rig, 0, "did you mean window"));
    assert_true(rig_metric(rig, 0, "rowpost_reloads_refused_total") == 1);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(rename(rig->config, rig_log_path(rig, 4)), 0); /* the file is gone */
    hup(rig, "reload.refused");
    assert_true(rig_has_logged(rig, 0, "cannot be read: No such file"));
    rig_stop(rig, 0);
    assert_int_equal(unlink(rig_log_path(rig, 4)), 0); /* it has passwords, and is no log */
}

static void hup_says_what_needs_a_restart(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    append_to_config(rig, "[half]\nworkers = 3\n");
    hup(rig, "reload.restart_needed");
    assert_true(rig_has_logged(rig, 0, "workers"));
    assert_true(rig_metric(rig, 0, "rowpost_restart_needed") == 1);
    rig_stop(rig, 0);
}

/* Somebody deletes a queue while everything is connected. The message waits, and a HUP without any
 * change makes the queue again. */
static void hup_makes_a_deleted_queue_again(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, NULL);
    broker_delete_queue(rig->admin, rig->queue);
    rig_insert(rig, "outbox", "t.x", NULL, "b");
    rig_wait_lane_metric(rig, 0, "rowpost_returned_total", 1);
    hup(rig, "reload.taken changes=0");
    rig_wait_log(rig, 0, "topology.done");
    rig_wait_empty(rig, "outbox");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    assert_int_equal(broker_count(rig->admin, rig->queue), 1);
    rig_stop(rig, 0);
}

/* Rows, signals and reloads at the same time: nothing is lost and the last one is in force. */
static void hup_under_load(void **state)
{
    struct program_rig *rig = *state;
    char window[48];

    rig_start_ready(rig, 0, NULL);
    append_to_config(rig, "[topic t.*]\nmax_attempts = 1\n");
    for (unsigned i = 1; i <= 10; i++) {
        char before[48];

        snprintf(before, sizeof(before), "max_attempts = %u\n", i);
        snprintf(window, sizeof(window), "max_attempts = %u\n", i + 1);
        rig_fill(rig, "outbox", "t.x", 100, 5);
        replace_in_config(rig, before, window);
        assert_true(proc_signal(rig->relays[0], SIGHUP));
    }
    rig_fill(rig, "outbox", "t.x", 100, 5);
    rig_wait_empty(rig, "outbox");
    assert_true(broker_count(rig->admin, rig->queue) >= 1100);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
    hup(rig, "reload.taken");
    rig_stop(rig, 0);
}

/* ---------------------------------------------------------------- the service manager */

struct manager {
    char path[192];
    char setting[224]; /* NOTIFY_SOCKET=... */
    int fd;
    char seen[8192]; /* everything that came, a line each */
    size_t len;
};

static void manager_open(struct manager *manager, const struct program_rig *rig)
{
    const struct timeval wait = {.tv_usec = 20000};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    memset(manager, 0, sizeof(*manager));
    snprintf(manager->path, sizeof(manager->path), "%s/notify", rig->dir);
    snprintf(manager->setting, sizeof(manager->setting), "NOTIFY_SOCKET=%s", manager->path);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", manager->path);
    (void)unlink(manager->path); /* of an earlier test */
    manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager->fd >= 0);
    assert_int_equal(bind(manager->fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    setsockopt(manager->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
}

static void manager_read(struct manager *manager)
{
    ssize_t len;

    while (manager->len + 600 < sizeof(manager->seen) &&
           (len = recv(manager->fd, manager->seen + manager->len, 512, 0)) > 0) {
        manager->len += (size_t)len;
        manager->seen[manager->len++] = '\n';
        manager->seen[manager->len] = '\0';
    }
}

struct told {
    struct manager *manager;
    const char *text;
    size_t times;
};

static size_t times_in(const char *text, const char *word)
{
    size_t count = 0;

    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        count++;
    return count;
}

static bool is_reported(void *ctx)
{
    struct told *told = ctx;

    manager_read(told->manager);
    return times_in(told->manager->seen, told->text) >= told->times;
}

static void wait_told(struct manager *manager, const char *text, size_t times)
{
    struct told told = {.manager = manager, .text = text, .times = times};

    if (!wait_until(RIG_WAIT_MS, is_reported, &told))
        fail_msg("the manager was never told %s %zu times, but:\n%s", text, times, manager->seen);
}

static void the_manager_is_told(void **state)
{
    struct program_rig *rig = *state;
    struct manager manager;

    manager_open(&manager, rig);
    rig_start(rig, 0, WORDS(manager.setting, "WATCHDOG_USEC=600000"));
    wait_told(&manager, "READY=1\n", 1);
    rig_wait_ready(rig, 0);
    wait_told(&manager, "WATCHDOG=1\n", 3);
    wait_told(&manager, "STATUS=1 lanes ready\n", 1);
    assert_true(proc_signal(rig->relays[0], SIGHUP));
    wait_told(&manager, "RELOADING=1\nMONOTONIC_USEC=", 1);
    wait_told(&manager, "READY=1\n", 2);
    rig_stop(rig, 0);
    wait_told(&manager, "STOPPING=1\n", 1);
    assert_true(strstr(manager.seen, "STOPPING=1") > strstr(manager.seen, "READY=1"));
    (void)close(manager.fd);
}

/* Ready is said when it is true and not before, whatever comes in between. */
static void the_manager_is_not_told_too_early(void **state)
{
    struct program_rig *rig = *state;
    struct manager manager;
    char address[64];
    struct cut_proxy *proxy = proxy_to_broker(rig, address);

    cut_proxy_set_refuse(proxy, true);
    manager_open(&manager, rig);
    rig_start(rig, 0, WORDS(manager.setting, address));
    wait_told(&manager, "STATUS=", 1);
    hup(rig, "reload.taken");
    rig_wait_unready(rig, 0, "topology");
    manager_read(&manager);
    if (strstr(manager.seen, "READY=1") != NULL)
        fail_msg("told ready without a broker:\n%s", manager.seen);
    cut_proxy_set_refuse(proxy, false);
    wait_told(&manager, "READY=1\n", 1);
    rig_stop(rig, 0);
    (void)close(manager.fd);
    cut_proxy_destroy(proxy);
}

/* ---------------------------------------------------------------- the log */

static void assert_text_line(const char *line)
{
    /* 2026-11-25T22:55:04.219883Z info daemon started version=0.1.0 ... */
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.ddddddZ ";

    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == 'd' ? !isdigit((unsigned char)line[i]) : line[i] != shape[i])
            fail_msg("no time stamp: %s", line);
    }
    line += sizeof(shape) - 1;
    if (strncmp(line, "debug ", 6) != 0 && strncmp(line, "info ", 5) != 0 &&
        strncmp(line, "warn ", 5) != 0 && strncmp(line, "error ", 6) != 0)
        fail_msg("no level: %s", line);
}

static void assert_json_line(const char *line)
{
    size_t len = strlen(line);

    if (len < 2 || line[0] != '{' || line[len - 1] != '}' || strstr(line, "\"level\":\"") == NULL ||
        strstr(line, "\"ts\":\"") == NULL || strstr(line, "\"module\":\"") == NULL ||
        strstr(line, "\"event\":\"") == NULL)
        fail_msg("no JSON event: %s", line);
}

static void assert_every_line(struct program_rig *rig, void (*check)(const char *line))
{
    FILE *file = fopen(rig_log_path(rig, 0), "re");
    char line[4096];
    unsigned count = 0;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t len = strlen(line);

        assert_true(len > 0 && line[len - 1] == '\n');
        line[len - 1] = '\0';
        check(line);
        count++;
    }
    (void)fclose(file);
    assert_true(count > 5);
}

/* A life with failures in it, in the format that is asked for. */
static void live_and_log(struct program_rig *rig, const char *format)
{
    char address[64];
    struct cut_proxy *proxy = proxy_to_broker(rig, address);

    rig_start_ready(rig, 0, WORDS(format, address, "OBX_RELAY_LOG_LEVEL=debug"));
    rig_insert(rig, "outbox", "t.line\nbreak\"quote", "k\x01\x7f", "b");
    rig_insert(rig, "outbox", "nobody.\xc3\xa4\n", NULL, "b");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    cut_proxy_cut_all(proxy);
    rig_wait_lane_metric(rig, 0, "rowpost_broker_connects_total", 2);
    assert_true(proc_signal(rig->relays[0], SIGHUP));
    rig_wait_log(rig, 0, "reload.taken");
    rig_stop(rig, 0);
    cut_proxy_destroy(proxy);
}

static void one_line_an_event_as_text(void **state)
{
    live_and_log(*state, "OBX_RELAY_LOG_FORMAT=text");
    assert_every_line(*state, assert_text_line);
}

static void one_line_an_event_as_json(void **state)
{
    live_and_log(*state, "OBX_RELAY_LOG_FORMAT=json");
    assert_every_line(*state, assert_json_line);
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

/* ---------------------------------------------------------------- a reader that stands still */

/* A full pipe. Its name is gone: only we and the relay have it. */
static int start_with_a_stalled_reader(struct program_rig *rig)
{
    static const char bytes[4096] = "";
    const char *path = rig_log_path(rig, 0);
    int fd;

    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        ;
    rig_start(rig, 0, WORDS("OBX_RELAY_LOG_LEVEL=debug"));
    assert_int_equal(unlink(path), 0);
    return fd;
}

/* Every thread of the relay logs while it starts: with one that waits for the reader, nothing is
 * delivered, and nothing ends it but kill -9. */
static void a_stalled_log_reader_holds_up_nothing(void **state)
{
    struct program_rig *rig = *state;
    struct proc_exit how = {0};
    int fd = start_with_a_stalled_reader(rig);

    rig_wait_ready(rig, 0);
    rig_fill(rig, "outbox", "t.x", 100, 7);
    rig_wait_empty(rig, "outbox");
    for (int i = 0; i < 3; i++)
        assert_true(proc_signal(rig->relays[0], SIGHUP));
    rig_fill(rig, "outbox", "t.x", 100, 7);
    rig_wait_empty(rig, "outbox");
    assert_true(rig_metric(rig, 0, "rowpost_log_lines_dropped_total") >= 0);
    assert_true(proc_signal(rig->relays[0], SIGTERM));
    assert_true(proc_wait(rig->relays[0], RIG_WAIT_MS, &how));
    assert_int_equal(how.code, 0);
    proc_destroy(rig->relays[0]);
    rig->relays[0] = NULL;
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rows_go_out_and_term_ends_well),
        CASE(int_ends_as_term_does),
        CASE(term_waits_for_confirms),
        CASE(second_term_ends_at_once),
        CASE(drain_has_an_end),
        CASE(term_before_anything_is_reachable),
        CASE(hup_takes_a_new_outbox),
        CASE(hup_refuses_what_is_wrong_and_says_why),
        CASE(hup_says_what_needs_a_restart),
        CASE(hup_makes_a_deleted_queue_again),
        CASE(hup_under_load),
        CASE(the_manager_is_told),
        CASE(the_manager_is_not_told_too_early),
        CASE(one_line_an_event_as_text),
        CASE(one_line_an_event_as_json),
        CASE(a_stalled_log_reader_holds_up_nothing),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
