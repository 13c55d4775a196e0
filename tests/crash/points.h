/* The list of crash points, tests/crash/points.txt: one line each of name, program and situation.
 */
#ifndef CRASH_POINTS_H
#define CRASH_POINTS_H

#include <stddef.h>

enum { POINT_NAME_MAX = 64, POINTS_MAX = 128 };

struct point {
    char name[POINT_NAME_MAX];
    char program[16];   /* relay or consumer */
    char situation[16]; /* what brings the program to the point; see points.txt */
};

/** Read the list; the number of points, or 0 with a message on stderr when it cannot be read or a
 * line is malformed. */
size_t points_read(const char *path, struct point *points, size_t max);

#endif
