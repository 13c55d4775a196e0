/* Random numbers from the kernel. Any thread. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/** A 64-bit random number: good for jitter, names and seeds, not for secrets. */
uint64_t random_u64(void);

#endif
