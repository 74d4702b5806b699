/* A. Saxena: Prompt lookup decoding (2023), https://github.com/apoorvumang/prompt-lookup-decoding; of several places that
 * match the longest match wins, as in LZ77, and as there a match may run into what it predicts. */
#include "lookup.h"

#define SHORTEST 2u /* a single token says too little of what follows, unless no more is asked */

/* How many tokens before `a` and before `b` are the same, `most` at most. */
static uint32_t same_before(const uint32_t *text, uint32_t a, uint32_t b, uint32_t most) {
  uint32_t same = 0;
  while (same < most && same < a && text[a - 1 - same] == text[b - 1 - same]) same++;
  return same;
}

uint32_t lookup(const uint32_t *text, uint32_t count, uint32_t longest, uint32_t *guesses, uint32_t room) {
  uint32_t best = longest < SHORTEST ? longest : SHORTEST, from = 0;
  if (longest == 0) return 0;
  for (uint32_t place = count; place-- > best;) {
    uint32_t same = same_before(text, place, count, longest);
    if (same < best || (from && same == best)) continue;
    best = same;
    from = place;
    if (same == longest) break;
  }
  if (from == 0) return 0;
  for (uint32_t i = 0; i < room; i++) guesses[i] = from + i < count ? text[from + i] : guesses[from + i - count];
  return room;
}
