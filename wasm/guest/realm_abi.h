/* Generated from contract.toml by `python -m realm_abi.generate`; edit that file instead.
 *
 * The guest's side of the ABI: error codes, structs, imports. All imports live in the module "env" and
 * answer a value >= 0 or one of the error codes. Pointers are offsets into the guest's exported memory.
 */
#ifndef REALM_ABI_H
#define REALM_ABI_H

#include <stddef.h>
#include <stdint.h>

#define REALM_IMPORT(name) __attribute__((import_module("env"), import_name(#name))) extern
#define REALM_EXPORT(name) __attribute__((export_name(#name)))

enum realm_error {
  REALM_E_INVALID_ARGUMENT = -1, /* A parameter is outside its documented range or contradicts another. */
  REALM_E_OUT_OF_BOUNDS = -2, /* A window does not lie inside the guest's memory. */
  REALM_E_MISALIGNED = -3, /* A window's pointer is not a multiple of its element's size. */
  REALM_E_BUFFER_TOO_SMALL = -4, /* An out window's capacity is less than the result needs; nothing was written. */
  REALM_E_INVALID_UTF8 = -5, /* A text is not valid UTF-8. */
  REALM_E_INVALID_HANDLE = -6, /* No such model or session, or it is not this guest's. */
  REALM_E_NOT_FOUND = -7, /* Nothing goes by that name. */
  REALM_E_PERMISSION_DENIED = -8, /* The tenant may not do that. */
  REALM_E_OUT_OF_MEMORY = -9, /* The host, or the guest's own memory, has no room left. */
  REALM_E_CONTEXT_FULL = -10, /* The tokens would not fit in the model's context. */
  REALM_E_CANCELLED = -11, /* The request has been cancelled: clean up and return. */
  REALM_E_UNSUPPORTED = -12, /* This host does not offer the function. */
  REALM_E_LIMIT_EXCEEDED = -13, /* A limit set for the tenant or the request is reached. */
  REALM_E_INTERNAL = -14, /* The other side broke the contract or failed; its log says how. */
};

enum realm_finish {
  REALM_FINISH_STOP_TOKEN = 0, /* A stop token or the model's end-of-sequence token was sampled. */
  REALM_FINISH_STOP_STRING = 1, /* A stop string appeared; the text ends before it. */
  REALM_FINISH_MAX_TOKENS = 2, /* max_tokens were generated, or the model's context ended. */
  REALM_FINISH_STOPPED = 3, /* realm_emit asked to stop. */
};

/* How to generate, v1. */
typedef struct {
  uint32_t max_tokens; /* Tokens to generate at most; 0 generates none. */
  float temperature; /* Divides the logits; below 1e-7 the most likely token is taken. */
  float top_p; /* Keep the fewest likeliest tokens whose mass reaches this; >= 1 is off. */
  uint32_t top_k; /* Keep the k likeliest tokens; 0 is off. */
  float repetition_penalty; /* Positive logits of tokens in the context are divided by it, others multiplied; 1 is off. */
  uint32_t seed; /* Key of the sampling noise; 0 is a seed like any other. */
  uint8_t stop_token_count; /* How many stop tokens there are. */
  uint32_t stop_tokens_ptr; /* u32[stop_token_count]; a host puts the model's end-of-sequence tokens here. */
} GenOptions;
_Static_assert(offsetof(GenOptions, max_tokens) == 0, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, temperature) == 4, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, top_p) == 8, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, top_k) == 12, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, repetition_penalty) == 16, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, seed) == 20, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, stop_token_count) == 24, "layout of GenOptions");
_Static_assert(offsetof(GenOptions, stop_tokens_ptr) == 28, "layout of GenOptions");
_Static_assert(sizeof(GenOptions) == 32, "size of GenOptions");

