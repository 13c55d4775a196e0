/* The list of crash points, tests/crash/points.txt: one line each of name, program and situation.
 */
#ifndef CRASH_POINTS_H
#define CRASH_POINTS_H

#include <stdbool.h>
#include <stddef.h>

enum { POINT_NAME_MAX = 64, POINTS_MAX = 128 };

struct point {
    char name[POINT_NAME_MAX];
    char program[16];   /* relay or consumer */
    char situation[64]; /* what brings the program to the point, or the file of its own test; see
                           points.txt */
};

/** Read the list; the number of points, or 0 with a message on stderr when it cannot be read or a
 * line is malformed. */
size_t points_read(const char *path, struct point *points, size_t max);

/** Whether the point has a test of its own; its situation is then a path from the top of the
 * source. */
bool point_has_own_test(const struct point *point);

#endif
