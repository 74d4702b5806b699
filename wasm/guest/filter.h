/* Which tokens of a row may be drawn. */
#ifndef FILTER_H
#define FILTER_H

#include <stdint.h>

/* Candidates lie by rising id; a place is the number of one of them. */
typedef struct {
  const float *scores;  /* what the order goes by */
  const float *weights; /* in proportion to the probabilities; the highest is 1 */
  uint32_t *places;     /* of the candidates that are left, in no order */
} Ranking;

/* Each answers how many of `count` are left, at least one. keep_top_k makes `total` the sum of their weights; `total` of
 * keep_top_p is that of all that it starts from, candidates or not. */
uint32_t keep_top_k(Ranking *ranking, uint32_t count, uint32_t k, double *total);
uint32_t keep_top_p(Ranking *ranking, uint32_t count, float p, double total);
uint32_t keep_min_p(Ranking *ranking, uint32_t count, float min_p);

/* Bounds of the candidates: a filter keeps no token whose logit is lower. That of top_k is one that at least k of the
 * maxima of a row's blocks reach, and few more if that can be; the other is for tokens that weigh less. */
float bound_of_top_k(const float *maxima, uint32_t count, uint32_t k);
float bound_of_weight(float max, float temperature, float weight);

#endif
