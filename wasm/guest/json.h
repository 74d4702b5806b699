/* As much JSON as a v1 guest needs: unsigned numbers by their key. */
#ifndef JSON_H
#define JSON_H

#include <stdint.h>

/* The number that follows the first `key`, at any depth, in `value`; 0 if there is none or it is no u32. */
int json_u32(const uint8_t *text, uint32_t size, const char *key, uint32_t *value);

#endif
