/* From the bytes of tokens to the text that may be handed on. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "stop.h"
#include "utf8.h"

typedef struct {
  StopStrings stops;
  Utf8 characters;
  Buffer text;    /* not handed on yet */
  uint32_t ready; /* bytes of it that may be */
} Output;

/* Takes the bytes of a token. Answers 1 if a stop string ends the text, 0 if not, or an error. */
int32_t output_push(Output *output, const uint8_t *bytes, uint32_t count);

/* No token follows: all that was held back is ready. Answers 0 or an error. */
int32_t output_end(Output *output);

/* The ready bytes have been handed on. */
void output_taken(Output *output);

#endif
