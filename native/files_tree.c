/*
 * Walks a tree by descriptors: each directory is opened in the one that was opened before it, never by a longer path,
 * and never through a symbolic link. Whoever exchanges a directory for a link meanwhile gains nothing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

static int walk(struct files *files, int dir, const char *name, struct visitor *visitor, void *context, int depth);

/* What was there a moment ago and is now gone, or is something else. */
static bool is_race(int err) { return err == -ENOENT || err == -ENOTDIR || err == -ELOOP; }

static int walk_entries(struct files *files, DIR *stream, struct visitor *visitor, void *context, int depth) {
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(stream);
    if (entry == NULL) return errno == 0 || errno == ENOENT ? 0 : -errno;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    size_t before;
    int result = path_enter(files, entry->d_name, &before);
    if (result == 0) result = walk(files, dirfd(stream), entry->d_name, visitor, context, depth + 1);
    /* The path stays at what failed: the answer names it. */
    if (result < 0) return result;
    path_leave(files, before);
  }
}

static int walk_directory(struct files *files, struct visit *visit, struct visitor *visitor, void *context, int depth) {
  if (depth == TREE_DEPTH_MAX) return -ENAMETOOLONG;
  visit->opened = openat(visit->dir, visit->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (visit->opened < 0) {
    int err = -errno;
    bool forgiven = is_race(err) || (err == -EACCES && visitor->skip_unreadable);
    return depth > 0 && forgiven ? 0 : err;
  }
  DIR *stream = fdopendir(visit->opened);
  if (stream == NULL) return -ENOMEM;
  int result = walk_entries(files, stream, visitor, context, depth);
  if (result == 0 && visitor->leave != NULL) result = visitor->leave(files, visit, &context);
  closedir(stream);
  return result;
}

static int walk(struct files *files, int dir, const char *name, struct visitor *visitor, void *context, int depth) {
  if (client_has_gone(files)) return -ECANCELED;
  struct stat info;
  if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0) return depth > 0 && errno == ENOENT ? 0 : -errno;
  struct visit visit = {.dir = dir, .name = name, .info = &info, .opened = -1};
  int entered = visitor->enter(files, &visit, &context);
  if (entered != 0) return entered < 0 ? entered : 0;
  return S_ISDIR(info.st_mode) ? walk_directory(files, &visit, visitor, context, depth) : 0;
}

int walk_tree(struct files *files, int dir, const char *name, struct visitor *visitor) {
  return walk(files, dir, name, visitor, visitor->context, 0);
}
