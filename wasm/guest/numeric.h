/* Arithmetic over rows of logits. A row is padded to a multiple of ROW_BLOCK; the padding holds -infinity. */
#ifndef NUMERIC_H
#define NUMERIC_H

#include <stdint.h>

#define ROW_BLOCK 256u

static inline uint32_t padded(uint32_t count) { return (count + ROW_BLOCK - 1) / ROW_BLOCK * ROW_BLOCK; }

/* The highest value's index, the lowest of equals; NaN never wins, and 0 does where nothing else can. */
uint32_t argmax(const float *row, uint32_t padded_count);

/* scaled = row / divisor, with NaN as the least of finite values. */
void scale(const float *row, float divisor, float *scaled, uint32_t padded_count);

/* weights = exp(row - max), in float32; sums[i] is the sum of block i in float64. Answers the sum of all. */
double exponentials(const float *row, float max, float *weights, double *sums, uint32_t padded_count);

/* log(sum(exp(row))) in float64. */
double log_sum_exp(const float *row, uint32_t padded_count);

#endif
