/* Y. Leviathan, M. Kalman, Y. Matias: Fast inference from transformers via speculative decoding (ICML 2023). There a guess
 * is kept by chance, so that the distribution stays. Here noise belongs to a position: the loop samples from every row as
 * it would without guesses, and keeps the guess that it happens to sample, so that the text itself stays. */
#include "drafts.h"

#include "lookup.h"
#include "realm_abi.h"

#define MOST 16u /* of more guesses hardly one is kept, and each takes a row of logits */
#define LONGEST_PAUSE 15u

int32_t drafts_open(Drafts *drafts, uint32_t most, uint32_t longest, uint32_t vocab_size, const uint32_t *prompt,
                    uint32_t count) {
  *drafts = (Drafts){.most = most < MOST ? most : MOST, .longest = longest, .vocab_size = vocab_size};
  uint64_t rows = drafts->most + 1;
  if (!(drafts->fed = arena_take(rows * sizeof(uint32_t))) ||
      !(drafts->rows = arena_take(rows * vocab_size * sizeof(float))) ||
      !buffer_append(&drafts->text, prompt, count * sizeof(uint32_t)))
    return REALM_E_OUT_OF_MEMORY;
  return 0;
}

/* Asks the host for guesses after the sampled token; answers how many, or an error. */
static int32_t ask_host(Drafts *drafts, uint32_t session, uint32_t room) {
  if (drafts->host_has_none) return 0;
  uint32_t *guesses = drafts->fed + 1;
  int32_t count = realm_draft(session, offset_of(drafts->fed), 1, offset_of(guesses), room);
  drafts->host_has_none = count == REALM_E_UNSUPPORTED;
  if (drafts->host_has_none) return 0;
  if (count > 0 && (uint32_t)count > room) return REALM_E_INTERNAL;
  for (int32_t i = 0; i < count; i++) {
    if (guesses[i] >= drafts->vocab_size) return REALM_E_INTERNAL;
  }
  return count;
}

/* Up to `room` guesses after the sampled token; answers how many, or an error. */
static int32_t guess(Drafts *drafts, uint32_t session, uint32_t room) {
  if (room > drafts->most) room = drafts->most;
  if (room == 0) return 0;
  const uint32_t *text = (const uint32_t *)(const void *)drafts->text.data;
  uint32_t found = lookup(text, drafts->text.size / sizeof(uint32_t), drafts->longest, drafts->fed + 1, room);
  return found ? (int32_t)found : ask_host(drafts, session, room);
}

/* Where guesses come to nothing there are fewer of them: a pause that doubles, until one comes true. */
static int is_resting(Drafts *drafts) {
  if (drafts->guessed) {
    drafts->rest = drafts->kept ? 0 : drafts->pause;
    drafts->pause = drafts->kept ? 0 : drafts->pause < LONGEST_PAUSE ? 2 * drafts->pause + 1 : LONGEST_PAUSE;
  }
  return drafts->rest && drafts->rest--;
}

/* The session forgets the guesses that were not sampled; then the token and new guesses are fed. */
static int32_t feed(Drafts *drafts, uint32_t session, uint32_t token, uint32_t position, uint32_t left) {
  if (drafts->kept < drafts->guessed) {
    int32_t error = realm_session_truncate(session, position);
    if (error < 0) return error;
  }
  drafts->fed[0] = token;
  uint32_t room = is_resting(drafts) ? 0 : left - 1;
  drafts->guessed = drafts->kept = 0;
  int32_t guessed = guess(drafts, session, room);
  if (guessed < 0) return guessed;
  uint32_t rows = 1 + (uint32_t)guessed;
  int32_t answer = realm_forward(session, offset_of(drafts->fed), rows, offset_of(drafts->rows), rows,
                                 rows * drafts->vocab_size);
  if (answer < 0) return answer;
  drafts->guessed = (uint32_t)guessed;
  return (uint32_t)answer == rows ? 0 : REALM_E_INTERNAL;
}

int32_t drafts_follow(Drafts *drafts, uint32_t session, uint32_t token, uint32_t position, uint32_t left,
                      float *logits) {
  if (!buffer_append(&drafts->text, &token, sizeof(token))) return REALM_E_OUT_OF_MEMORY;
  int is_kept = drafts->kept < drafts->guessed && drafts->fed[1 + drafts->kept] == token;
  int32_t error = is_kept ? 0 : feed(drafts, session, token, position, left);
  if (error < 0) return error;
  drafts->kept += is_kept;
  __builtin_memcpy(logits, drafts->rows + drafts->kept * drafts->vocab_size, drafts->vocab_size * sizeof(float));
  return 0;
}
