/* Four lanes at a time, in an order that is written down here: the same bits from every build on every machine. */
#include "numeric.h"

#define LANES 4
#define WHOLE 12582912.0f /* 1.5 * 2^23: added to a whole number, it leaves that number in the low bits */

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef float f32x2 __attribute__((vector_size(8)));

static f32x4 splat(float value) { return (f32x4){value, value, value, value}; }
static f32x4 load(const float *values) { return *(const f32x4 *)values; }

/* The higher of each lane; `best` where the other is NaN. */
static f32x4 higher(f32x4 best, f32x4 values) { return __builtin_wasm_pmax_f32x4(best, values); }

static float highest_lane(f32x4 values) {
  values = higher(values, __builtin_shufflevector(values, values, 2, 3, 0, 1));
  return higher(values, __builtin_shufflevector(values, values, 1, 0, 3, 2))[0];
}

float row_maxima(const float *row, float *maxima, uint32_t padded_count) {
  f32x4 lowest = splat(-__builtin_inff()), best = lowest;
  for (uint32_t block = 0; block < padded_count / ROW_BLOCK; block++) {
    const float *values = row + block * ROW_BLOCK;
    f32x4 a = lowest, b = lowest, c = lowest, d = lowest;
    for (uint32_t i = 0; i < ROW_BLOCK; i += 4 * LANES) {
      a = higher(a, load(values + i));
      b = higher(b, load(values + i + LANES));
      c = higher(c, load(values + i + 2 * LANES));
      d = higher(d, load(values + i + 3 * LANES));
    }
    a = higher(higher(a, b), higher(c, d));
    best = higher(best, a);
    maxima[block] = highest_lane(a);
  }
  return highest_lane(best);
}

uint32_t first_of(const float *row, const float *maxima, float highest, uint32_t padded_count) {
  uint32_t blocks = padded_count / ROW_BLOCK;
  for (uint32_t block = 0; block < blocks && highest > -__builtin_inff(); block++) {
    if (maxima[block] != highest) continue;
    for (uint32_t token = block * ROW_BLOCK;; token++) {
      if (row[token] == highest) return token;
    }
  }
  return 0;
}

uint32_t count_of(const float *values, float least, uint32_t padded_count) {
  i32x4 count = {0, 0, 0, 0};
  f32x4 bound = splat(least);
  for (uint32_t i = 0; i < padded_count; i += LANES) count -= load(values + i) >= bound;
  return (uint32_t)(count[0] + count[1] + count[2] + count[3]);
}

uint32_t gather(const float *row, const float *maxima, float least, uint32_t *tokens, float *values,
                uint32_t padded_count) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < padded_count; i += LANES) {
    if (i % ROW_BLOCK == 0 && !(maxima[i / ROW_BLOCK] >= least)) {
      i += ROW_BLOCK - LANES;
      continue;
    }
    uint32_t reaching = __builtin_wasm_bitmask_i32x4(load(row + i) >= least);
    if (!reaching) continue;
    for (uint32_t lane = 0; lane < LANES; lane++) { /* what is not found is overwritten: no jump to foretell */
      tokens[found] = i + lane;
      values[found] = row[i + lane];
      found += reaching >> lane & 1;
    }
  }
  return found;
}

/* 2^x of x <= 0: x = n + f with |f| <= 1/2, a polynomial for 2^f (its relative error is below 2e-7), and n added to its
 * exponent. From -127 on it is 0; just above that, where 2^n would be subnormal, it is less than 2e-38. NaN gives 0. */
static f32x4 power_of_2(f32x4 x) {
  x = higher(splat(-127), x);
  f32x4 n = __builtin_elementwise_roundeven(x), f = x - n, square = f * f;
  /* Not by Horner's rule: what does not wait for another runs beside it. */
  f32x4 p = (f * 0x1.5bba14p-10f + 0x1.3cea88p-7f) * (square * square) +
            ((f * 0x1.c6b752p-5f + 0x1.ebf9bcp-3f) * square + (f * 0x1.62e42ap-1f + 1.0f));
  return (f32x4)((i32x4)p + ((i32x4)(n + WHOLE) << 23));
}

void exponentials(const float *row, float max, float rate, float *weights, uint32_t padded_count) {
  for (uint32_t i = 0; i < padded_count; i += LANES) {
    *(f32x4 *)(weights + i) = power_of_2((load(row + i) - max) * rate);
  }
}

static f64x2 widened_sum(f32x4 values) {
  f32x2 low = __builtin_shufflevector(values, values, 0, 1);
  f32x2 high = __builtin_shufflevector(values, values, 2, 3);
  return __builtin_convertvector(low, f64x2) + __builtin_convertvector(high, f64x2);
}

/* Not inlined: its loop needs all the registers that there are. */
__attribute__((noinline))
double exponential_sums(const float *row, float max, float rate, double *sums, uint32_t padded_count) {
  double total = 0;
  for (uint32_t block = 0; block < padded_count / ROW_BLOCK; block++) {
    const float *values = row + block * ROW_BLOCK;
    f32x4 block_sum = splat(0);
    for (uint32_t i = 0; i < ROW_BLOCK; i += 4 * LANES) {
      f32x4 a = power_of_2((load(values + i) - max) * rate);
      f32x4 b = power_of_2((load(values + i + LANES) - max) * rate);
      f32x4 c = power_of_2((load(values + i + 2 * LANES) - max) * rate);
      f32x4 d = power_of_2((load(values + i + 3 * LANES) - max) * rate);
      block_sum += (a + b) + (c + d);
    }
    f64x2 sum = widened_sum(block_sum);
    sums[block] = sum[0] + sum[1];
    total += sums[block];
  }
  return total;
}

/* log x = n log 2 + log m with x = 2^n m and m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)) by its
 * series, whose eleventh term is below 1e-18. */
double natural_log(double x) {
  union { double value; uint64_t bits; } parts = {x};
  int32_t n = (int32_t)(parts.bits >> 52) - 1023;
  parts.bits = (parts.bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
  if (parts.value > 1.4142135623730951) {
    parts.value *= 0.5;
    n++;
  }
  double s = (parts.value - 1) / (parts.value + 1), square = s * s, series = 0;
  for (int power = 21; power >= 1; power -= 2) series = series * square + 1.0 / power;
  return n * 0.6931471805599453 + 2 * s * series;
}
