/* The script: what to call with which raw arguments, and what to tell of it.
 *
 * A prompt holds `%probe SCRIPT %end`, and perhaps a text between a `%text ` and that `%end`. Statements are
 * separated by `;`, words by blanks. A number is a sum or product of terms, from the left, wrapping at 2^32:
 * decimals, E (the memory's size in bytes), A (where the free memory begins), M S Q (see probe.h), R7 (result of
 * statement 7), I (the round of `times`).
 *
 *   call NAME n... [> start size]...   calls an import and watches all memory; a success may write `size` bytes from
 *                                      `start` on, or `*k`: k bytes per unit of its result
 *   times n NAME n... [> ...]          the same, n times
 *   spin n NAME n...                   n times, without watching
 *   fill start size | put start HEX | word start n...     writes memory
 *   peek start size | digest start size                   tells of it; `text` tells size and digest of the text
 *   load place                         the u32 that lies there
 *   grow n | hog | burn n              memory, time
 *   say n                              hands on n bytes of text, the i-th is the digit i / 7 % 10
 *   end n                              generate answers n
 *   loop, recurse, table, beyond, trap does not come back
 *
 * The report: the values of E A M S Q at the start; then for each statement `number:result`, then `~code@round` for the first failure of a repetition,
 * `!count,first,last` for bytes changed that must not, `#digest` of the windows, `=HEX` of a peek, and `;`.
 */
#include "memory.h"
#include "probe.h"

#define PAGE 65536u
enum { SCRIPT_BYTES = 24 << 10, REPORT_BYTES = 48 << 10, FREE_BYTES = 1 << 20, LINE_BYTES = 480 };

static char script[SCRIPT_BYTES + 1];
static uint32_t results[MAX_RESULTS];
static const char *at;
static uint32_t statement, arena, round_now;
static uint32_t text_at, text_size;

char report_text[REPORT_BYTES + 1];
uint32_t report_size;

static void tell(char letter) {
  if (report_size < REPORT_BYTES) report_text[report_size++] = letter;
}

static void tell_text(const char *text) {
  while (*text) tell(*text++);
}

static void tell_number(uint32_t value) {
  if (value >= 10) tell_number(value / 10);
  tell((char)('0' + value % 10));
}

static void tell_signed(int32_t value) {
  if (value < 0) tell('-');
  tell_number(value < 0 ? 0u - (uint32_t)value : (uint32_t)value);
}

