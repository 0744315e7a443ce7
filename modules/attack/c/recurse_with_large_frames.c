// Recurses with frames of 64 KiB, which live in its memory and not on its host's stack.
//
// Stopped by: the bounds of its memory.
#include <string.h>

#include "attack.h"

__attribute__((noinline)) static int fall(int depth) {
  volatile char frame[65536];
  memset((char *)frame, depth, sizeof frame);
  return fall(depth + 1) + frame[depth % 65536];
}

int main(void) {
  printf("%d\n", fall(0));
  return must_not(1);
}
