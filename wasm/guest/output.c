#include "output.h"

int32_t output_push(Output *output, const uint8_t *bytes, uint32_t count) {
  uint32_t seen = output->text.size;
  int found;
  if (!utf8_push(&output->characters, bytes, count, &output->text)) return REALM_E_OUT_OF_MEMORY;
  output->ready = stop_scan(&output->stops, output->text.data, output->text.size, seen, &found);
  return found;
}

int32_t output_end(Output *output) {
  if (!utf8_end(&output->characters, &output->text)) return REALM_E_OUT_OF_MEMORY;
  output->ready = output->text.size;
  return 0;
}

void output_taken(Output *output) {
  buffer_drop(&output->text, output->ready);
  output->ready = 0;
}
