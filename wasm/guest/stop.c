/* The stop string that is complete first ends the text, at its beginning; of two that are complete with the same byte
 * the longer does. So where a text ends does not depend on where its tokens' borders are. */
#include "stop.h"

static int equal(const uint8_t *a, const uint8_t *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (a[i] != b[i]) return 0;
  }
  return 1;
}

/* Length of the longest stop string that ends with byte `end` of the text, or 0. */
static uint32_t longest_at(const StopStrings *stops, const uint8_t *text, uint32_t end) {
  uint32_t longest = 0;
  for (uint32_t i = 0; i < stops->count; i++) {
    uint32_t length = stops->strings[i].len;
    const uint8_t *string = (const uint8_t *)(uintptr_t)stops->strings[i].ptr;
    if (length > longest && length <= end && equal(text + end - length, string, length)) longest = length;
  }
  return longest;
}

/* Length of the longest end of the text that a stop string begins with. */
static uint32_t held_back(const StopStrings *stops, const uint8_t *text, uint32_t size) {
  uint32_t longest = 0;
  for (uint32_t i = 0; i < stops->count; i++) {
    const uint8_t *string = (const uint8_t *)(uintptr_t)stops->strings[i].ptr;
    uint32_t length = stops->strings[i].len - 1;
    if (length > size) length = size;
    while (length > longest && !equal(text + size - length, string, length)) length--;
    if (length > longest) longest = length;
  }
  return longest;
}

uint32_t stop_scan(const StopStrings *stops, const uint8_t *text, uint32_t size, uint32_t seen, int *found) {
  *found = 0;
  for (uint32_t end = seen + 1; end <= size; end++) {
    uint32_t length = longest_at(stops, text, end);
    if (length) {
      *found = 1;
      return end - length;
    }
  }
  return size - held_back(stops, text, size);
}
