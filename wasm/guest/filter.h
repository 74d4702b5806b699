/* Which tokens of a row may be drawn. */
#ifndef FILTER_H
#define FILTER_H

#include <stdint.h>

typedef struct {
  const float *scores;  /* what the order goes by */
  const float *weights; /* in proportion to the probabilities; the highest is 1 */
  uint32_t *candidates; /* the tokens that are left */
} Ranking;

/* Each leaves the tokens that it keeps in `candidates`, in no order, and answers how many they are, at least one. With
 * `has_candidates` 0 there are none yet: all tokens below `count` are.
 *
 * keep_top_k starts from all; `total` becomes the sum of the kept weights. `total` of keep_top_p is that of all that
 * it starts from. */
uint32_t keep_top_k(Ranking *ranking, uint32_t count, uint32_t k, double *total);
uint32_t keep_top_p(Ranking *ranking, uint32_t count, int has_candidates, float p, double total);
uint32_t keep_min_p(Ranking *ranking, uint32_t count, int has_candidates, float min_p);

#endif
