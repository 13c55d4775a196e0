/*
 * The database's disk fills up under load and has room again later: nothing is lost, and work goes
 * on by itself (P1, P3, P7).
 *
 * Runs a MariaDB of its own whose data folder is a small tmpfs. Mounting one needs root
 * (CAP_SYS_ADMIN); without that the test is skipped and says so. If the server itself gives up on
 * the full disk, it is started again as an operator would.
 */
#define _GNU_SOURCE /* fallocate */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "crash/scene.h"
#include "inbox_rig.h"
#include "test_db.h"
#include "wait.h"

#define DISK_SIZE "size=320m"

enum {
    PATH_LEN = 256,
    KEPT_FREE = 2 * 1024 * 1024, /* what is left for the server when the disk is made full */
    FILL_MS = 120 * 1000,
    PROGRESS_MS = 120 * 1000,
    FAILURES = 20,
    SOME = 60
};

struct disk {
    char dir[PATH_LEN];
    char balloon[PATH_LEN + 16];
    bool is_mounted;
};

static struct disk disk;

/* Take over what `servers env` prints for the database; the broker stays the common one. */
static void use_own_database(void)
{
    char command[512];
    char line[1024];
    FILE *pipe = NULL;

    snprintf(command, sizeof(command), "%s env", test_env("OBX_TEST_SERVERS"));
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof(line), pipe) != NULL) {
        char *name = strstr(line, "OBX_TEST_DB_");
        char *value = name != NULL ? strchr(name, '=') : NULL;

        if (value == NULL)
            continue;
        *value++ = '\0';
        value[strcspn(value, "\n")] = '\0';
        assert_int_equal(setenv(name, value, 1), 0);
    }
    assert_int_equal(pclose(pipe), 0);
}

static void server(const char *command)
{
    const char *const argv[] = {test_env("OBX_TEST_SERVERS"), command, "database", NULL};
    const char *const env[] = {"OBX_SERVERS_DATABASE_ARGS=--innodb-log-file-size=16M", NULL};
    const struct proc_opts opts = {.argv = argv, .env = env, .log_path = "/dev/stderr"};
    struct proc_exit how = {0};

    if (!proc_run(&opts, PROGRESS_MS, &how) || how.code != 0)
        fail_msg("servers %s database: status %d", command, how.code);
}

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    snprintf(disk.dir, sizeof(disk.dir), "%s/obx-disk-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(disk.dir) == NULL)
        return -1;
    if (mount("tmpfs", disk.dir, "tmpfs", 0, DISK_SIZE) != 0) {
        print_message("cannot mount a tmpfs (%s), which needs root: the disk cannot be filled\n",
                      strerror(errno));
        return 0;
    }
    disk.is_mounted = true;
    snprintf(disk.balloon, sizeof(disk.balloon), "%s/balloon", disk.dir);
    setenv("OBX_SERVERS_DIR", disk.dir, 1);
    server("start");
    use_own_database();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (disk.is_mounted) {
        unlink(disk.balloon);
        server("stop");
        if (umount(disk.dir) != 0)
            print_error("umount %s: %s\n", disk.dir, strerror(errno));
    }
    rmdir(disk.dir);
    return 0;
}

/* Takes all but a little of what is free now; the server is taking some of it at the same time. */
static int take_free_space(int fd)
{
    struct statvfs space;
    off_t bytes = 0;

    if (statvfs(disk.dir, &space) != 0)
        return errno;
    bytes = (off_t)space.f_bavail * (off_t)space.f_bsize - KEPT_FREE;
    return bytes <= 0 ? 0 : posix_fallocate(fd, 0, bytes);
}

