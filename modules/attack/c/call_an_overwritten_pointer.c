// Calls a function by a pointer that a neighbouring buffer has overrun.
//
// Stopped by: the bounds of its table.
#include <string.h>

#include "attack.h"

static struct {
  char name[8];
  void (*greet)(void);
} record;

static void greet(void) { puts("hello"); }

int main(int count, char **arguments) {
  record.greet = greet;
  memset(record.name, 'A', sizeof record * (size_t)(count > 1));
  record.greet();
  return must_not(arguments != NULL);
}
