/* Realm's generation loop over ABI v1, layer by layer: the prompt in chunks of 8, then one token at a time. With P
 * prompt tokens, L layers and N tokens that max_tokens ends, it embeds and computes logits ceil(P / 8) + N - 1 times
 * and goes through L times as many layers. */
#include "json.h"
#include "memory.h"
#include "output.h"
#include "realm_abi.h"
#include "sampling.h"

#define CHUNK 8u
#define FIRST_METADATA 4096u
#define LAST_METADATA (1u << 20)
#define FIRST_PIECE 256u
#define LAST_PIECE (1u << 20)
#define SPARE_TOKENS 16u /* beyond one a byte: a beginning of sequence, a space put before the text */

static const GenOptions DEFAULTS = {
    .max_tokens = 512, .temperature = 0.7f, .top_p = 0.9f, .top_k = 40, .repetition_penalty = 1.1f};

typedef struct {
  uint32_t model_id;
  const GenOptions *options;
  uint32_t vocab_size, hidden_size, num_layers, context_length;
  uint32_t *prompt;
  uint32_t prompt_count;
  float *hidden, *next; /* [CHUNK, hidden_size] before and after a layer */
  Sampler sampler;
  Output output;
  Buffer piece;  /* the bytes of one token */
  Buffer result; /* all of the text */
} Generation;

/* What an import that promises a number of bytes really answered: 0, or an error. */
static int32_t exactly(int32_t answer, uint64_t promised) {
  if (answer < 0) return answer;
  return (uint64_t)answer == promised ? 0 : REALM_E_INTERNAL;
}

static int32_t read_model(Generation *generation) {
  Buffer json = {0};
  int32_t size = REALM_E_BUFFER_TOO_SMALL;
  for (uint32_t room = FIRST_METADATA; size == REALM_E_BUFFER_TOO_SMALL && room <= LAST_METADATA; room *= 2) {
    if (!buffer_reserve(&json, room)) return REALM_E_OUT_OF_MEMORY;
    size = realm_get_model_metadata(generation->model_id, offset_of(json.data), json.capacity);
  }
  if (size < 0) return size;
  uint32_t read = (uint32_t)size;
  if (read > json.capacity || !json_u32(json.data, read, "vocab_size", &generation->vocab_size) ||
      !json_u32(json.data, read, "hidden_size", &generation->hidden_size) ||
      !json_u32(json.data, read, "num_layers", &generation->num_layers) ||
      !json_u32(json.data, read, "max_seq_len", &generation->context_length) || generation->hidden_size == 0)
    return REALM_E_INTERNAL;
  uint64_t bytes = (uint64_t)CHUNK * generation->hidden_size * sizeof(float);
  if (!(generation->hidden = arena_take(bytes)) || !(generation->next = arena_take(bytes)))
    return REALM_E_OUT_OF_MEMORY;
  const GenOptions *options = generation->options;
  SamplingOptions sampling = {options->temperature, options->top_p, 0, options->repetition_penalty,
                              options->top_k,       options->seed};
  return sampler_open(&generation->sampler, &sampling, generation->vocab_size);
}

static int32_t encode_prompt(Generation *generation, uint32_t prompt_ptr, uint32_t prompt_len) {
  uint64_t room = ((uint64_t)prompt_len + SPARE_TOKENS) * sizeof(uint32_t);
  generation->prompt = arena_take(room);
  if (!generation->prompt) return REALM_E_OUT_OF_MEMORY;
  int32_t count = realm_encode_tokens(generation->model_id, prompt_ptr, prompt_len, offset_of(generation->prompt),
                                      (uint32_t)room);
  if (count < 0) return count;
  if (count == 0) return REALM_E_INVALID_ARGUMENT;
  if ((uint32_t)count > room / sizeof(uint32_t)) return REALM_E_INTERNAL;
  if ((uint32_t)count > generation->context_length) return REALM_E_CONTEXT_FULL;
  generation->prompt_count = (uint32_t)count;
  for (uint32_t i = 0; i < generation->prompt_count; i++) sampler_know(&generation->sampler, generation->prompt[i]);
  return 0;
}

/* A chunk of at most CHUNK tokens through all layers; the last one's logits are the sampler's then. */
static int32_t forward(Generation *generation, const uint32_t *ids, uint32_t count, uint32_t position) {
  uint32_t model = generation->model_id, values = count * generation->hidden_size;
  uint64_t bytes = (uint64_t)values * sizeof(float);
  int32_t error = exactly(realm_embed_tokens(model, offset_of(ids), count, offset_of(generation->hidden)), bytes);
  for (uint32_t layer = 0; layer < generation->num_layers && error == 0; layer++) {
    error = exactly(realm_forward_layer(model, layer, offset_of(generation->hidden), values, position,
                                        offset_of(generation->next)),
                    bytes);
    float *before = generation->hidden;
    generation->hidden = generation->next;
    generation->next = before;
  }
  if (error < 0) return error;
  const float *last = generation->hidden + (count - 1) * generation->hidden_size;
  return exactly(realm_compute_logits(model, offset_of(last), generation->hidden_size,
                                      offset_of(generation->sampler.logits)),
                 (uint64_t)generation->vocab_size * sizeof(float));
}

