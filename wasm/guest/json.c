#include "json.h"

static uint32_t skip_space(const uint8_t *text, uint32_t size, uint32_t at) {
  while (at < size && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) at++;
  return at;
}

/* The end of the string whose content begins at `at`: the place of its closing quote, or `size`. */
static uint32_t string_end(const uint8_t *text, uint32_t size, uint32_t at) {
  while (at < size && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  return at < size ? at : size;
}

static int is_key(const uint8_t *text, uint32_t begin, uint32_t end, const char *key) {
  uint32_t i = 0;
  while (key[i] && begin + i < end && text[begin + i] == (uint8_t)key[i]) i++;
  return !key[i] && begin + i == end;
}

static int number(const uint8_t *text, uint32_t size, uint32_t at, uint32_t *value) {
  uint64_t read = 0;
  uint32_t begin = at;
  for (; at < size && text[at] >= '0' && text[at] <= '9' && read <= UINT32_MAX; at++) {
    read = read * 10 + (text[at] - '0');
  }
  *value = (uint32_t)read;
  int goes_on = at < size && (text[at] == '.' || text[at] == 'e' || text[at] == 'E');
  return at > begin && read <= UINT32_MAX && !goes_on;
}

int json_u32(const uint8_t *text, uint32_t size, const char *key, uint32_t *value) {
  for (uint32_t at = 0; at < size; at++) {
    if (text[at] != '"') continue;
    uint32_t begin = at + 1;
    at = string_end(text, size, begin);
    uint32_t after = skip_space(text, size, at + 1);
    if (after < size && text[after] == ':' && is_key(text, begin, at, key)) {
      return number(text, size, skip_space(text, size, after + 1), value);
    }
  }
  return 0;
}
