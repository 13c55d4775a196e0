/*
 * Formatting for the tables of outboxctl. Called by its commands.
 */
#include "human.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { KIB = 1024, US_PER_MS = 1000, US_PER_S = 1000000, MINUTE = 60, HOUR = 3600, DAY = 86400 };

const char *human_size(uint64_t bytes, char *dst)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes / KIB;
    size_t unit = 0;

    if (bytes < KIB) {
        snprintf(dst, HUMAN_MAX, "%" PRIu64 " B", bytes);
        return dst;
    }
    while (value >= KIB && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= KIB;
        unit++;
    }
    snprintf(dst, HUMAN_MAX, "%.1f %s", value, units[unit]);
    return dst;
}

/* Two units are as exact as anybody reads: "5 h 2 m", and no seconds. */
static void two_units(char *dst, uint64_t first, const char *first_unit, uint64_t second,
                      const char *second_unit)
{
    if (second == 0)
        snprintf(dst, HUMAN_MAX, "%" PRIu64 " %s", first, first_unit);
    else
        snprintf(dst, HUMAN_MAX, "%" PRIu64 " %s %" PRIu64 " %s", first, first_unit, second,
                 second_unit);
}

const char *human_age(uint64_t us, char *dst)
{
    uint64_t s = us / US_PER_S;

    if (us == 0)
        snprintf(dst, HUMAN_MAX, "0");
    else if (us < US_PER_S)
        snprintf(dst, HUMAN_MAX, "%" PRIu64 " ms", us / US_PER_MS);
    else if (s < MINUTE)
        snprintf(dst, HUMAN_MAX, "%" PRIu64 " s", s);
    else if (s < HOUR)
        two_units(dst, s / MINUTE, "m", s % MINUTE, "s");
    else if (s < DAY)
        two_units(dst, s / HOUR, "h", s % HOUR / MINUTE, "m");
    else
        two_units(dst, s / DAY, "d", s % DAY / HOUR, "h");
    return dst;
}

const char *human_count(uint64_t count, bool is_capped, char *dst)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, count);
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            dst[out++] = ',';
        dst[out++] = digits[i];
    }
    if (is_capped)
        dst[out++] = '+';
    dst[out] = '\0';
    return dst;
}

const char *human_time(struct obx_bytes datetime, char *dst)
{
    static const size_t whole_seconds = sizeof("2026-11-22 11:58:01") - 1;

    if (datetime.p == NULL || datetime.len < whole_seconds) {
        snprintf(dst, HUMAN_MAX, "-");
        return dst;
    }
    memcpy(dst, datetime.p, whole_seconds);
    memcpy(dst + whole_seconds, "Z", sizeof("Z"));
    return dst;
}

const char *human_time_us(uint64_t us, char *dst)
{
    time_t seconds = (time_t)(us / US_PER_S);
    struct tm tm;

    if (us == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(dst, HUMAN_MAX, "%Y-%m-%d %H:%M:%SZ", &tm) == 0)
        snprintf(dst, HUMAN_MAX, "-");
    return dst;
}