/* One generation, v2. `size` is what the host filled in, so that the struct can grow: 72 is one that ends before draft_tokens, and a guest takes the fields that are not there for their defaults. */
typedef struct {
  uint32_t size; /* Bytes of this struct that the host filled in. */
  uint32_t model; /* Handle of the model. */
  uint32_t prompt_ptr; /* The prompt, UTF-8. */
  uint32_t prompt_len; /* Bytes of the prompt. */
  uint32_t flags; /* Bits: add_bos, want_logprobs, plain_text (special tokens in the prompt are plain text), ignore_eos (only stop_tokens end it). */
  uint32_t max_tokens; /* Tokens to generate at most; 0 encodes the prompt and generates none. */
  uint32_t top_k; /* Keep the k likeliest tokens; 0 is off. */
  float temperature; /* Divides the logits; below 1e-7 the most likely token is taken. */
  float top_p; /* Keep the fewest likeliest tokens whose share of what top_k left reaches this; >= 1 is off. */
  float min_p; /* Drop tokens less likely than this times the likeliest; 0 is off. */
  float repetition_penalty; /* Positive logits of tokens in the context are divided by it, others multiplied; 1 is off. */
  uint32_t prefill_chunk; /* Prompt tokens per realm_forward; 0 is the guest's choice. */
  uint64_t seed; /* Key of the sampling noise, which depends on (seed, position) alone; 0 is a seed like any other. */
  uint32_t stop_tokens_ptr; /* u32[stop_tokens_count]. */
  uint32_t stop_tokens_count; /* How many stop tokens there are. */
  uint32_t stop_strings_ptr; /* TextRef[stop_strings_count]; an empty string is an invalid_argument. */
  uint32_t stop_strings_count; /* How many stop strings there are. */
  uint32_t draft_tokens; /* Guesses that may be fed with a sampled token at most; 0 is off. */
  uint32_t draft_lookup; /* Of the text's end as many tokens at most are looked up in it, for what followed them there; 0 looks nothing up. */
} GenRequest;
_Static_assert(offsetof(GenRequest, size) == 0, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, model) == 4, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, prompt_ptr) == 8, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, prompt_len) == 12, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, flags) == 16, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, max_tokens) == 20, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, top_k) == 24, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, temperature) == 28, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, top_p) == 32, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, min_p) == 36, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, repetition_penalty) == 40, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, prefill_chunk) == 44, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, seed) == 48, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, stop_tokens_ptr) == 56, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, stop_tokens_count) == 60, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, stop_strings_ptr) == 64, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, stop_strings_count) == 68, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, draft_tokens) == 72, "layout of GenRequest");
_Static_assert(offsetof(GenRequest, draft_lookup) == 76, "layout of GenRequest");
_Static_assert(sizeof(GenRequest) == 80, "size of GenRequest");
#define REALM_GENREQUEST_ADD_BOS 1u
#define REALM_GENREQUEST_WANT_LOGPROBS 2u
#define REALM_GENREQUEST_PLAIN_TEXT 4u
#define REALM_GENREQUEST_IGNORE_EOS 8u

/* A text elsewhere in guest memory. */
typedef struct {
  uint32_t ptr; /* Where it starts. */
  uint32_t len; /* Its bytes. */
} TextRef;
_Static_assert(offsetof(TextRef, ptr) == 0, "layout of TextRef");
_Static_assert(offsetof(TextRef, len) == 4, "layout of TextRef");
_Static_assert(sizeof(TextRef) == 8, "size of TextRef");

/* What a loop needs to know of a model. */
typedef struct {
  uint32_t vocab_size; /* Logits per position. */
  uint32_t hidden_size; /* Width of the hidden states. */
  uint32_t num_layers; /* Transformer layers. */
  uint32_t context_length; /* Positions that a session can hold. */
  uint32_t bos_token; /* Beginning of sequence; 0xffffffff is none. */
  uint32_t eos_token; /* End of sequence; 0xffffffff is none. */
} ModelInfo;
_Static_assert(offsetof(ModelInfo, vocab_size) == 0, "layout of ModelInfo");
_Static_assert(offsetof(ModelInfo, hidden_size) == 4, "layout of ModelInfo");
_Static_assert(offsetof(ModelInfo, num_layers) == 8, "layout of ModelInfo");
_Static_assert(offsetof(ModelInfo, context_length) == 12, "layout of ModelInfo");
_Static_assert(offsetof(ModelInfo, bos_token) == 16, "layout of ModelInfo");
_Static_assert(offsetof(ModelInfo, eos_token) == 20, "layout of ModelInfo");
_Static_assert(sizeof(ModelInfo) == 24, "size of ModelInfo");

/* ABI v1 */

