// Takes all the memory that it can get, and writes to it.
//
// Stopped by: the memory limit.
#include <string.h>

#include "attack.h"

int main(void) {
  // Four times what it may have.
  for (int taken = 0; taken < 256; taken++) {
    char *volatile more = malloc(65536);
    if (!more)
      return must_not(0);
    memset(more, taken, 65536);
  }
  return must_not(1);
}
