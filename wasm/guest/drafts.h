/* Speculative decoding: guesses are fed with a sampled token, and each that is sampled in its place saves a forward. */
#ifndef DRAFTS_H
#define DRAFTS_H

#include "memory.h"

/* How far the guesses of a source are believed. */
typedef struct {
  uint32_t width; /* guesses at a time: one more with each that comes true, half as many with one that does not */
  uint32_t pause; /* forwards without a trial, while there is no trust, the last time */
  uint32_t rest;  /* and how many are left of this time */
} Trust;

typedef struct {
  uint32_t most;       /* guesses at a time; 0 is off, and then there is nothing below */
  uint32_t longest;    /* end of the text that is looked up in it */
  uint32_t vocab_size;
  int host_has_none;   /* realm_draft has said so */
  Buffer text;         /* u32 each: the prompt's tokens and the sampled ones */
  uint32_t *fed;       /* [1 + most] a sampled token and the guesses after it */
  float *rows;         /* [1 + most, vocab_size] the logits after each of them */
  uint32_t guessed;    /* guesses that the session holds, */
  uint32_t kept;       /* and how many of them have been sampled since */
  Trust *source;       /* whose these guesses are: */
  Trust in_text;
  Trust in_host;
  int expects;         /* the text is not trusted; what it says comes next, which is not fed, is in */
  uint32_t expected;
} Drafts;

/* For a prompt's tokens and up to `most` guesses at a time. Answers 0 or out_of_memory. */
int32_t drafts_open(Drafts *drafts, uint32_t most, uint32_t longest, uint32_t vocab_size, const uint32_t *prompt,
                    uint32_t count);

/* Makes `logits` [vocab_size] those after a token that was sampled at a position: kept from the last forward if the
 * token was guessed, else of a forward with new guesses. No more than `left` tokens can follow it, at least one can.
 * Answers 0 or an error. */
int32_t drafts_follow(Drafts *drafts, uint32_t session, uint32_t token, uint32_t position, uint32_t left,
                      float *logits);

#endif
