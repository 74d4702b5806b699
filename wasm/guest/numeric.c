#include "numeric.h"

#define LANES 4

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef float f32x2 __attribute__((vector_size(8)));

static const float LARGEST = 0x1.fffffep127f;

static f32x4 splat(float value) { return (f32x4){value, value, value, value}; }

static f32x4 choose(i32x4 mask, f32x4 yes, f32x4 no) {
  return (f32x4)((mask & (i32x4)yes) | (~mask & (i32x4)no));
}

uint32_t argmax(const float *row, uint32_t padded_count) {
  f32x4 best = splat(-__builtin_inff());
  i32x4 where = {0, 0, 0, 0};
  i32x4 index = {0, 1, 2, 3};
  for (uint32_t i = 0; i < padded_count; i += LANES) {
    f32x4 values = *(const f32x4 *)(row + i);
    i32x4 better = values > best;
    best = choose(better, values, best);
    where = (better & index) | (~better & where);
    index += LANES;
  }
  uint32_t lane = 0;
  for (uint32_t i = 1; i < LANES; i++) {
    if (best[i] > best[lane] || (best[i] == best[lane] && where[i] < where[lane])) lane = i;
  }
  return (uint32_t)where[lane];
}

void scale(const float *row, float divisor, float *scaled, uint32_t padded_count) {
  f32x4 divisors = splat(divisor), least = splat(-LARGEST);
  for (uint32_t i = 0; i < padded_count; i += LANES) {
    f32x4 values = *(const f32x4 *)(row + i);
    *(f32x4 *)(scaled + i) = choose(values == values, values, least) / divisors;
  }
}

/* exp of x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for exp(r) (coefficients of Cephes' expf), times
 * 2^n by the exponent's bits. Below -87, where 2^n would be subnormal, it is 0. */
static f32x4 exponential(f32x4 x) {
  i32x4 vanishes = x < -87.0f;
  x = choose(vanishes, splat(0), x);
  const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves no fraction */
  f32x4 n = (x * 1.44269504088896341f + round) - round;
  f32x4 r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32x4 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  i32x4 bits = (__builtin_convertvector(n, i32x4) + 127) << 23;
  return choose(vanishes, splat(0), p * (f32x4)bits);
}

static f64x2 widened_sum(f32x4 values) {
  f32x2 low = __builtin_shufflevector(values, values, 0, 1);
  f32x2 high = __builtin_shufflevector(values, values, 2, 3);
  return __builtin_convertvector(low, f64x2) + __builtin_convertvector(high, f64x2);
}

double exponentials(const float *row, float max, float *weights, double *sums, uint32_t padded_count) {
  double total = 0;
  for (uint32_t block = 0; block < padded_count / ROW_BLOCK; block++) {
    f64x2 sum = {0, 0};
    for (uint32_t i = block * ROW_BLOCK; i < (block + 1) * ROW_BLOCK; i += LANES) {
      f32x4 weight = exponential(*(const f32x4 *)(row + i) - max);
      *(f32x4 *)(weights + i) = weight;
      sum += widened_sum(weight);
    }
    sums[block] = sum[0] + sum[1];
    total += sums[block];
  }
  return total;
}

/* log of x >= 1: x = 2^n m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)) by its series, whose
 * eleventh term is below 1e-18. */
static double natural_log(double x) {
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

double log_sum_exp(const float *row, uint32_t padded_count) {
  float max = row[argmax(row, padded_count)];
  f64x2 sum = {0, 0};
  for (uint32_t i = 0; i < padded_count; i += LANES) {
    f32x4 values = *(const f32x4 *)(row + i);
    sum += widened_sum(exponential(choose(values == values, values, splat(-LARGEST)) - max));
  }
  return max + natural_log(sum[0] + sum[1]);
}