/* Stores a GGUF file that the guest holds as a model.
 * Answers the model's id, or: invalid_argument, out_of_bounds, invalid_handle, permission_denied, out_of_memory, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_store_model) int32_t realm_store_model(uint32_t gguf_ptr, uint32_t gguf_len, uint32_t model_id);

/* Stores a GGUF file as the draft model of speculation.
 * Answers the draft model's id, or: invalid_argument, out_of_bounds, invalid_handle, permission_denied, out_of_memory, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_store_draft_model) int32_t realm_store_draft_model(uint32_t gguf_ptr, uint32_t gguf_len, uint32_t draft_model_id);

/* Gives the id of a model that the host has under this name; a name is never a path.
 * Answers the model's id, or: out_of_bounds, invalid_utf8, not_found, permission_denied, out_of_memory, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_host_load_model_by_name) int32_t realm_host_load_model_by_name(uint32_t name_ptr, uint32_t name_len);

/* Removes a model that this guest stored.
 * Answers 0, or: invalid_handle, permission_denied, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_remove_model) int32_t realm_remove_model(uint32_t model_id);

/* Copies a dequantised tensor out of a model (deprecated).
 * Answers bytes of f32 written, or: out_of_bounds, misaligned, buffer_too_small, invalid_utf8, invalid_handle, not_found, permission_denied, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_get_tensor) int32_t realm_get_tensor(uint32_t model_id, uint32_t name_ptr, uint32_t name_len, uint32_t out_ptr, uint32_t out_max_bytes);

/* Says how many tensors a model has and how many bytes they take.
 * Answers 0, or: out_of_bounds, misaligned, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_get_model_info) int32_t realm_get_model_info(uint32_t model_id, uint32_t out_count_ptr, uint32_t out_size_ptr);

/* Writes the model's shape as JSON: {"config": {vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, intermediate_size, max_seq_len, rope_theta, rms_norm_eps}, "has_tokenizer": bool}.
 * Answers bytes of JSON written, or: out_of_bounds, buffer_too_small, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_get_model_metadata) int32_t realm_get_model_metadata(uint32_t model_id, uint32_t out_ptr, uint32_t out_max_bytes);

/* Chooses the LoRA adapter for what this guest computes from now on; an empty id is the base weights.
 * Answers 0, or: out_of_bounds, invalid_utf8, invalid_handle, not_found, permission_denied, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_set_lora_adapter) int32_t realm_set_lora_adapter(uint32_t model_id, uint32_t id_ptr, uint32_t id_len);

/* Writes the embeddings of tokens: f32[n_ids, hidden_size].
 * Answers 4 * n_ids * hidden_size, or: invalid_argument, out_of_bounds, misaligned, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_embed_tokens) int32_t realm_embed_tokens(uint32_t model_id, uint32_t ids_ptr, uint32_t n_ids, uint32_t out_ptr);

/* Takes hidden states f32[n, hidden_size] at positions position .. position + n - 1 through one layer and its KV cache.
 * Answers 4 * n_f32, or: invalid_argument, out_of_bounds, misaligned, invalid_handle, out_of_memory, context_full, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_forward_layer) int32_t realm_forward_layer(uint32_t model_id, uint32_t layer, uint32_t hidden_ptr, uint32_t n_f32, uint32_t position, uint32_t out_ptr);

/* Turns the hidden state of one position, after the last layer, into logits f32[vocab_size].
 * Answers 4 * vocab_size, or: invalid_argument, out_of_bounds, misaligned, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_compute_logits) int32_t realm_compute_logits(uint32_t model_id, uint32_t hidden_ptr, uint32_t n_f32, uint32_t out_ptr);

/* Tokenises a text, the model's beginning-of-sequence token first if it has one.
 * Answers tokens written, or: out_of_bounds, misaligned, buffer_too_small, invalid_utf8, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_encode_tokens) int32_t realm_encode_tokens(uint32_t model_id, uint32_t text_ptr, uint32_t text_len, uint32_t out_ptr, uint32_t out_max_bytes);

/* Writes the raw bytes of tokens, nothing trimmed; they may begin or end inside a character.
 * Answers bytes written, or: invalid_argument, out_of_bounds, misaligned, buffer_too_small, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_decode_tokens) int32_t realm_decode_tokens(uint32_t model_id, uint32_t ids_ptr, uint32_t n_ids, uint32_t out_ptr, uint32_t out_max_bytes);

/* Hands on the text of one generated token, once for each but stop tokens; empty while text is held back. After a stop token one more call may carry what was held back.
 * Answers 0 to go on, 1 to stop, or: invalid_argument, out_of_bounds, invalid_utf8, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_stream_token) int32_t realm_stream_token(uint32_t text_ptr, uint32_t text_len);

/* Runs the whole loop in the host and writes the text and a NUL.
 * Answers bytes of text + 1, or: invalid_argument, out_of_bounds, misaligned, buffer_too_small, invalid_utf8, invalid_handle, out_of_memory, context_full, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_host_generate) int32_t realm_host_generate(uint32_t model_id, uint32_t prompt_ptr, uint32_t prompt_len, uint32_t options_ptr, uint32_t out_ptr, uint32_t out_max_bytes);

/* ABI v2 */