static void tell_hex(uint64_t value, uint32_t digits) {
  while (digits--) tell("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static int starts(const char *text, const char *with) {
  while (*with && *text == *with) text++, with++;
  return !*with;
}

static int more(void) { /* whether this statement has another word */
  while (*at == ' ' || *at == '\n') at++;
  return *at && *at != ';' && *at != '>';
}

static int word(const char *name) {
  const char *before = at;
  if (!more() || !starts(at, name)) return 0;
  while (*name) at++, name++;
  if (*at > ' ' && *at != ';') {
    at = before;
    return 0;
  }
  return 1;
}

static uint32_t decimal(void) {
  uint32_t value = 0;
  while (*at >= '0' && *at <= '9') value = value * 10 + (uint32_t)(*at++ - '0');
  return value;
}

static uint32_t term(const Probe *probe) {
  switch (*at) {
    case 'E': return at++, memory_bytes();
    case 'A': return at++, arena;
    case 'M': return at++, probe->model;
    case 'S': return at++, probe->session;
    case 'Q': return at++, probe->request;
    case 'I': return at++, round_now;
    case 'R': return at++, results[decimal() % MAX_RESULTS];
    default: return decimal();
  }
}

static uint32_t number(const Probe *probe) {
  if (!more()) return 0;
  uint32_t value = term(probe);
  for (;;) {
    char sign = *at;
    if (sign != '+' && sign != '-' && sign != '*') return value;
    at++;
    uint32_t next = term(probe);
    value = sign == '+' ? value + next : sign == '-' ? value - next : value * next;
  }
}

static uint32_t import_named(void) {
  if (more())
    for (uint32_t i = 0; i < probe_count; i++)
      if (word(probe_names[i])) return i;
  return probe_count;
}

static uint32_t read_windows(const Probe *probe, Window *windows) {
  uint32_t count = 0;
  while (*at == '>' && count < MAX_WINDOWS) {
    at++;
    Window *window = &windows[count++];
    window->start = number(probe);
    window->per_unit = more() && *at == '*' ? (at++, number(probe)) : 0;
    window->size = window->per_unit ? 0 : number(probe);
    more();
  }
  return count;
}

static void tell_outcome(Outcome seen, int32_t first_failure, uint32_t failed_round) {
  tell_signed(seen.result);
  if (first_failure) {
    tell('~');
    tell_signed(first_failure);
    tell('@');
    tell_number(failed_round);
  }
  if (seen.changed) {
    tell('!');
    tell_number(seen.changed);
    tell(',');
    tell_number(seen.first);
    tell(',');
    tell_number(seen.last);
  }
}

/* One or many calls of one import; arguments are worked out anew in each round. */
static int32_t call(const Probe *probe, uint32_t rounds, int watched) {
  static uint32_t arguments[MAX_ARGS];
  static Window windows[MAX_WINDOWS];
  uint32_t which = import_named(), window_count = 0, failed_round = 0, changed = 0;
  int32_t first_failure = 0;
  Outcome seen = {0, 0, 0, 0};
  if (which == probe_count) return tell_text("unknown"), 0;
  const char *from = at;
  for (round_now = 0; round_now < rounds; round_now++) {
    at = from;
    for (uint32_t i = 0; i < MAX_ARGS; i++) arguments[i] = number(probe);
    window_count = read_windows(probe, windows);
    if (watched) {
      Outcome now = watched_call(which, arguments, windows, window_count);
      if (now.changed && !changed) seen = now;
      changed += now.changed;
      seen.result = now.result;
    } else {
      seen.result = probe_call(which, arguments);
    }
    if (seen.result < 0 && !first_failure) first_failure = seen.result, failed_round = round_now;
  }
  seen.changed = changed;
  tell_outcome(seen, rounds > 1 ? first_failure : 0, failed_round);
  for (uint32_t i = 0; watched && seen.result >= 0 && i < window_count; i++) {
    tell('#');
    tell_hex(digest(windows[i].start, window_bytes(&windows[i], seen.result)), 16);
  }
  return seen.result;
}

static void fill(uint32_t start, uint32_t size) { /* each byte differs from its neighbours and from zero */
  uint8_t *bytes = (uint8_t *)(uintptr_t)start;
  for (uint32_t i = 0; i < size; i++) bytes[i] = (uint8_t)((start + i) * 0x9Du ^ 0xA5u) | 1u;
}

static uint32_t hex_digit(char letter) { return letter <= '9' ? (uint32_t)(letter - '0') : (uint32_t)(letter - 'a') + 10; }

static void put(uint32_t start) {
  uint8_t *bytes = (uint8_t *)(uintptr_t)start;
  if (!more()) return;
  for (; at[0] > ' ' && at[0] != ';' && at[1] > ' ' && at[1] != ';'; at += 2)
    *bytes++ = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
}

static void words(const Probe *probe, uint32_t start) {
  uint32_t *values = (uint32_t *)(uintptr_t)start;
  while (more()) *values++ = number(probe);
}

static void say(Probe *probe, uint32_t size) { /* digits, so that what is lost or doubled shows */
  static char line[LINE_BYTES];
  for (uint32_t said = 0; said < size; said += LINE_BYTES) {
    uint32_t piece = size - said < LINE_BYTES ? size - said : LINE_BYTES;
    for (uint32_t i = 0; i < piece; i++) line[i] = (char)('0' + (said + i) / 7 % 10);
    if (!hand_on(probe, line, piece)) return;
  }
}

static void tell_bytes(uint32_t start, uint32_t size) {
  tell('=');
  for (uint32_t i = 0; i < size; i++) tell_hex(*(const uint8_t *)(uintptr_t)(start + i), 2);
}

static void tell_digest(uint32_t start, uint32_t size) {
  tell_number(size);
  tell('#');
  tell_hex(digest(start, size), 16);
}

static int32_t execute(Probe *probe) {
  if (word("call")) return call(probe, 1, 1);
  if (word("times")) return call(probe, number(probe), 1);
  if (word("spin")) return call(probe, number(probe), 0);
  int32_t value = 0;
  if (word("fill") || word("peek") || word("digest")) {
    char kind = at[-1];
    uint32_t start = number(probe), size = number(probe);
    if (kind == 'l') fill(start, size);
    if (kind == 't') tell_digest(start, size);
    if (kind == 'k') tell_number(size), tell_bytes(start, size);
    return (int32_t)size;
  }
  if (word("text")) return tell_digest(text_at, text_size), (int32_t)text_size;
  if (word("put")) put(number(probe));
  else if (word("word")) words(probe, number(probe));
  else if (word("load")) value = *(const int32_t *)(uintptr_t)number(probe);
  else if (word("grow")) value = (int32_t)__builtin_wasm_memory_grow(0, number(probe));
  else if (word("hog")) value = (int32_t)hog();
  else if (word("burn")) value = (int32_t)(burn(number(probe)) & 1);
  else if (word("say")) say(probe, (uint32_t)(value = (int32_t)number(probe)));
  else if (word("end")) probe->ended = 1, value = probe->answer = (int32_t)number(probe);
  else misbehave(at);
  return tell_signed(value), value;
}

/* Copies the script out of the prompt, which may lie anywhere; 0 if there is none. */
static int find_script(uint32_t prompt_ptr, uint32_t prompt_len) {
  const char *prompt = (const char *)(uintptr_t)prompt_ptr;
  uint32_t size = 0, start = 0;
  while (start + 7 < prompt_len && !starts(prompt + start, "%probe ")) start++;
  if (start + 7 >= prompt_len) return 0;
  for (start += 7; start < prompt_len && size < SCRIPT_BYTES && !starts(prompt + start, "%end"); start++)
    script[size++] = prompt[start];
  script[size] = 0;
  text_at = offset_of(script + size), text_size = 0;
  for (uint32_t i = 0; i + 6 <= size; i++)
    if (starts(script + i, "%text ")) {
      script[i] = 0;
      text_at = offset_of(script + i + 6), text_size = size - i - 6;
      break;
    }
  return 1;
}

/* Free memory behind everything that is in use: FREE_BYTES of it, and its end is the memory's. */
static int find_arena(uint32_t input_end) {
  request_begin(input_end);
  arena = (offset_of(arena_take(0)) + 4095) / 4096 * 4096;
  uint32_t have = memory_bytes() - arena;
  if (have >= FREE_BYTES && have < memory_bytes()) return 1;
  return __builtin_wasm_memory_grow(0, (arena + FREE_BYTES + PAGE - 1 - memory_bytes()) / PAGE) != (__SIZE_TYPE__)-1;
}

static void tell_head(const Probe *probe) { /* what E, A, M, S and Q stand for */
  const uint32_t head[] = {memory_bytes(), arena, probe->model, probe->session, probe->request};
  for (uint32_t i = 0; i < sizeof head / sizeof *head; i++) tell_number(head[i]), tell(' ');
}

void run_script(Probe *probe, uint32_t prompt_ptr, uint32_t prompt_len, uint32_t input_end) {
  report_size = 0;
  tell_text("[probe ");
  if (!find_script(prompt_ptr, prompt_len)) {
    tell_text("no script");
  } else if (!find_arena(input_end)) {
    tell_text("no memory");
  } else {
    fill(arena, memory_bytes() - arena);
    tell_head(probe);
    for (at = script, statement = 0; *at && !probe->ended; statement++) {
      if (!more() && !*at) break;
      tell_number(statement);
      tell(':');
      results[statement % MAX_RESULTS] = (uint32_t)execute(probe);
      tell(';');
      while (*at && *at != ';') at++;
      if (*at) at++;
    }
  }
  tell_text(" probe]");
  report_text[report_size] = 0;
}
