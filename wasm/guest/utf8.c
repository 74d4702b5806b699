/* The decoder of the WHATWG Encoding Standard, section 8.1.1: each maximal part of an ill-formed sequence that could
 * have begun a character becomes one U+FFFD. That is also what Python's errors="replace" does, so the pieces
 * concatenate to the decoded whole. */
#include "utf8.h"

static int replace(Utf8 *state, Buffer *text) {
  state->count = state->missing = 0;
  return buffer_append(text, "\xEF\xBF\xBD", 3);
}

/* The first byte of a character says how many follow, and bounds the second. */
static int begin(Utf8 *state, uint8_t byte, Buffer *text) {
  if (byte < 0x80) return buffer_append(text, &byte, 1);
  if (byte < 0xC2 || byte > 0xF4) return replace(state, text);
  state->missing = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  state->lowest = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
  state->highest = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  state->bytes[0] = byte;
  state->count = 1;
  return 1;
}

static int push_byte(Utf8 *state, uint8_t byte, Buffer *text) {
  if (state->missing && (byte < state->lowest || byte > state->highest)) {
    if (!replace(state, text)) return 0;
  }
  if (!state->missing) return begin(state, byte, text);
  state->bytes[state->count++] = byte;
  state->lowest = 0x80;
  state->highest = 0xBF;
  if (--state->missing) return 1;
  uint32_t count = state->count;
  state->count = 0;
  return buffer_append(text, state->bytes, count);
}

int utf8_push(Utf8 *state, const uint8_t *bytes, uint32_t count, Buffer *text) {
  for (uint32_t i = 0; i < count; i++) {
    if (!push_byte(state, bytes[i], text)) return 0;
  }
  return 1;
}

int utf8_end(Utf8 *state, Buffer *text) { return state->missing ? replace(state, text) : 1; }