static void fill_disk(void)
{
    int fd = open(disk.balloon, O_WRONLY | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    int failed = ENOSPC;

    assert_true(fd >= 0);
    for (int tries = 0; tries < 100 && failed == ENOSPC; tries++)
        failed = take_free_space(fd);
    assert_int_equal(failed, 0);
    close(fd);
}

struct trouble {
    struct load *load;
    uint64_t failed;
};

/* Producers fail, and the disk is full: that is no accident of another kind. */
static bool is_in_trouble(void *ctx)
{
    const struct trouble *trouble = ctx;
    struct load_counts counts;
    struct statvfs space;

    load_get_counts(trouble->load, &counts);
    return counts.failed >= trouble->failed && statvfs(disk.dir, &space) == 0 &&
           (uint64_t)space.f_bavail * space.f_bsize < KEPT_FREE / 2;
}

static void work_goes_on_when_there_is_room_again(void **state)
{
    const struct load_opts opts = {.db = scene_producer_opts(),
                                   .topic = SCENE_TOPIC,
                                   .rollback_percent = 10,
                                   .big_percent = 60,
                                   .seed = 1};
    struct scene *scene = NULL;
    struct load *load = NULL;
    struct load_counts counts;
    struct trouble trouble = {0};
    struct obx_err err = {0};

    (void)state;
    if (!disk.is_mounted)
        skip();
    scene = scene_create();
    scene_start(scene, SCENE_CONSUMER, 0, NULL);
    scene_start(scene, SCENE_RELAY, 0, NULL);
    if (load_start(&opts, &load, &err) != OBX_OK)
        fail_msg("%s", err.text);
    scene_wait_applied(scene, SOME);
    fill_disk();
    load_get_counts(load, &counts);
    trouble = (struct trouble){.load = load, .failed = counts.failed + FAILURES};
    if (!wait_until(FILL_MS, is_in_trouble, &trouble))
        fail_msg("the disk did not get full");
    assert_int_equal(unlink(disk.balloon), 0);
    server("start"); /* does nothing when it runs */
    if (!load_wait(load, SOME, PROGRESS_MS))
        fail_msg("the producers make no progress");
    scene_wait_applied(scene, SOME);
    load_stop(load, NULL);
    scene_finish(scene);
    scene_destroy(scene);
}

/* ------------------------------------------------------------------ an inbox */

enum { LARGE = 16 * 1024, BEFORE = 100, LARGE_ONES = 600 };

static void put_large(struct inbox_rig *rig, const char *prefix, int count)
{
    static char body[LARGE + 1];

    memset(body, 'x', LARGE);
    for (int i = 0; i < count; i++) {
        char id[40], key[16];

        snprintf(id, sizeof(id), "%s-%06d", prefix, i);
        snprintf(key, sizeof(key), "key-%d", i % 7);
        rig_put(rig->rig, id, i % 5 == 0 ? NULL : key, body);
    }
    rig_flush(rig->rig);
}

static bool is_full(void *ctx)
{
    struct statvfs space;

    (void)ctx;
    return statvfs(disk.dir, &space) == 0 &&
           (uint64_t)space.f_bavail * space.f_bsize < KEPT_FREE / 2;
}

/* inbox-relay cannot store, nor workers finish, nor the filer remove; then there is room again, and
 * each message is applied once and in the order of its key. The broker keeps what has no place. */
static void an_inbox_goes_on_when_there_is_room_again(void **state)
{
    struct inbox_rig *rig = NULL;
    void *made = NULL;

    (void)state;
    if (!disk.is_mounted)
        skip();
    assert_int_equal(inbox_rig_setup(&made), 0);
    rig = made;
    inbox_rig_start(rig, 0, NULL);
    (void)inbox_workers_start(rig, 2, NULL);
    put_large(rig, "a", BEFORE);
    rig_wait_applied(rig->rig, BEFORE);
    fill_disk();
    put_large(rig, "b", LARGE_ONES);
    if (!wait_until(FILL_MS, is_full, NULL))
        fail_msg("the disk did not get full");
    put_large(rig, "c", BEFORE);
    assert_int_equal(unlink(disk.balloon), 0);
    server("start"); /* does nothing when it runs */
    db_close(rig->rig->db);
    rig->rig->db = test_db_open(&rig->rig->test_db.opts);
    rig_wait_applied(rig->rig, 2 * BEFORE + LARGE_ONES);
    rig_wait_number(rig->rig, "SELECT COUNT(*) FROM inbox", 0);
    (void)inbox_workers_stop(rig->workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 2 * BEFORE + LARGE_ONES);
    inbox_rig_teardown(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_goes_on_when_there_is_room_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_inbox_goes_on_when_there_is_room_again, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("disk_full", tests, NULL, NULL);
}
