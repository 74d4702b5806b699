/* The generation loop over ABI v2: a session, prompt chunks and single tokens through realm_forward. */
#include "drafts.h"
#include "memory.h"
#include "output.h"
#include "realm_abi.h"
#include "sampling.h"

#define NEEDED_VERSION 2
#define FIRST_SIZE offsetof(GenRequest, draft_tokens) /* of the first hosts' requests */
#define DEFAULT_CHUNK 128u
#define FIRST_PIECE 256u
#define SPARE_TOKENS 16u /* beyond one a byte: a beginning of sequence, a space put before the text */

typedef struct {
  const GenRequest *request;
  ModelInfo model;
  uint32_t session; /* 0 while there is none */
  uint32_t *prompt;
  uint32_t prompt_count;
  Sampler sampler;
  Drafts drafts;
  Output output;
  Buffer piece; /* the bytes of one token */
} Generation;

/* What an import that promises a number up to `most` really answered: the number, or an error. */
static int32_t checked(int32_t answer, uint32_t most) {
  return answer >= 0 && (uint32_t)answer > most ? REALM_E_INTERNAL : answer;
}

static int32_t read_request(Generation *generation) {
  const GenRequest *request = generation->request;
  int32_t version = realm_abi_version();
  if (version < 0) return version;
  if (version < NEEDED_VERSION) return REALM_E_UNSUPPORTED;
  if (request->size < FIRST_SIZE) return REALM_E_INVALID_ARGUMENT;
  generation->output.stops.strings = (const TextRef *)(uintptr_t)request->stop_strings_ptr;
  generation->output.stops.count = request->stop_strings_count;
  for (uint32_t i = 0; i < request->stop_strings_count; i++) {
    if (generation->output.stops.strings[i].len == 0) return REALM_E_INVALID_ARGUMENT;
  }
  int32_t written = realm_model_info(request->model, offset_of(&generation->model), sizeof(ModelInfo));
  if (written < 0) return written;
  if (written < (int32_t)sizeof(ModelInfo)) return REALM_E_INTERNAL;
  SamplingOptions options = {request->temperature, request->top_p,  request->min_p, request->repetition_penalty,
                             request->top_k,       request->seed};
  return sampler_open(&generation->sampler, &options, generation->model.vocab_size);
}

static int32_t encode_prompt(Generation *generation) {
  const GenRequest *request = generation->request;
  uint32_t flags = (request->flags & REALM_GENREQUEST_ADD_BOS ? REALM_ENCODE_ADD_BOS : 0) |
                   (request->flags & REALM_GENREQUEST_PLAIN_TEXT ? 0 : REALM_ENCODE_PARSE_SPECIAL);
  int32_t count = REALM_E_BUFFER_TOO_SMALL;
  for (uint64_t room = (uint64_t)request->prompt_len + SPARE_TOKENS; count == REALM_E_BUFFER_TOO_SMALL;) {
    generation->prompt = arena_take(room * sizeof(uint32_t));
    if (!generation->prompt) return REALM_E_OUT_OF_MEMORY;
    uint32_t out = offset_of(generation->prompt);
    count = realm_encode(request->model, request->prompt_ptr, request->prompt_len, flags, out, (uint32_t)room);
    if (count >= 0 && (uint64_t)count > room) return REALM_E_INTERNAL;
    room *= 2;
  }
  if (count < 0) return count;
  if (count == 0) return REALM_E_INVALID_ARGUMENT;
  if ((uint32_t)count > generation->model.context_length) return REALM_E_CONTEXT_FULL;
  generation->prompt_count = (uint32_t)count;
  for (uint32_t i = 0; i < generation->prompt_count; i++) sampler_know(&generation->sampler, generation->prompt[i]);
  return 0;
}

/* Appends tokens to the session; with `rows` 1 the last one's logits are the sampler's then. */
static int32_t forward(Generation *generation, const uint32_t *ids, uint32_t count, uint32_t rows) {
  Sampler *sampler = &generation->sampler;
  int32_t answer = realm_forward(generation->session, offset_of(ids), count, offset_of(sampler->logits), rows,
                                 sampler->vocab_size);
  if (answer < 0) return answer;
  return (uint32_t)answer == rows ? 0 : REALM_E_INTERNAL;
}

static int32_t open_drafts(Generation *generation) {
  const GenRequest *request = generation->request;
  if (request->size < sizeof(GenRequest) || request->draft_tokens == 0) return 0;
  return drafts_open(&generation->drafts, request->draft_tokens, request->draft_lookup, generation->model.vocab_size,
                     generation->prompt, generation->prompt_count);
}

static int32_t prefill(Generation *generation) {
  uint32_t chunk = generation->request->prefill_chunk ? generation->request->prefill_chunk : DEFAULT_CHUNK;
  uint32_t total = generation->prompt_count;
  for (uint32_t done = 0; done < total;) {
    uint32_t count = total - done < chunk ? total - done : chunk;
    int32_t error = forward(generation, generation->prompt + done, count, done + count == total);
    if (error < 0) return error;
    done += count;
  }
  return 0;
}

