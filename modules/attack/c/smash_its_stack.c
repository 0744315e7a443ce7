// Copies more into a buffer on its stack than is there, as a program that trusts a length does.
//
// Stopped by: the bounds of its memory.
#include <string.h>

#include "attack.h"

__attribute__((noinline)) static void copy(volatile char *from, size_t length) {
  char buffer[64];
  memcpy(buffer, (const char *)from, length);
  printf("%d\n", buffer[length % sizeof buffer]);
}

int main(int count, char **arguments) {
  copy(arguments[0], (size_t)count << 28);
  return must_not(1);
}
