/*
 * Runs a fuzz target over every file of SEED_FOLDER, in place of libFuzzer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

enum { SEED_MAX = 1 << 20 };

static void replay(int folder, const char *name)
{
    uint8_t *data = malloc(SEED_MAX);
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t len = 0;

    assert_non_null(data);
    assert_true(fd >= 0);
    len = read(fd, data, SEED_MAX);
    assert_in_range(len, 0, SEED_MAX - 1);
    close(fd);
    /* The exact size, so that a sanitizer sees a read beyond the end. */
    data = realloc(data, len > 0 ? (size_t)len : 1);
    assert_non_null(data);
    assert_int_equal(LLVMFuzzerTestOneInput(data, (size_t)len), 0);
    free(data);
}

static void every_seed_is_answered(void **state)
{
    DIR *folder = opendir(SEED_FOLDER);
    int seeds = 0;

    (void)state;
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.')
            continue;
        replay(dirfd(folder), entry->d_name);
        seeds++;
    }
    closedir(folder);
    print_message("evidence: inputs=%d\n", seeds);
    assert_true(seeds > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_seed_is_answered)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