/* Says which version of the contract the host speaks.
 * Answers 2, or: cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_abi_version) int32_t realm_abi_version(void);

/* Writes the model's ModelInfo.
 * Answers bytes written, or: out_of_bounds, misaligned, buffer_too_small, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_model_info) int32_t realm_model_info(uint32_t model, uint32_t out_ptr, uint32_t cap_bytes);

/* Tokenises a text. Capacity 0 asks for the count alone.
 * Answers tokens, or: invalid_argument, out_of_bounds, misaligned, buffer_too_small, invalid_utf8, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_encode) int32_t realm_encode(uint32_t model, uint32_t text_ptr, uint32_t text_len, uint32_t flags, uint32_t out_ptr, uint32_t cap);
#define REALM_ENCODE_ADD_BOS 1u
#define REALM_ENCODE_PARSE_SPECIAL 2u

/* Writes the raw bytes of tokens, nothing trimmed; they may begin or end inside a character. Capacity 0 asks for the length alone.
 * Answers bytes, or: invalid_argument, out_of_bounds, misaligned, buffer_too_small, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_decode) int32_t realm_decode(uint32_t model, uint32_t ids_ptr, uint32_t n_ids, uint32_t flags, uint32_t out_ptr, uint32_t cap);
#define REALM_DECODE_SKIP_SPECIAL 1u

/* Gives the model with a LoRA adapter: a model handle of its own, whose sessions are computed with it. The handle that a guest is given is that of its request's model, with the adapter that the request names, if any.
 * Answers the model with that adapter; with an empty id without any, or: out_of_bounds, invalid_utf8, invalid_handle, not_found, permission_denied, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_model_adapter) int32_t realm_model_adapter(uint32_t model, uint32_t id_ptr, uint32_t id_len);

/* Opens an empty session: a KV cache of its own.
 * Answers the session, or: invalid_handle, out_of_memory, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_session_open) int32_t realm_session_open(uint32_t model);

/* Opens a session that starts as a copy of another.
 * Answers the new session, or: invalid_handle, out_of_memory, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_session_fork) int32_t realm_session_fork(uint32_t session);

/* Forgets the positions from `length` on; a length beyond the session's is an invalid_argument.
 * Answers 0, or: invalid_argument, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_session_truncate) int32_t realm_session_truncate(uint32_t session, uint32_t length);

/* Frees a session; its handle is invalid from then on.
 * Answers 0, or: invalid_handle, unsupported, internal. */
REALM_IMPORT(realm_session_free) int32_t realm_session_free(uint32_t session);

/* Appends tokens to a session and writes the logits f32[rows, vocab_size] of the last `rows` of them. Ids outside the vocabulary are an invalid_argument; on failure the session is as before.
 * Answers rows, or: invalid_argument, out_of_bounds, misaligned, buffer_too_small, invalid_handle, out_of_memory, context_full, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_forward) int32_t realm_forward(uint32_t session, uint32_t ids_ptr, uint32_t n_ids, uint32_t logits_ptr, uint32_t rows, uint32_t cap);

/* Proposes what may follow the session's tokens and `ids`, one token after the other; a host without a draft model answers `unsupported`. The session stays as it is.
 * Answers tokens drafted, maybe 0, or: invalid_argument, out_of_bounds, misaligned, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_draft) int32_t realm_draft(uint32_t session, uint32_t ids_ptr, uint32_t n_ids, uint32_t out_ptr, uint32_t cap);

/* Hands on one sampled token, exactly once for each. The text is whole characters, empty while it is held back; a token with the bit stop_token adds no text of its own. The logprob is that of the raw logits, NaN unless the request wants it.
 * Answers 0 to go on, 1 to stop, or: invalid_argument, out_of_bounds, invalid_utf8, invalid_handle, cancelled, unsupported, limit_exceeded, internal. */
REALM_IMPORT(realm_emit) int32_t realm_emit(uint32_t session, uint32_t token, uint32_t text_ptr, uint32_t text_len, float logprob, uint32_t flags);
#define REALM_EMIT_STOP_TOKEN 1u

#endif
