/* The guest's own memory: an arena for one request, and buffers that grow in it. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

typedef struct {
  uint8_t *data;
  uint32_t size;
  uint32_t capacity;
} Buffer;

/* The offset of a thing in guest memory, as imports want it. */
static inline uint32_t offset_of(const void *thing) { return (uint32_t)(uintptr_t)thing; }

/* 16-aligned memory that lives as long as the request, or 0. */
void *arena_take(uint64_t bytes);

/* A request begins; its input, which a host may have put anywhere, ends before `input_end`. */
void request_begin(uint32_t input_end);

/* A request is over: its memory is free again when the next one asks for some. */
void request_end(void);

/* Room for `capacity` bytes in all, the content kept; 0 if there is no memory. */
int buffer_reserve(Buffer *buffer, uint64_t capacity);
int buffer_append(Buffer *buffer, const void *bytes, uint32_t count);

/* Forgets the first `count` bytes. */
void buffer_drop(Buffer *buffer, uint32_t count);

#endif
