/* What a guest may do to its host without calling it. */
#include "probe.h"

static volatile uint32_t seen;
static void (*volatile stray)(void);

static __attribute__((noinline)) uint32_t deeper(uint32_t depth) {
  if (seen == UINT32_MAX) return 0; /* never, but the compiler cannot know */
  return deeper(depth + seen + 1) * 3 + depth + seen;
}

static int is(const char *word, const char *name) {
  while (*name && *word == *name) word++, name++;
  return !*name && (*word <= ' ' || *word == ';');
}

int misbehave(const char *word) {
  if (is(word, "loop"))
    for (;;) seen++;
  if (is(word, "recurse")) seen = deeper(0);
  if (is(word, "trap")) __builtin_trap();
  if (is(word, "table")) { /* an index far outside of the function table */
    stray = (void (*)(void))(uintptr_t)0x7ffffff0u;
    stray();
  }
  if (is(word, "beyond")) seen = *(volatile uint32_t *)(uintptr_t)0xfffffff0u;
  return 0;
}

uint32_t hog(void) {
  uint32_t pages = 0;
  while (__builtin_wasm_memory_grow(0, 1) != (__SIZE_TYPE__)-1) {
    /* Touched, so that the host has to find real memory for it. */
    *(volatile uint8_t *)(uintptr_t)(memory_bytes() - 1) = 1;
    pages++;
  }
  return pages;
}

uint32_t burn(uint32_t rounds) {
  while (rounds--) seen = seen * 1664525u + 1013904223u; /* volatile: each round is computed */
  return seen;
}
