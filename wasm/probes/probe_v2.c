/* The probe's entry, ABI v2: the report goes out through realm_emit. */
#include "memory.h"
#include "probe.h"
#include "realm_abi.h"

enum { PIECE = 480 };

int hand_on(const Probe *probe, const char *text, uint32_t size) {
  return realm_emit(probe->session, 0, offset_of(text), size, __builtin_nanf(""), 0) == 0;
}

REALM_EXPORT(generate) int32_t generate(uint32_t request_ptr) {
  const GenRequest *request = (const GenRequest *)(uintptr_t)request_ptr;
  Probe probe = {request->model, 0, request_ptr, 0, 0};
  int32_t session = realm_session_open(request->model);
  if (session < 0) return session;
  probe.session = (uint32_t)session;
  uint32_t input_end = request->prompt_ptr + request->prompt_len;
  run_script(&probe, request->prompt_ptr, request->prompt_len, input_end);
  int may_go_on = 1;
  for (uint32_t sent = 0; may_go_on && sent < report_size; sent += PIECE)
    may_go_on = hand_on(&probe, report_text + sent, report_size - sent < PIECE ? report_size - sent : PIECE);
  if (may_go_on) realm_emit(probe.session, 0, 0, 0, __builtin_nanf(""), REALM_EMIT_STOP_TOKEN);
  realm_session_free(probe.session);
  request_end();
  if (probe.ended) return probe.answer;
  return may_go_on ? REALM_FINISH_STOP_TOKEN : REALM_FINISH_STOPPED;
}
