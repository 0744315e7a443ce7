// Writes to one address after another, from the end of its memory on.
//
// Stopped by: the bounds of its memory.
#include <stdint.h>

#include "attack.h"

int main(void) {
  for (uintptr_t at = (uintptr_t)__builtin_wasm_memory_size(0) << 16; at != 0; at += 4096)
    *(volatile char *)at = 1;
  return must_not(1);
}
