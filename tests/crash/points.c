/* Reads tests/crash/points.txt; see points.h. */
#include "crash/points.h"

#include <stdio.h>
#include <string.h>

size_t points_read(const char *path, struct point *points, size_t max)
{
    FILE *file = fopen(path, "r");
    char line[256];
    size_t count = 0;

    if (file == NULL) {
        perror(path);
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        struct point *point = &points[count];

        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (count == max ||
            sscanf(line, "%63s %15s %63s", point->name, point->program, point->situation) != 3) {
            fprintf(stderr, "%s: too many lines, or a malformed one: %s", path, line);
            count = 0;
            break;
        }
        count++;
    }
    fclose(file);
    return count;
}

bool point_has_own_test(const struct point *point)
{
    return strchr(point->situation, '/') != NULL;
}
