// What attacks in C share: how they say how it went. Their arguments are those of the others (`attack-files`).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

// Prints whether something that must not work did.
static inline int must_not(int worked) {
  puts(worked ? "got through" : "held");
  return 0;
}
