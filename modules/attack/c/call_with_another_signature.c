// Calls a function as if it took a host's address.
//
// Stopped by: the types of calls.
#include <stdint.h>

#include "attack.h"

static int add(int a, int b) { return a + b; }

int main(void) {
  void *volatile function = (void *)add;
  uint64_t (*other)(uint64_t) = (uint64_t(*)(uint64_t))function;
  printf("%llu\n", (unsigned long long)other(UINT64_C(0x7fff00000000)));
  return must_not(1);
}