static int is_stop_token(const Generation *generation, uint32_t token) {
  const GenRequest *request = generation->request;
  const uint32_t *stops = (const uint32_t *)(uintptr_t)request->stop_tokens_ptr;
  for (uint32_t i = 0; i < request->stop_tokens_count; i++) {
    if (stops[i] == token) return 1;
  }
  return token == generation->model.eos_token && !(request->flags & REALM_GENREQUEST_IGNORE_EOS);
}

/* The token's bytes go to the output. Answers 1 if a stop string ends the text, 0 if not, or an error. */
static int32_t decode(Generation *generation, uint32_t token) {
  Buffer *piece = &generation->piece;
  uint32_t model = generation->request->model, flags = REALM_DECODE_SKIP_SPECIAL, ids = offset_of(&token);
  if (!buffer_reserve(piece, FIRST_PIECE)) return REALM_E_OUT_OF_MEMORY;
  int32_t size = realm_decode(model, ids, 1, flags, offset_of(piece->data), piece->capacity);
  if (size == REALM_E_BUFFER_TOO_SMALL) {
    size = realm_decode(model, ids, 1, flags, 0, 0);
    if (size < 0) return size;
    if (!buffer_reserve(piece, (uint32_t)size)) return REALM_E_OUT_OF_MEMORY;
    size = realm_decode(model, ids, 1, flags, offset_of(piece->data), piece->capacity);
  }
  size = checked(size, piece->capacity);
  return size < 0 ? size : output_push(&generation->output, piece->data, (uint32_t)size);
}

/* Hands on a token and the text that is ready. Answers 0 to go on, 1 to stop, or an error. */
static int32_t emit(Generation *generation, uint32_t token, uint32_t flags) {
  int wants = (generation->request->flags & REALM_GENREQUEST_WANT_LOGPROBS) != 0;
  float logprob = wants ? sampler_logprob(&generation->sampler, token) : __builtin_nanf("");
  Output *output = &generation->output;
  int32_t answer = realm_emit(generation->session, token, offset_of(output->text.data), output->ready, logprob, flags);
  output_taken(output);
  return checked(answer, 1);
}

/* The logits after a sampled token, which is not the last, become the sampler's. */
static int32_t follow(Generation *generation, uint32_t token, uint32_t position, uint32_t made) {
  Drafts *drafts = &generation->drafts;
  if (drafts->most == 0) return forward(generation, &token, 1, 1);
  uint32_t left = generation->request->max_tokens - made, room = generation->model.context_length - position;
  if (left > room) left = room;
  return drafts_follow(drafts, generation->session, token, position, left, generation->sampler.logits);
}

/* Samples and emits tokens until something ends the text. Answers a finish reason or an error. */
static int32_t decode_loop(Generation *generation) {
  Sampler *sampler = &generation->sampler;
  uint32_t context = generation->model.context_length;
  for (uint32_t made = 1, position = generation->prompt_count;; made++, position++) {
    uint32_t token = sampler_take(sampler, position);
    int is_stop = is_stop_token(generation, token);
    int is_last = made == generation->request->max_tokens || position == context;
    int32_t found = is_stop ? 0 : decode(generation, token);
    if (found < 0) return found;
    int32_t ended = is_stop || (is_last && !found) ? output_end(&generation->output) : 0;
    if (ended < 0) return ended;
    int32_t answer = emit(generation, token, is_stop ? REALM_EMIT_STOP_TOKEN : 0);
    if (answer < 0) return answer;
    if (is_stop) return REALM_FINISH_STOP_TOKEN;
    if (found) return REALM_FINISH_STOP_STRING;
    if (is_last) return REALM_FINISH_MAX_TOKENS;
    if (answer) return REALM_FINISH_STOPPED;
    sampler_know(sampler, token);
    int32_t error = follow(generation, token, position, made);
    if (error < 0) return error;
  }
}

static int32_t run(Generation *generation) {
  int32_t answer = read_request(generation);
  if (answer >= 0) answer = encode_prompt(generation);
  if (answer >= 0) answer = open_drafts(generation);
  if (answer < 0) return answer;
  if (generation->request->max_tokens == 0) return REALM_FINISH_MAX_TOKENS;
  int32_t session = realm_session_open(generation->request->model);
  if (session <= 0) return session < 0 ? session : REALM_E_INTERNAL;
  generation->session = (uint32_t)session;
  answer = prefill(generation);
  return answer < 0 ? answer : decode_loop(generation);
}

REALM_EXPORT(generate) int32_t generate(uint32_t request_ptr) {
  Generation generation = {.request = (const GenRequest *)(uintptr_t)request_ptr};
  request_begin(request_ptr + sizeof(GenRequest));
  int32_t answer = run(&generation);
  if (generation.session) {
    int32_t freed = realm_session_free(generation.session);
    if (answer >= 0 && freed < 0) answer = freed;
  }
  request_end();
  return answer;
}