static int32_t prefill(Generation *generation) {
  for (uint32_t start = 0; start < generation->prompt_count; start += CHUNK) {
    uint32_t left = generation->prompt_count - start;
    int32_t error = forward(generation, generation->prompt + start, left < CHUNK ? left : CHUNK, start);
    if (error < 0) return error;
  }
  return 0;
}

static int is_stop_token(const Generation *generation, uint32_t token) {
  const uint32_t *stops = (const uint32_t *)(uintptr_t)generation->options->stop_tokens_ptr;
  for (uint32_t i = 0; i < generation->options->stop_token_count; i++) {
    if (stops[i] == token) return 1;
  }
  return 0;
}

/* The token's bytes go to the output. Answers 0 or an error. */
static int32_t decode(Generation *generation, uint32_t token) {
  Buffer *piece = &generation->piece;
  int32_t size = REALM_E_BUFFER_TOO_SMALL;
  for (uint32_t room = FIRST_PIECE; size == REALM_E_BUFFER_TOO_SMALL && room <= LAST_PIECE; room *= 2) {
    if (!buffer_reserve(piece, room)) return REALM_E_OUT_OF_MEMORY;
    size = realm_decode_tokens(generation->model_id, offset_of(&token), 1, offset_of(piece->data), piece->capacity);
  }
  if (size < 0) return size;
  if ((uint32_t)size > piece->capacity) return REALM_E_INTERNAL;
  return output_push(&generation->output, piece->data, (uint32_t)size);
}

/* Hands on the text that is ready. Answers 0 to go on, above 0 to stop, or an error. */
static int32_t stream(Generation *generation) {
  Output *output = &generation->output;
  if (!buffer_append(&generation->result, output->text.data, output->ready)) return REALM_E_OUT_OF_MEMORY;
  int32_t answer = realm_stream_token(offset_of(output->text.data), output->ready);
  output_taken(output);
  return answer;
}

static int32_t end_after_stop_token(Generation *generation) {
  int32_t error = output_end(&generation->output);
  if (error < 0 || generation->output.ready == 0) return error;
  return stream(generation);
}

static int32_t decode_loop(Generation *generation) {
  uint32_t context = generation->context_length;
  for (uint32_t made = 1, position = generation->prompt_count;; made++, position++) {
    uint32_t token = sampler_take(&generation->sampler, position);
    if (is_stop_token(generation, token)) return end_after_stop_token(generation);
    int is_last = made == generation->options->max_tokens || position == context;
    int32_t answer = decode(generation, token);
    if (answer == 0 && is_last) answer = output_end(&generation->output);
    if (answer == 0) answer = stream(generation);
    if (answer != 0 || is_last) return answer;
    sampler_know(&generation->sampler, token);
    answer = forward(generation, &token, 1, position);
    if (answer < 0) return answer;
  }
}

static int32_t run(Generation *generation, uint32_t prompt_ptr, uint32_t prompt_len) {
  int32_t answer = read_model(generation);
  if (answer == 0) answer = encode_prompt(generation, prompt_ptr, prompt_len);
  if (answer == 0 && generation->options->max_tokens) {
    answer = prefill(generation);
    if (answer == 0) answer = decode_loop(generation);
  }
  if (answer >= 0 && !buffer_append(&generation->result, "", 1)) return REALM_E_OUT_OF_MEMORY;
  return answer;
}

REALM_EXPORT(realm_new) uint32_t realm_new(void) { return 1; }

/* The first byte after all that the host has put somewhere; without an allocator it may be anywhere. */
static uint32_t end_of_input(uint32_t prompt_end, uint32_t options_ptr, const GenOptions *options) {
  uint32_t end = prompt_end;
  if (!options_ptr) return end;
  uint32_t stops_end = options->stop_tokens_ptr + options->stop_token_count * (uint32_t)sizeof(uint32_t);
  if (end < options_ptr + sizeof(GenOptions)) end = options_ptr + sizeof(GenOptions);
  return end < stops_end ? stops_end : end;
}

REALM_EXPORT(generate)
uint32_t generate(uint32_t prompt_ptr, uint32_t prompt_len, uint32_t model_id, uint32_t options_ptr) {
  const GenOptions *options = options_ptr ? (const GenOptions *)(uintptr_t)options_ptr : &DEFAULTS;
  Generation generation = {.model_id = model_id, .options = options};
  request_begin(end_of_input(prompt_ptr + prompt_len, options_ptr, options));
  int32_t answer = run(&generation, prompt_ptr, prompt_len);
  request_end();
  return answer < 0 ? 0 : offset_of(generation.result.data);
}
