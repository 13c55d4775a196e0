/* Numbers for people: sizes, ages, counts, times. Each writes into the caller's buffer and returns
 * it. */
#ifndef OPS_HUMAN_H
#define OPS_HUMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"

#define HUMAN_MAX 48

/** "0 B", "512 B", "1.5 KiB", "16.0 MiB". */
const char *human_size(uint64_t bytes, char *dst);
/** "0", "3 ms", "42 s", "3 m 12 s", "5 h 2 m", "12 d 3 h". */
const char *human_age(uint64_t us, char *dst);
/** "1,234,567", and "10,000+" when there are at least that many. */
const char *human_count(uint64_t count, bool is_capped, char *dst);
/** The database's "2026-11-22 11:58:01.123456" as "2026-11-22 11:58:01Z"; "-" when absent. */
const char *human_time(struct obx_bytes datetime, char *dst);
/** Microseconds since 1970 in the same form; "-" for 0. */
const char *human_time_us(uint64_t us, char *dst);

#endif
