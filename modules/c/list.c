// Lists a folder: `list FOLDER` prints how many names there are, and what of them is not as `stat` tells it;
// `list FOLDER remove` removes each as it comes.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_as_told(int folder, const struct dirent *entry) {
  struct stat stat;
  if (fstatat(folder, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    perror(entry->d_name);
    return 0;
  }
  switch (entry->d_type) {
  case DT_REG: return S_ISREG(stat.st_mode) && stat.st_ino == entry->d_ino;
  case DT_DIR: return S_ISDIR(stat.st_mode) && stat.st_ino == entry->d_ino;
  case DT_LNK: return S_ISLNK(stat.st_mode) && stat.st_ino == entry->d_ino;
  default: return stat.st_ino == entry->d_ino;
  }
}

int main(int count, char **args) {
  DIR *folder = opendir(args[1]);
  if (folder == NULL) {
    perror(args[1]);
    return 1;
  }
  int names = 0, wrong = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    names++;
    if (!is_as_told(dirfd(folder), entry)) wrong++;
    if (count > 2 && unlinkat(dirfd(folder), entry->d_name, 0) != 0) perror(entry->d_name);
  }
  int again = 0;
  rewinddir(folder);
  while (readdir(folder) != NULL) again++;
  printf("%d names, %d wrong, %d at the second time\n", names, wrong, again);
  return 0;
}
