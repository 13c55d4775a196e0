/* The entry that libFuzzer, and replay.c in its place, calls with each input. */
#ifndef OBX_FUZZ_H
#define OBX_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data,
                           size_t size); /* NOLINT(readability-identifier-naming) */

/* Ends the run: the input has broken what always holds. */
#define FUZZ_CHECK(cond) ((cond) ? (void)0 : __builtin_trap())

#endif
