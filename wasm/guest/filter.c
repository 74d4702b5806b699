/* Filters by selection: a quickselect that stops at a number of tokens or at a mass, whichever a filter asks for. */
#include "filter.h"

#include <float.h>

#include "numeric.h"

static int is_before(const Ranking *ranking, uint32_t a, uint32_t b) {
  float score_a = ranking->scores[a], score_b = ranking->scores[b];
  return score_a > score_b || (score_a == score_b && a < b);
}

static void swap(uint32_t *a, uint32_t *b) {
  uint32_t kept = *a;
  *a = *b;
  *b = kept;
}

/* Moves the first candidates, in the ranking's order, to the front: as few as hold `limit` tokens or the weight `mass`,
 * or all. Pivots come from a generator, so that no row of logits makes it quadratic. */
static uint32_t select_first(Ranking *ranking, uint32_t count, uint32_t limit, double mass) {
  uint32_t *places = ranking->places, low = 0, high = count, noise = 1;
  double before = 0; /* weight of places[0, low) */
  while (low < high) {
    noise = noise * 1664525u + 1013904223u;
    swap(&places[low + (uint32_t)(((uint64_t)noise * (high - low)) >> 32)], &places[high - 1]);
    uint32_t pivot = places[high - 1], middle = low;
    double weight = 0;
    for (uint32_t i = low; i < high - 1; i++) {
      if (!is_before(ranking, places[i], pivot)) continue;
      weight += ranking->weights[places[i]];
      swap(&places[i], &places[middle++]);
    }
    swap(&places[middle], &places[high - 1]);
    if (middle >= limit || before + weight >= mass) {
      high = middle;
    } else {
      before += weight + ranking->weights[pivot];
      low = middle + 1;
      if (low >= limit || before >= mass) return low;
    }
  }
  return low;
}

uint32_t keep_top_k(Ranking *ranking, uint32_t count, uint32_t k, double *total) {
  count = select_first(ranking, count, k, __builtin_inf());
  *total = 0;
  for (uint32_t i = 0; i < count; i++) *total += ranking->weights[ranking->places[i]];
  return count;
}

uint32_t keep_top_p(Ranking *ranking, uint32_t count, float p, double total) {
  double mass = (double)p * total;
  return select_first(ranking, count, UINT32_MAX, mass > DBL_MIN ? mass : DBL_MIN);
}

uint32_t keep_min_p(Ranking *ranking, uint32_t count, float min_p) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t place = ranking->places[i];
    if (ranking->weights[place] >= min_p) ranking->places[kept++] = place;
  }
  return kept;
}

/* The order of float32, without NaN, as that of integers. */
static float value_of(int32_t key) {
  union { int32_t bits; float value; } parts = {key < 0 ? key ^ INT32_MAX : key};
  return parts.value;
}

#define KEY_OF_INFINITY 0x7F800000

float bound_of_top_k(const float *maxima, uint32_t count, uint32_t k) {
  if (k > count / 2) return -LARGEST;
  int32_t low = -KEY_OF_INFINITY, high = KEY_OF_INFINITY + 1; /* k maxima reach low, fewer high */
  uint32_t enough = k + k / 4, reaching = count;
  while (high - (int64_t)low > 1 && reaching > enough) {
    int32_t middle = (int32_t)(((int64_t)low + high) >> 1);
    uint32_t found = count_of(maxima, value_of(middle), count);
    if (found < k) {
      high = middle;
    } else {
      low = middle;
      reaching = found;
    }
  }
  return value_of(low);
}

float bound_of_weight(float max, float temperature, float weight) {
  if (weight < FLT_MIN) return -LARGEST;
  double bound = max + (double)temperature * natural_log(weight);
  return (float)(bound - temperature * 1e-4 - __builtin_fabs((double)max) * 0x1p-20);
}
