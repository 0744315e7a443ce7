// Writes, lengthens and allocates far behind the end of a file.
//
// Stopped by: the storage limit.
#include <fcntl.h>
#include <unistd.h>

#include "attack.h"

int main(void) {
  int file = open("/grant/far", O_RDWR | O_CREAT, 0600);
  int through = file < 0;
  for (int bits = 17; bits < 63; bits += 5) {
    off_t far = (off_t)1 << bits;
    through |= ftruncate(file, far) == 0;
    through |= pwrite(file, "x", 1, far) == 1;
    through |= posix_fallocate(file, 0, far) == 0;
    through |= lseek(file, far, SEEK_SET) == far && write(file, "x", 1) == 1;
  }
  return must_not(through);
}
