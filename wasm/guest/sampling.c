/* Repetition penalty -> temperature -> softmax -> top-k -> top-p -> min-p -> multinomial.
 *
 * Each filter works on what the one before left, renormalised. A token is before another if its scaled logit is higher,
 * or equal and its id lower; filters keep a beginning of that order. The draw then goes through the kept tokens by
 * rising id, so it does not depend on how a filter found them. Nothing sorts the vocabulary, and filters look only at
 * the candidates that a bound leaves: one pass over the row finds the maxima of its blocks, a second one either the
 * candidates, among the blocks that reach the bound, or the sum of all weights where that counts. */
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
#define DEEPER 0.125f

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
      !(sampler->maxima = arena_take(size / ROW_BLOCK * sizeof(float))) ||
      !(sampler->sums = arena_take(size / ROW_BLOCK * sizeof(double))) ||
      !(sampler->candidates = arena_take(size * sizeof(uint32_t))) ||
      !(sampler->scores = arena_take(size * sizeof(float))) ||
      !(sampler->weights = arena_take(size * sizeof(float))) ||
      !(sampler->places = arena_take(size * sizeof(uint32_t))) || !(sampler->kept = arena_take(size / 8)) ||
      !(sampler->known = arena_take(size * sizeof(uint32_t))) ||
      !(sampler->clean = arena_take(size * sizeof(float))) || !(sampler->is_known = arena_take(size / 8)))
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

/* Penalises the logits of known tokens where they lie; `clean` keeps what they were. */
static void penalise(Sampler *sampler) {
  float penalty = sampler->options.repetition_penalty;
  if (penalty == 1) return;
  for (uint32_t i = 0; i < sampler->known_count; i++) {
    float *place = &sampler->logits[sampler->known[i]], logit = *place;
    sampler->clean[i] = logit;
    *place = logit > 0 ? logit / penalty : logit * penalty;
  }
}

static void forgive(Sampler *sampler) {
  if (sampler->options.repetition_penalty == 1) return;
  for (uint32_t i = 0; i < sampler->known_count; i++) sampler->logits[sampler->known[i]] = sampler->clean[i];
}

/* The first token, by rising id, up to which the weights reach past a share of all. */
static uint32_t draw_from_all(Sampler *sampler, float max, float rate, double uniform) {
  double total = exponential_sums(sampler->logits, max, rate, sampler->sums, sampler->padded_size);
  double goal = uniform * total, reached = 0;
  uint32_t block = 0, last = 0;
  if (goal > total * (1 - 0x1p-52)) goal = total * (1 - 0x1p-52); /* so that the blocks, summed as before, pass it */
  while (reached + sampler->sums[block] <= goal) reached += sampler->sums[block++];
  exponentials(sampler->logits + block * ROW_BLOCK, max, rate, sampler->weights, ROW_BLOCK);
  for (uint32_t i = 0; i < ROW_BLOCK; i++) {
    reached += sampler->weights[i];
    if (reached > goal) return block * ROW_BLOCK + i;
    if (sampler->weights[i] > 0) last = block * ROW_BLOCK + i;
  }
  return last; /* rounding: one by one the block's weights come to less than its sum */
}

/* The same among the `left` of `count` candidates that the filters kept. */
static uint32_t draw_from_kept(Sampler *sampler, uint32_t count, uint32_t left, double uniform) {
  uint32_t words = (count + 31) / 32, last = 0;
  __builtin_memset(sampler->kept, 0, words * sizeof(uint32_t));
  for (uint32_t i = 0; i < left; i++) {
    sampler->kept[sampler->places[i] / 32] |= 1u << (sampler->places[i] % 32);
  }
  double goal = __builtin_inf(); /* the first pass only sums up */
  for (int pass = 0; pass < 2; pass++) {
    double reached = 0;
    for (uint32_t word = 0; word < words; word++) {
      for (uint32_t bits = sampler->kept[word]; bits; bits &= bits - 1) {
        uint32_t place = word * 32 + (uint32_t)__builtin_ctz(bits);
        reached += sampler->weights[place];
        if (sampler->weights[place] > 0) last = sampler->candidates[place];
        if (reached > goal) return last;
      }
    }
    goal = uniform * reached;
  }
  return last;
}

