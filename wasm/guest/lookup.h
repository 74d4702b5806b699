/* Drafts without a model: what a text says after it has said something before. */
#ifndef LOOKUP_H
#define LOOKUP_H

#include <stdint.h>

/* Finds the longest end of the text, of up to `longest` tokens, that stands in it before, the last such place of equals,
 * and writes the `room` tokens that follow there. Answers `room`, or 0 if there is no place worth a guess. */
uint32_t lookup(const uint32_t *text, uint32_t count, uint32_t longest, uint32_t *guesses, uint32_t room);

#endif
