/* Repetition penalty -> temperature -> softmax -> top-k -> top-p -> min-p -> multinomial.
 *
 * Each filter works on what the one before left, renormalised. A token is before another if its scaled logit is higher,
 * or equal and its id lower; filters keep a beginning of that order. The draw then goes through the kept tokens by
 * rising id, so it does not depend on how a filter found them. Nothing sorts the vocabulary. */
#include "sampling.h"

#include "filter.h"
#include "memory.h"
#include "numeric.h"
#include "realm_abi.h"
#include "rng.h"

#ifndef GREEDY_BELOW
#define GREEDY_BELOW 1e-7f
#endif
#define MAX_VOCAB (1u << 24)

static int valid(const SamplingOptions *options) {
  return options->temperature == options->temperature && options->top_p >= 0 && options->min_p >= 0 &&
         options->min_p <= 1 && options->repetition_penalty > 0 &&
         options->repetition_penalty < __builtin_inff();
}

int32_t sampler_open(Sampler *sampler, const SamplingOptions *options, uint32_t vocab_size) {
  if (!valid(options)) return REALM_E_INVALID_ARGUMENT;
  if (vocab_size == 0 || vocab_size > MAX_VOCAB) return REALM_E_INTERNAL;
  uint32_t size = padded(vocab_size);
  sampler->options = *options;
  sampler->vocab_size = vocab_size;
  sampler->padded_size = size;
  sampler->known_count = 0;
  if (!(sampler->logits = arena_take(size * sizeof(float))) ||
      !(sampler->scaled = arena_take(size * sizeof(float))) ||
      !(sampler->weights = arena_take(size * sizeof(float))) ||
      !(sampler->sums = arena_take(size / ROW_BLOCK * sizeof(double))) ||
      !(sampler->candidates = arena_take(size * sizeof(uint32_t))) ||
      !(sampler->kept = arena_take(size / 8)) || !(sampler->known = arena_take(size * sizeof(uint32_t))) ||
      !(sampler->is_known = arena_take(size / 8)))
    return REALM_E_OUT_OF_MEMORY;
  for (uint32_t i = vocab_size; i < size; i++) sampler->logits[i] = -__builtin_inff();
  __builtin_memset(sampler->is_known, 0, size / 8);
  return 0;
}

void sampler_know(Sampler *sampler, uint32_t token) {
  uint32_t bit = 1u << (token % 32);
  if (token >= sampler->vocab_size || sampler->is_known[token / 32] & bit) return;
  sampler->is_known[token / 32] |= bit;
  sampler->known[sampler->known_count++] = token;
}

/* scaled = penalised logits / divisor. */
static void penalise_and_scale(Sampler *sampler, float divisor) {
  float penalty = sampler->options.repetition_penalty;
  scale(sampler->logits, divisor, sampler->scaled, sampler->padded_size);
  if (penalty == 1) return;
  for (uint32_t i = 0; i < sampler->known_count; i++) {
    uint32_t token = sampler->known[i];
    float logit = sampler->logits[token];
    if (logit == logit) sampler->scaled[token] = (logit > 0 ? logit / penalty : logit * penalty) / divisor;
  }
}

static uint32_t greedy(Sampler *sampler) {
  if (sampler->options.repetition_penalty == 1) return argmax(sampler->logits, sampler->padded_size);
  penalise_and_scale(sampler, 1);
  return argmax(sampler->scaled, sampler->padded_size);
}

/* The first token, by rising id, up to which the weights reach past a share of all. */
static uint32_t draw_from_all(const Sampler *sampler, double total, double uniform) {
  double goal = uniform * total, reached = 0;
  uint32_t block = 0, last = 0;
  if (goal > total * (1 - 0x1p-52)) goal = total * (1 - 0x1p-52); /* so that the blocks, summed as before, pass it */
  while (reached + sampler->sums[block] <= goal) reached += sampler->sums[block++];
  for (uint32_t token = block * ROW_BLOCK; token < (block + 1) * ROW_BLOCK; token++) {
    reached += sampler->weights[token];
    if (reached > goal) return token;
    if (sampler->weights[token] > 0) last = token;
  }
  return last; /* rounding: one by one the block's weights come to less than its sum */
}

/* The same among the tokens that the filters kept. */
static uint32_t draw_from_kept(Sampler *sampler, uint32_t count, double uniform) {
  uint32_t words = sampler->padded_size / 32, last = 0;
  __builtin_memset(sampler->kept, 0, words * sizeof(uint32_t));
  for (uint32_t i = 0; i < count; i++) {
    sampler->kept[sampler->candidates[i] / 32] |= 1u << (sampler->candidates[i] % 32);
  }
  double goal = __builtin_inf(); /* the first pass only sums up */
  for (int pass = 0; pass < 2; pass++) {
    double reached = 0;
    for (uint32_t word = 0; word < words; word++) {
      for (uint32_t bits = sampler->kept[word]; bits; bits &= bits - 1) {
        uint32_t token = word * 32 + (uint32_t)__builtin_ctz(bits);
        reached += sampler->weights[token];
        if (sampler->weights[token] > 0) last = token;
        if (reached > goal) return token;
      }
    }
    goal = uniform * reached;
  }
  return last;
}

uint32_t sampler_take(Sampler *sampler, uint64_t position) {
  const SamplingOptions *options = &sampler->options;
  if (options->temperature < GREEDY_BELOW) return greedy(sampler);
  penalise_and_scale(sampler, options->temperature);
  float max = sampler->scaled[argmax(sampler->scaled, sampler->padded_size)];
  if (!(max > -__builtin_inff() && max < __builtin_inff())) return greedy(sampler);
  double total = exponentials(sampler->scaled, max, sampler->weights, sampler->sums, sampler->padded_size);
  double uniform = uniform_at(options->seed, position);
  Ranking ranking = {sampler->scaled, sampler->weights, sampler->candidates};
  int has_top_k = options->top_k > 0 && options->top_k < sampler->vocab_size;
  if (!has_top_k && options->top_p >= 1 && options->min_p <= 0) return draw_from_all(sampler, total, uniform);
  uint32_t count = sampler->padded_size;
  if (has_top_k) count = keep_top_k(&ranking, count, options->top_k, &total);
  if (options->top_p < 1) count = keep_top_p(&ranking, count, has_top_k, options->top_p, total);
  if (options->min_p > 0) count = keep_min_p(&ranking, count, has_top_k || options->top_p < 1, options->min_p);
  return draw_from_kept(sampler, count, uniform);
}

float sampler_logprob(const Sampler *sampler, uint32_t token) {
  return (float)(sampler->logits[token] - log_sum_exp(sampler->logits, sampler->padded_size));
}
