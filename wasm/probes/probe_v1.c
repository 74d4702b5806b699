/* The probe's entry, ABI v1: the report is streamed and returned. */
#include "memory.h"
#include "probe.h"
#include "realm_abi.h"

enum { PIECE = 480 };

int hand_on(const Probe *probe, const char *text, uint32_t size) {
  (void)probe;
  return realm_stream_token(offset_of(text), size) == 0;
}

REALM_EXPORT(realm_new) uint32_t realm_new(void) { return 0; }

REALM_EXPORT(generate)
uint32_t generate(uint32_t prompt_ptr, uint32_t prompt_len, uint32_t model_id, uint32_t options_ptr) {
  Probe probe = {model_id, 0, options_ptr, 0, 0};
  uint32_t input_end = prompt_ptr + prompt_len;
  if (options_ptr && options_ptr + sizeof(GenOptions) > input_end) input_end = options_ptr + sizeof(GenOptions);
  run_script(&probe, prompt_ptr, prompt_len, input_end);
  int may_go_on = 1;
  for (uint32_t sent = 0; may_go_on && sent < report_size; sent += PIECE)
    may_go_on = hand_on(&probe, report_text + sent, report_size - sent < PIECE ? report_size - sent : PIECE);
  request_end();
  return probe.ended ? (uint32_t)probe.answer : offset_of(report_text);
}
