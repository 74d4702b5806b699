/* Text from bytes that arrive in pieces. */
#ifndef UTF8_H
#define UTF8_H

#include "memory.h"

typedef struct {
  uint8_t bytes[4]; /* the character that is not complete yet */
  uint32_t count;
  uint32_t missing;
  uint8_t lowest, highest; /* what its next byte may be */
} Utf8;

/* Appends what has become whole characters; 0 if there is no memory. */
int utf8_push(Utf8 *state, const uint8_t *bytes, uint32_t count, Buffer *text);

/* The bytes have ended: an incomplete character becomes U+FFFD. */
int utf8_end(Utf8 *state, Buffer *text);

#endif
