// Lists a folder: `list FOLDER` prints how many names there are, and what of them is not as `stat` tells it;
// `list FOLDER remove` removes each as it comes; `list FOLDER forty` reads forty lists of it in turns; `list FOLDER back`
// goes back to each place that it was at.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTS = 40, PLACES = 500 };

static DIR *open_list(const char *path) {
  DIR *folder = opendir(path);
  if (folder == NULL) {
    perror(path);
    exit(1);
  }
  return folder;
}

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

static void look(const char *path, int removes) {
  DIR *folder = open_list(path);
  int names = 0, wrong = 0, again = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    names++;
    if (!is_as_told(dirfd(folder), entry)) wrong++;
    if (removes && unlinkat(dirfd(folder), entry->d_name, 0) != 0) perror(entry->d_name);
  }
  rewinddir(folder);
  while (readdir(folder) != NULL) again++;
  printf("%d names, %d wrong, %d at the second time\n", names, wrong, again);
}

static void read_forty(const char *path) {
  DIR *folders[LISTS];
  int names[LISTS] = {0}, left = LISTS, most = 0, least = 1 << 30;
  for (int i = 0; i < LISTS; i++) folders[i] = open_list(path);
  while (left > 0) {
    for (int i = 0; i < LISTS; i++) {
      if (folders[i] == NULL) continue;
      if (readdir(folders[i]) != NULL) {
        names[i]++;
        continue;
      }
      closedir(folders[i]);
      folders[i] = NULL;
      left--;
    }
  }
  for (int i = 0; i < LISTS; i++) {
    if (names[i] > most) most = names[i];
    if (names[i] < least) least = names[i];
  }
  printf("%d to %d names\n", least, most);
}

static void go_back(const char *path) {
  DIR *folder = open_list(path);
  static long places[PLACES];
  static char names[PLACES][256];
  int known = 0, same = 0;
  for (; known < PLACES; known++) {
    places[known] = telldir(folder);
    struct dirent *entry = readdir(folder);
    if (entry == NULL) break;
    strcpy(names[known], entry->d_name);
  }
  for (int i = known - 1; i >= 0; i--) {
    seekdir(folder, places[i]);
    struct dirent *entry = readdir(folder);
    if (entry != NULL && strcmp(entry->d_name, names[i]) == 0) same++;
  }
  printf("%d of %d places\n", same, known);
}

int main(int count, char **args) {
  const char *how = count > 2 ? args[2] : "";
  if (strcmp(how, "forty") == 0) read_forty(args[1]);
  else if (strcmp(how, "back") == 0) go_back(args[1]);
  else look(args[1], strcmp(how, "remove") == 0);
  return 0;
}
