/* Parts of the guest, exported one by one for its tests. */
#include "filter.h"
#include "json.h"
#include "lookup.h"
#include "memory.h"
#include "numeric.h"
#include "output.h"
#include "realm_abi.h"
#include "rng.h"
#include "sampling.h"

REALM_EXPORT(unit_philox) void unit_philox(uint32_t *counter, uint32_t key0, uint32_t key1) {
  philox(counter, key0, key1);
}

REALM_EXPORT(unit_uniform) double unit_uniform(uint64_t seed, uint64_t position) { return uniform_at(seed, position); }

static Sampler sampler;

REALM_EXPORT(unit_sampler_open)
int32_t unit_sampler_open(uint32_t vocab, float temperature, uint32_t top_k, float top_p, float min_p, float penalty,
                          uint64_t seed) {
  SamplingOptions options = {temperature, top_p, min_p, penalty, top_k, seed};
  request_end();
  request_begin(0);
  return sampler_open(&sampler, &options, vocab);
}

REALM_EXPORT(unit_logits) float *unit_logits(void) { return sampler.logits; }
REALM_EXPORT(unit_know) void unit_know(uint32_t token) { sampler_know(&sampler, token); }
REALM_EXPORT(unit_take) uint32_t unit_take(uint64_t position) { return sampler_take(&sampler, position); }
REALM_EXPORT(unit_logprob) float unit_logprob(uint32_t token) { return sampler_logprob(&sampler, token); }

/* Takes for positions first .. first + count - 1 into out. */
REALM_EXPORT(unit_take_many) void unit_take_many(uint64_t first, uint32_t count, uint32_t *out) {
  for (uint32_t i = 0; i < count; i++) out[i] = sampler_take(&sampler, first + i);
}

/* weights of unit_logits, where a padded row of zeros and less is; their sum, as it is taken without them. */
REALM_EXPORT(unit_exponentials) double unit_exponentials(void) {
  exponentials(sampler.logits, 0, (float)LOG2_E, sampler.weights, sampler.padded_size);
  return exponential_sums(sampler.logits, 0, (float)LOG2_E, sampler.sums, sampler.padded_size);
}

REALM_EXPORT(unit_weights) float *unit_weights(void) { return sampler.weights; }

static Output output;

REALM_EXPORT(unit_output_open) void unit_output_open(const TextRef *strings, uint32_t count) {
  output = (Output){.stops = {strings, count}};
}

REALM_EXPORT(unit_output_push) int32_t unit_output_push(const uint8_t *bytes, uint32_t count) {
  return output_push(&output, bytes, count);
}

REALM_EXPORT(unit_output_end) int32_t unit_output_end(void) { return output_end(&output); }
REALM_EXPORT(unit_output_text) const uint8_t *unit_output_text(void) { return output.text.data; }
REALM_EXPORT(unit_output_ready) uint32_t unit_output_ready(void) { return output.ready; }
REALM_EXPORT(unit_output_taken) void unit_output_taken(void) { output_taken(&output); }

/* The number as i64, or -1. */
REALM_EXPORT(unit_json_u32) int64_t unit_json_u32(const uint8_t *text, uint32_t size, const char *key) {
  uint32_t value;
  return json_u32(text, size, key, &value) ? (int64_t)value : -1;
}

REALM_EXPORT(unit_lookup) uint32_t unit_lookup(const uint32_t *text, uint32_t count, uint32_t longest, uint32_t *guesses,
                                               uint32_t room) {
  return lookup(text, count, longest, guesses, room);
}
