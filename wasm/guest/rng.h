/* Noise that depends on a key and a position alone, so that neither order nor neighbours change it. */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

/* Philox4x32-10: counter[4] becomes four random words. */
void philox(uint32_t counter[4], uint32_t key0, uint32_t key1);

/* Uniform in [0, 1), 53 bits, for one position of a sequence. */
double uniform_at(uint64_t seed, uint64_t position);

#endif
