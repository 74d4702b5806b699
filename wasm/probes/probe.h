/* A guest that does what its prompt says: it tries host calls out and watches its own memory. See script.c. */
#ifndef PROBE_H
#define PROBE_H

#include <stdint.h>

enum { MAX_ARGS = 8, MAX_WINDOWS = 2, MAX_RESULTS = 128 };

/* Generated from the contract, in its order: the imports of this version. */
extern const char *const probe_names[];
extern const uint32_t probe_count;
int32_t probe_call(uint32_t which, const uint32_t *arguments);

/* What the host gave to `generate`, and where the results go. */
typedef struct {
  uint32_t model;   /* M in a script */
  uint32_t session; /* S: the session that the report is emitted on, 0 in v1 */
  uint32_t request; /* Q: GenRequest or GenOptions */
  int32_t answer;   /* what `end` said that generate is to answer; 0 if it did not */
  int32_t ended;    /* whether it said so */
} Probe;

/* Runs the script in the prompt; the report is in `report_text` afterwards, `report_size` bytes and a NUL. */
void run_script(Probe *probe, uint32_t prompt_ptr, uint32_t prompt_len, uint32_t input_end);
extern char report_text[];
extern uint32_t report_size;

/* Hands a piece of text on through the host; whether the guest may go on. */
int hand_on(const Probe *probe, const char *text, uint32_t size);

/* Memory that a call may write if it succeeds: `size` bytes, or as many per unit of the result if `per_unit`. */
typedef struct {
  uint32_t start, size, per_unit;
} Window;

/* What a call did: its result, and the bytes that changed outside of the windows. */
typedef struct {
  int32_t result;
  uint32_t changed, first, last;
} Outcome;

/* Calls an import and compares all of the memory, but the probe's own copy of it, with what it was before. */
Outcome watched_call(uint32_t which, const uint32_t *arguments, const Window *windows, uint32_t window_count);

uint64_t digest(uint32_t start, uint32_t size);
uint32_t memory_bytes(void);
uint32_t window_bytes(const Window *window, int32_t result);

/* Ends the guest in ways that a host has to survive: loop, recurse, table, trap, divide. 0 for another word. */
int misbehave(const char *word);
/* Grows until the host refuses; the pages that it let have. */
uint32_t hog(void);
uint32_t burn(uint32_t rounds);

#endif
