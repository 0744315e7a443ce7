// Lists the folder above its own, by every name for it that a folder has.
//
// Stopped by: the sandbox.
#include <dirent.h>

#include "attack.h"

int main(void) {
  static const char *const names[] = {"/grant/..", "/grant/up", "/grant/beside", "/grant/root", "/", "/grant/./..", "/proc"};
  int through = 0;
  for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
    DIR *folder = opendir(names[name]);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
      through |= entry->d_name[0] != '.';
  }
  return must_not(through);
}
