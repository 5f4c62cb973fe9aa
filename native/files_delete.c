/*
 * Deletes a file, an empty directory, or a tree. Every name is removed in a directory that is held open; a symbolic link
 * is removed and never followed, also if it takes a directory's place at the last moment.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

#define ATTEMPTS 8 /* to remove a directory that others fill meanwhile */

struct tree {
  int top;        /* the directory that is deleted */
  dev_t device;   /* of the tree: what is mounted in it stays */
  unsigned moved; /* directories moved up because they were too deep */
};

static int empty_directory(struct files *files, struct tree *tree, int dir, int depth);

/* 0 also if somebody else was faster. */
static int unlink_one(int dir, const char *name, int flags) {
  return unlinkat(dir, name, flags) == 0 || errno == ENOENT ? 0 : -errno;
}

/* A directory that lies too deep is moved up, and found there again when the top is read anew. */
static int move_up(struct tree *tree, int dir, const char *name) {
  char higher[NAME_MAX + 1];
  snprintf(higher, sizeof higher, ".hob-delete-%d-%u", getpid(), tree->moved++);
  return renameat(dir, name, tree->top, higher) == 0 || errno == ENOENT ? 0 : -errno;
}

static int delete_directory(struct files *files, struct tree *tree, int dir, const char *name, int depth) {
  if (depth >= TREE_DEPTH_MAX) return move_up(tree, dir, name);
  for (int attempt = 1;; attempt++) {
    int opened = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0 && errno == ENOENT) return 0;
    if (opened < 0 && (errno == ENOTDIR || errno == ELOOP)) return unlink_one(dir, name, 0);
    /* An empty one can be removed without being read. */
    if (opened < 0) return errno == EACCES && unlink_one(dir, name, AT_REMOVEDIR) == 0 ? 0 : -EACCES;
    int result = empty_directory(files, tree, opened, depth);
    if (result < 0) return result;
    result = unlink_one(dir, name, AT_REMOVEDIR);
    if (result != -ENOTEMPTY || attempt == ATTEMPTS) return result;
  }
}

static int delete_entry(struct files *files, struct tree *tree, int dir, const char *name, bool directory, int depth) {
  if (client_has_gone(files)) return -ECANCELED;
  int result = directory ? -EISDIR : unlink_one(dir, name, 0);
  if (result == -EISDIR) result = delete_directory(files, tree, dir, name, depth);
  return result < 0 ? result : add_changed(files, -1, name);
}

static int delete_entries(struct files *files, struct tree *tree, DIR *stream, int depth) {
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(stream);
    if (entry == NULL) return errno == 0 || errno == ENOENT ? 0 : -errno;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    size_t before;
    int result = path_enter(files, entry->d_name, &before);
    if (result == 0) result = delete_entry(files, tree, dirfd(stream), entry->d_name, entry->d_type == DT_DIR, depth + 1);
    if (result < 0) return result;
    path_leave(files, before);
  }
}

/* Takes the descriptor. */
static int empty_directory(struct files *files, struct tree *tree, int dir, int depth) {
  struct stat info;
  if (fstat(dir, &info) < 0) return -errno;
  if (depth == 0) {
    tree->top = dir;
    tree->device = info.st_dev;
  }
  if (info.st_dev != tree->device) {
    close(dir);
    return -EBUSY;
  }
  unsigned moved;
  int result;
  DIR *stream = fdopendir(dir);
  if (stream == NULL) return -ENOMEM;
  do {
    moved = tree->moved;
    rewinddir(stream);
    result = delete_entries(files, tree, stream, depth);
  } while (result == 0 && depth == 0 && moved != tree->moved);
  closedir(stream);
  return result;
}

int delete_place(struct files *files, const struct place *place) {
  struct tree tree = {.top = -1};
  return delete_entry(files, &tree, place->dir, place->name, false, 0);
}

int files_delete(struct files *files) {
  struct place place;
  struct stat info;
  int result = place_for(files, files->request->path, false, &place);
  if (result == 0) result = stat_place(&place, &info);
  if (result < 0) return result;
  if (strcmp(place.name, ".") == 0) return -EINVAL;
  if (!S_ISDIR(info.st_mode)) result = unlinkat(place.dir, place.name, 0) < 0 ? -errno : add_changed(files, -1, "");
  else if ((files->request->flags & FILE_RECURSIVE) != 0) result = delete_place(files, &place);
  else result = unlinkat(place.dir, place.name, AT_REMOVEDIR) < 0 ? -errno : add_changed(files, -1, "");
  if (result == 0) send_done(files, 0);
  return result;
}
