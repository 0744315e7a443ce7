// Asks what is known of files of the host: whether they are there, how large they are, where they lead.
//
// Stopped by: the sandbox.
#include <sys/stat.h>
#include <unistd.h>

#include "attack.h"

int main(int count, char **arguments) {
  struct stat told;
  char link[256];
  const char *const paths[] = {arguments[1], "/etc/passwd", "/grant/../canary/secret", "/grant/up/etc/passwd",
                               "/grant/beside/secret", "/proc/self/exe", "/dev/null"};
  int through = count < 2;
  for (size_t path = 0; path < sizeof paths / sizeof *paths; path++) {
    through |= stat(paths[path], &told) == 0;
    through |= access(paths[path], F_OK) == 0;
    through |= readlink(paths[path], link, sizeof link) >= 0;
  }
  return must_not(through);
}
