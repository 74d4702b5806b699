/* Filters by selection: first a bound that cheaply drops almost the whole vocabulary and surely nothing that is kept,
 * then a quickselect that stops at a number of tokens or at a mass, whichever a filter asks for. */
#include "filter.h"

#include <float.h>

#define GROUPS 1024u

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
  uint32_t *tokens = ranking->candidates, low = 0, high = count, noise = 1;
  double before = 0; /* weight of tokens[0, low) */
  while (low < high) {
    noise = noise * 1664525u + 1013904223u;
    swap(&tokens[low + (uint32_t)(((uint64_t)noise * (high - low)) >> 32)], &tokens[high - 1]);
    uint32_t pivot = tokens[high - 1], middle = low;
    double weight = 0;
    for (uint32_t i = low; i < high - 1; i++) {
      if (!is_before(ranking, tokens[i], pivot)) continue;
      weight += ranking->weights[tokens[i]];
      swap(&tokens[i], &tokens[middle++]);
    }
    swap(&tokens[middle], &tokens[high - 1]);
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

static uint32_t gather(Ranking *ranking, const float *values, uint32_t count, float least) {
  uint32_t found = 0;
  for (uint32_t token = 0; token < count; token++) {
    if (values[token] >= least) ranking->candidates[found++] = token;
  }
  return found;
}

/* A score that at least k tokens reach: the k-th highest of the maxima of GROUPS groups of tokens. */
static float bound_of_top_k(const float *scores, uint32_t count, uint32_t k) {
  static float maxima[GROUPS];
  static uint32_t order[GROUPS];
  if (k > GROUPS / 2 || count <= 2 * GROUPS) return -__builtin_inff();
  for (uint32_t group = 0; group < GROUPS; group++) {
    maxima[group] = scores[group];
    order[group] = group;
  }
  for (uint32_t token = GROUPS; token < count; token += GROUPS) {
    uint32_t width = count - token < GROUPS ? count - token : GROUPS;
    for (uint32_t i = 0; i < width; i++) {
      maxima[i] = scores[token + i] > maxima[i] ? scores[token + i] : maxima[i];
    }
  }
  Ranking groups = {maxima, maxima, order};
  select_first(&groups, GROUPS, k, __builtin_inf());
  float bound = maxima[order[0]];
  for (uint32_t i = 1; i < k; i++) bound = maxima[order[i]] < bound ? maxima[order[i]] : bound;
  return bound;
}

uint32_t keep_top_k(Ranking *ranking, uint32_t count, uint32_t k, double *total) {
  count = gather(ranking, ranking->scores, count, bound_of_top_k(ranking->scores, count, k));
  count = select_first(ranking, count, k, __builtin_inf());
  *total = 0;
  for (uint32_t i = 0; i < count; i++) *total += ranking->weights[ranking->candidates[i]];
  return count;
}

uint32_t keep_top_p(Ranking *ranking, uint32_t count, int has_candidates, float p, double total) {
  /* All tokens below this bound together weigh less than what may be dropped. */
  float bound = (float)((1 - (double)p) * total / count * 0.999);
  if (!has_candidates) count = gather(ranking, ranking->weights, count, bound);
  double mass = (double)p * total;
  return select_first(ranking, count, UINT32_MAX, mass > DBL_MIN ? mass : DBL_MIN);
}

uint32_t keep_min_p(Ranking *ranking, uint32_t count, int has_candidates, float min_p) {
  if (!has_candidates) return gather(ranking, ranking->weights, count, min_p);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t token = ranking->candidates[i];
    if (ranking->weights[token] >= min_p) ranking->candidates[kept++] = token;
  }
  return kept;
}
