#include "memory.h"

#include "realm_abi.h"

#define PAGE 65536u
#define ALIGNMENT 16u

extern uint8_t __heap_base;

static uint32_t top;   /* first free byte; 0 before the first use */
static int is_over;    /* the request whose memory this is has ended */

static void reset_if_over(void) {
  if (top == 0 || is_over) top = offset_of(&__heap_base);
  is_over = 0;
}

void *arena_take(uint64_t bytes) {
  uint64_t start = ((uint64_t)top + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
  if (bytes > UINT32_MAX || start + bytes > UINT32_MAX) return 0;
  if (start + bytes > have) {
    uint64_t pages = (start + bytes - have + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_grow(0, (uint32_t)pages) == (__SIZE_TYPE__)-1) return 0;
  }
  top = (uint32_t)(start + bytes);
  return (void *)(uintptr_t)start;
}

REALM_EXPORT(realm_alloc) uint32_t realm_alloc(uint32_t len) {
  reset_if_over();
  return offset_of(arena_take(len));
}

void request_begin(uint32_t input_end) {
  reset_if_over();
  if (top < input_end) top = input_end;
}

void request_end(void) { is_over = 1; }

int buffer_reserve(Buffer *buffer, uint64_t capacity) {
  if (capacity <= buffer->capacity) return 1;
  if (capacity < 2 * (uint64_t)buffer->capacity) capacity = 2 * (uint64_t)buffer->capacity;
  uint8_t *data = arena_take(capacity);
  if (!data) return 0;
  __builtin_memcpy(data, buffer->data, buffer->size);
  buffer->data = data;
  buffer->capacity = (uint32_t)capacity;
  return 1;
}

int buffer_append(Buffer *buffer, const void *bytes, uint32_t count) {
  if (!buffer_reserve(buffer, (uint64_t)buffer->size + count)) return 0;
  __builtin_memcpy(buffer->data + buffer->size, bytes, count);
  buffer->size += count;
  return 1;
}

void buffer_drop(Buffer *buffer, uint32_t count) {
  buffer->size -= count;
  __builtin_memmove(buffer->data, buffer->data + count, buffer->size);
}
