// Searches memory that it was given anew for what others have left there.
//
// Stopped by: memory that is cleared.
#include "attack.h"

int main(void) {
  size_t pages = __builtin_wasm_memory_grow(0, 512);
  if (pages == (size_t)-1)
    return must_not(1);
  int through = 0;
  for (const char *at = (const char *)(pages << 16), *end = at + (512 << 16); at < end; at++)
    through |= *at;
  return must_not(through);
}
