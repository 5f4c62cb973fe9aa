/* Names of one file become names of one file in its copy, not files of their own. link(2) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

/* A file with several names, and what its first one was copied to. */
struct linked {
  dev_t dev, copy_dev;
  ino_t ino, copy_ino;
  char path[]; /* below the top of the copy, "" = that itself */
};

static void *known; /* tree of tsearch(3); this process makes one copy */

static int compare(const void *one, const void *other) {
  const struct linked *a = one, *b = other;
  if (a->dev != b->dev) return a->dev < b->dev ? -1 : 1;
  return a->ino == b->ino ? 0 : a->ino < b->ino ? -1 : 1;
}

void note_copy(const struct files *files, const struct stat *info, int dir, const char *name) {
  struct stat copy;
  if (fstatat(dir, name, &copy, AT_SYMLINK_NOFOLLOW) < 0) return;
  struct linked *linked = malloc(sizeof *linked + files->path_length + 1);
  /* Without memory for it, the next name becomes a file of its own. */
  if (linked == NULL) return;
  *linked = (struct linked){.dev = info->st_dev, .ino = info->st_ino, .copy_dev = copy.st_dev, .copy_ino = copy.st_ino};
  memcpy(linked->path, files->path, files->path_length + 1);
  struct linked **found = tsearch(linked, &known, compare);
  if (found == NULL || *found != linked) free(linked);
}

/* Opens the directory of the copy, never through a link that somebody put there meanwhile. */
static int open_copy_holder(const struct place *top, const struct linked *linked, const char **name) {
  char holder[PATH_MAX];
  const char *slash = strrchr(linked->path, '/');
  int length = slash == NULL ? 0 : (int)(slash - linked->path);
  *name = slash == NULL ? linked->path : slash + 1;
  if (snprintf(holder, sizeof holder, "%s/%.*s", top->name, length, linked->path) >= (int)sizeof holder) return -ENAMETOOLONG;
  return open_beneath(top->dir, holder);
}

bool link_to_copy(const struct place *top, const struct stat *info, int dir, const char *name) {
  const struct linked wanted = {.dev = info->st_dev, .ino = info->st_ino};
  struct linked *const *found = tfind(&wanted, &known, compare);
  if (found == NULL || (*found)->path[0] == 0) return false;
  const char *copy_name;
  struct stat copy;
  int holder = open_copy_holder(top, *found, &copy_name);
  if (holder < 0) return false;
  bool same = fstatat(holder, copy_name, &copy, AT_SYMLINK_NOFOLLOW) == 0 && copy.st_dev == (*found)->copy_dev &&
              copy.st_ino == (*found)->copy_ino;
  bool linked = same && linkat(holder, copy_name, dir, name, 0) == 0;
  close(holder);
  return linked;
}
