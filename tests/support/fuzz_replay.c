/*
 * Stands in for libFuzzer where it is not linked: gives each file below the folders and files that
 * are named on the command line to the fuzz target, once.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { MAX_OPEN_FOLDERS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static int replay(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    const size_t size = (size_t)info->st_size;
    FILE *file = NULL;
    /* Exactly as large as the input, so that the sanitizer sees a read past its end. */
    uint8_t *data = NULL;
    int rc = 0;

    (void)where;
    if (kind != FTW_F)
        return 0;
    file = fopen(path, "re");
    data = malloc(size == 0 ? 1 : size);
    if (file == NULL || data == NULL || fread(data, 1, size, file) != size) {
        fprintf(stderr, "cannot read %s\n", path);
        rc = 1;
    } else {
        LLVMFuzzerTestOneInput(data, size);
        replayed++;
    }
    if (file != NULL)
        fclose(file);
    free(data);
    return rc;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (nftw(argv[i], replay, MAX_OPEN_FOLDERS, FTW_PHYS) != 0)
            return 1;
    }
    printf("%u seeds replayed\n", replayed);
    return replayed == 0;
}
