/* From a row of logits to a token. */
#ifndef SAMPLING_H
#define SAMPLING_H

#include <stdint.h>

typedef struct {
  float temperature, top_p, min_p, repetition_penalty;
  uint32_t top_k;
  uint64_t seed;
} SamplingOptions;

typedef struct {
  SamplingOptions options;
  uint32_t vocab_size, padded_size;
  float *logits;        /* [padded_size] the row to sample from; the padding holds -infinity */
  float *maxima;        /* [padded_size / ROW_BLOCK] of its blocks */
  double *sums;         /* [padded_size / ROW_BLOCK] of the weights of all tokens */
  uint32_t *candidates; /* [padded_size] tokens that filters look at, by rising id, with their */
  float *scores;        /* [padded_size] logits, penalised and divided by the temperature, and their */
  float *weights;       /* [padded_size] exp(score - the highest) */
  uint32_t *places;     /* [padded_size] of the candidates that a filter has left */
  uint32_t *kept;       /* [padded_size / 32] a bit for each candidate that may be drawn */
  uint32_t *known;      /* [vocab_size] tokens of the context, each once */
  float *clean;         /* [vocab_size] their logits, while those are penalised */
  uint32_t known_count;
  uint32_t *is_known;   /* [padded_size / 32] a bit for each of them */
} Sampler;

/* Answers 0 or an error: out_of_memory, or invalid_argument for options that mean nothing (NaN, a penalty <= 0, ...). */
int32_t sampler_open(Sampler *sampler, const SamplingOptions *options, uint32_t vocab_size);

/* A token has joined the context. */
void sampler_know(Sampler *sampler, uint32_t token);

/* Takes a token for a position from `logits`, which are afterwards as they were. */
uint32_t sampler_take(Sampler *sampler, uint64_t position);

/* log softmax of `logits` at a token. */
float sampler_logprob(Sampler *sampler, uint32_t token);

#endif