/* The logits of at least `least` become candidates, with their weights and, divided by the temperature, scores. */
static uint32_t collect(Sampler *sampler, float max, float rate, float least) {
  uint32_t count = gather(sampler->logits, sampler->maxima, least > -LARGEST ? least : -LARGEST, sampler->candidates,
                          sampler->scores, sampler->padded_size);
  exponentials(sampler->scores, max, rate, sampler->weights, (count + 3) & ~3u);
  for (uint32_t i = 0; i < count; i++) {
    sampler->scores[i] /= sampler->options.temperature;
    sampler->places[i] = i;
  }
  return count;
}

static int has_top_k(const Sampler *sampler) {
  return sampler->options.top_k > 0 && sampler->options.top_k < sampler->vocab_size;
}

static uint32_t collect_top_k(Sampler *sampler, float max, float rate) {
  float least = bound_of_top_k(sampler->maxima, sampler->padded_size / ROW_BLOCK, sampler->options.top_k);
  /* Scaling may make a lower logit equal. */
  least -= __builtin_fabsf(least) * 0x1p-22f + sampler->options.temperature * 0x1p-148f;
  return collect(sampler, max, rate, least);
}

/* Goes deeper until the candidates have the mass of top_p, for that mostly lies in few tokens. Tokens that weigh less
 * than the last bound weigh together less than what top_p drops. */
static uint32_t collect_top_p(Sampler *sampler, float max, float rate, double total) {
  const SamplingOptions *options = &sampler->options;
  float last = (float)((1 - (double)options->top_p) * total / sampler->padded_size * 0.999);
  if (last < options->min_p) last = options->min_p;
  for (float weight = DEEPER;; weight *= DEEPER) {
    if (weight < last) weight = last;
    uint32_t count = collect(sampler, max, rate, bound_of_weight(max, options->temperature, weight));
    double mass = 0;
    for (uint32_t i = 0; i < count; i++) mass += sampler->weights[i];
    if (weight == last || mass >= options->top_p * total) return count;
  }
}

static uint32_t draw_filtered(Sampler *sampler, float max, float rate, double uniform) {
  const SamplingOptions *options = &sampler->options;
  double total = 0;
  uint32_t count;
  if (has_top_k(sampler)) {
    count = collect_top_k(sampler, max, rate);
  } else if (options->top_p < 1) {
    total = exponential_sums(sampler->logits, max, rate, sampler->sums, sampler->padded_size);
    count = collect_top_p(sampler, max, rate, total);
  } else {
    count = collect(sampler, max, rate, bound_of_weight(max, options->temperature, options->min_p));
  }
  uint32_t left = count;
  Ranking ranking = {sampler->scores, sampler->weights, sampler->places};
  if (has_top_k(sampler)) left = keep_top_k(&ranking, left, options->top_k, &total);
  if (options->top_p < 1) left = keep_top_p(&ranking, left, options->top_p, total);
  if (options->min_p > 0) left = keep_min_p(&ranking, left, options->min_p);
  return draw_from_kept(sampler, count, left, uniform);
}

static uint32_t draw(Sampler *sampler, float max, double uniform) {
  const SamplingOptions *options = &sampler->options;
  float rate = (float)(LOG2_E / options->temperature);
  int filters = options->top_p < 1 || options->min_p > 0 || has_top_k(sampler);
  return filters ? draw_filtered(sampler, max, rate, uniform) : draw_from_all(sampler, max, rate, uniform);
}

uint32_t sampler_take(Sampler *sampler, uint64_t position) {
  const SamplingOptions *options = &sampler->options;
  penalise(sampler);
  float max = row_maxima(sampler->logits, sampler->maxima, sampler->padded_size);
  int is_greedy = options->temperature < GREEDY_BELOW || !(max > -__builtin_inff() && max < __builtin_inff());
  uint32_t token = is_greedy ? first_of(sampler->logits, sampler->maxima, max, sampler->padded_size)
                             : draw(sampler, max, uniform_at(options->seed, position));
  forgive(sampler);
  return token;
}

float sampler_logprob(Sampler *sampler, uint32_t token) {
  float max = row_maxima(sampler->logits, sampler->maxima, sampler->padded_size);
  double total = exponential_sums(sampler->logits, max, (float)LOG2_E, sampler->sums, sampler->padded_size);
  return (float)(sampler->logits[token] - (max + natural_log(total)));
}
