// Writes many pieces by one call, so that each is little and all of them are much.
//
// Stopped by: the storage limit.
#include <fcntl.h>
#include <sys/uio.h>

#include "attack.h"

int main(void) {
  static char piece[512];
  struct iovec pieces[1024];
  for (size_t place = 0; place < 1024; place++)
    pieces[place] = (struct iovec){piece, sizeof piece};
  int file = open("/grant/pieces", O_WRONLY | O_CREAT, 0600);
  ssize_t written = 0, all = 0;
  for (int times = 0; times < 4 && written >= 0; times++) {
    written = writev(file, pieces, 1024);
    all += written > 0 ? written : 0;
  }
  return must_not(file < 0 || all > (64 << 10));
}
