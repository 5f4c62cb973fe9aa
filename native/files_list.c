/* Lists a directory, or says what one file is. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

static int add_listed(struct files *files, int dir, const char *name, const struct stat *info) {
  char target[PATH_MAX] = "";
  if (S_ISLNK(info->st_mode)) {
    ssize_t length = readlinkat(dir, name, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
  }
  return add_entry(files, info, target);
}

static int enter(struct files *files, const struct visit *visit, void **context) {
  (void)context;
  const struct files_request *request = files->request;
  if (files->path_length == 0) return 0;
  if (request->pattern == NULL || glob_matches(request->pattern, files->path)) {
    int added = add_listed(files, visit->dir, visit->name, visit->info);
    if (added < 0) return added;
  }
  return (request->flags & FILE_RECURSIVE) == 0;
}

int files_list(struct files *files) {
  struct place place;
  struct stat info;
  struct visitor visitor = {.enter = enter, .skip_unreadable = true};
  int result = place_of(files->request->path, true, &place);
  if (result == 0) result = stat_place(&place, &info);
  if (result < 0) return result;
  bool itself = !S_ISDIR(info.st_mode) || (files->request->flags & FILE_ITSELF) != 0;
  result = itself ? add_listed(files, place.dir, place.name, &info) : walk_tree(files, place.dir, place.name, &visitor);
  if (result == 0) send_done(files, 0);
  return result;
}
