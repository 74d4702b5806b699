/* Stop strings that may lie across the borders of tokens. */
#ifndef STOP_H
#define STOP_H

#include "memory.h"
#include "realm_abi.h"

typedef struct {
  const TextRef *strings;
  uint32_t count;
} StopStrings;

/* Looks at a text whose first `seen` bytes were looked at before and have begun at most a stop string.
 * Answers how many bytes of it can be handed on; `found` says whether a stop string follows them. */
uint32_t stop_scan(const StopStrings *stops, const uint8_t *text, uint32_t size, uint32_t seen, int *found);

#endif
