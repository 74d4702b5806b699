/* Y. Leviathan, M. Kalman, Y. Matias: Fast inference from transformers via speculative decoding (ICML 2023). There a guess
 * is kept by chance, so that the distribution stays. Here noise belongs to a position: the loop samples from every row as
 * it would without guesses, and keeps the guess that it happens to sample, so that the text itself stays.
 *
 * How many guesses are worth it changes within a text. As a sender finds the width of a line (TCP), a source's guesses grow
 * by one with each that comes true, and are halved by one that does not: of 60 in 100 that come true it is three at a time,
 * of 75 six. Fewer than three do not pay for themselves and are not fed. */
#include "drafts.h"

#include "lookup.h"
#include "realm_abi.h"

#define MOST 16u /* of more guesses hardly one is kept, and each takes a row of logits */
#define FEWEST 3u /* rows of logits are cheap by fours */
#define FIRST_PAUSE 7u
#define LONGEST_PAUSE 63u

int32_t drafts_open(Drafts *drafts, uint32_t most, uint32_t longest, uint32_t vocab_size, const uint32_t *prompt,
                    uint32_t count) {
  *drafts = (Drafts){.most = most < MOST ? most : MOST, .longest = longest, .vocab_size = vocab_size,
                     .in_text = {.width = FEWEST}, .in_host = {.width = FEWEST, .pause = FIRST_PAUSE}};
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

/* Looks up guesses after the sampled token; answers how many. While the text is not trusted, what it says next is only
 * remembered: whether it comes true costs nothing to know. */
static uint32_t ask_text(Drafts *drafts, uint32_t room) {
  const uint32_t *text = (const uint32_t *)(const void *)drafts->text.data;
  uint32_t count = drafts->text.size / sizeof(uint32_t), width = drafts->in_text.width, *guesses = drafts->fed + 1;
  if (width >= FEWEST) return lookup(text, count, drafts->longest, guesses, room < width ? room : width);
  drafts->expects = lookup(text, count, drafts->longest, guesses, 1) != 0;
  drafts->expected = guesses[0];
  return 0;
}

/* Whether the host's guesses are worth asking for. Even to be asked costs it: where it is not trusted there are trials, with
 * pauses that double. */
static int is_worth_asking(Trust *trust) {
  if (trust->width >= FEWEST) {
    trust->pause = trust->rest = FIRST_PAUSE;
    return 1;
  }
  if (trust->rest && trust->rest--) return 0;
  trust->pause = trust->pause < LONGEST_PAUSE ? 2 * trust->pause + 1 : LONGEST_PAUSE;
  trust->rest = trust->pause;
  return 1;
}

/* Up to `room` guesses after the sampled token, and whose they are; answers how many, or an error. */
static int32_t guess(Drafts *drafts, uint32_t session, uint32_t room) {
  if (room > drafts->most) room = drafts->most;
  if (room == 0) return 0;
  drafts->source = &drafts->in_text;
  uint32_t found = ask_text(drafts, room);
  if (found || !is_worth_asking(&drafts->in_host)) return (int32_t)found;
  drafts->source = &drafts->in_host;
  uint32_t width = drafts->in_host.width < FEWEST ? FEWEST : drafts->in_host.width;
  return ask_host(drafts, session, room < width ? room : width);
}

/* A token was sampled for which there was a guess. */
static void learn(Trust *trust, int came_true) {
  trust->width = !came_true ? trust->width / 2 : trust->width < MOST ? trust->width + 1 : MOST;
}

/* The session forgets the guesses that were not sampled; then the token and new guesses are fed. Without guesses the
 * logits are where they belong, with some they are in `rows`. */
static int32_t feed(Drafts *drafts, uint32_t session, uint32_t token, uint32_t position, uint32_t left, float *logits) {
  if (drafts->kept < drafts->guessed) {
    int32_t error = realm_session_truncate(session, position);
    if (error < 0) return error;
  }
  drafts->fed[0] = token;
  drafts->guessed = drafts->kept = 0;
  int32_t guessed = guess(drafts, session, left - 1);
  if (guessed < 0) return guessed;
  uint32_t rows = 1 + (uint32_t)guessed;
  int32_t answer = realm_forward(session, offset_of(drafts->fed), rows, offset_of(guessed ? drafts->rows : logits), rows,
                                 rows * drafts->vocab_size);
  if (answer < 0) return answer;
  drafts->guessed = (uint32_t)guessed;
  return (uint32_t)answer == rows ? 0 : REALM_E_INTERNAL;
}

int32_t drafts_follow(Drafts *drafts, uint32_t session, uint32_t token, uint32_t position, uint32_t left,
                      float *logits) {
  if (!buffer_append(&drafts->text, &token, sizeof(token))) return REALM_E_OUT_OF_MEMORY;
  int is_kept = drafts->kept < drafts->guessed && drafts->fed[1 + drafts->kept] == token;
  if (drafts->kept < drafts->guessed) learn(drafts->source, is_kept);
  if (drafts->expects) learn(&drafts->in_text, drafts->expected == token);
  drafts->expects = 0;
  int32_t error = is_kept ? 0 : feed(drafts, session, token, position, left, logits);
  if (error < 0) return error;
  drafts->kept += is_kept;
  if (drafts->guessed)
    __builtin_memcpy(logits, drafts->rows + drafts->kept * drafts->vocab_size, drafts->vocab_size * sizeof(float));
  return 0;
}
