/* What the benchmark programs share: options from the command line, percentiles, a database from
 * the environment. */
#ifndef BENCH_NUMBERS_H
#define BENCH_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

#include "sql/db.h"

/**
 * The whole number behind `name` ("--rows") in the arguments up to "--", or fallback when it is not
 * there. Ends the program with a message when the value is missing or is not a number.
 */
uint64_t number_option(int argc, char **argv, const char *name, uint64_t fallback);
/** The text behind `name`, likewise. */
const char *text_option(int argc, char **argv, const char *name, const char *fallback);
/** What follows "--": the command of a program to run, NULL at the end; NULL when there is none. */
const char *const *command_after_dashes(int argc, char **argv);
/** Sorts the values; the value below which percent of them lie. 0 for none. */
uint64_t percentile(uint64_t *values, size_t count, double percent);
/** Connects by the OBX_TEST_DB_... variables; ends the program with a message when that fails. */
struct db *bench_open_db(const char *database);
/** Prints the error and ends the program with status 1. */
_Noreturn void bench_die(const char *what, const struct obx_err *err);

#endif
