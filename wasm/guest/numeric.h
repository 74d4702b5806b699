/* Arithmetic over rows of logits. A row is padded to a multiple of ROW_PADDING; the padding holds -infinity. Other arrays
 * are padded to a multiple of 4. */
#ifndef NUMERIC_H
#define NUMERIC_H

#include <stdint.h>

#define ROW_BLOCK 64u
#define ROW_PADDING (4 * ROW_BLOCK)
#define LARGEST 0x1.fffffep127f
#define LOG2_E 1.4426950408889634

static inline uint32_t padded(uint32_t count) { return (count + ROW_PADDING - 1) / ROW_PADDING * ROW_PADDING; }

/* maxima[i] = the highest of block i, -infinity where there is nothing but NaN. Answers the highest of all. */
float row_maxima(const float *row, float *maxima, uint32_t padded_count);

/* The first token that has the highest value, which row_maxima answered; 0 if that is -infinity. */
uint32_t first_of(const float *row, const float *maxima, float highest, uint32_t padded_count);

/* How many values are at least that; NaN is not. */
uint32_t count_of(const float *values, float least, uint32_t padded_count);

/* The tokens whose values are at least that, by rising id, with their values; answers how many they are. */
uint32_t gather(const float *row, const float *maxima, float least, uint32_t *tokens, float *values,
                uint32_t padded_count);

/* weights = 2^((row - max) * rate) in float32, 0 for NaN. It is exp((row - max) / t) with a rate of LOG2_E / t, its
 * relative error then below 2e-7 + 1.5e-7 |exponent|: that is a rounding of the exponent. */
void exponentials(const float *row, float max, float rate, float *weights, uint32_t padded_count);

/* The sums of these weights, of each block and of all, in float64. */
double exponential_sums(const float *row, float max, float rate, double *sums, uint32_t padded_count);

/* Of a normal number above 0. */
double natural_log(double x);

#endif
