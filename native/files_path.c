/*
 * Paths of the user. The kernel resolves them, part by part or as a whole; nothing here decides by the text of a path
 * what it leads to. path_resolution(7), openat2(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"

#define LINKS_MAX 40 /* as many as the kernel follows in one path */
#define DIRECTORY (O_PATH | O_DIRECTORY)

static int open_resolved(int dir, const char *path, int flags, uint64_t resolve) {
  struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve};
  int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
  return fd < 0 ? -errno : fd;
}

int open_path(int dir, const char *path, int flags) { return open_resolved(dir, path, flags, RESOLVE_NO_MAGICLINKS); }

/* Opens the directory that holds the last part of path, and copies that part. path has no trailing slash. */
static int open_holder(int base, const char *path, uint64_t resolve, struct place *place) {
  const char *slash = strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;
  char holder[PATH_MAX];
  size_t length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
  bool itself = name[0] == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
  if (itself) length = strlen(path);
  if (length >= sizeof holder || strlen(name) > NAME_MAX) return -ENAMETOOLONG;
  memcpy(holder, path, length);
  holder[length] = 0;
  place->dir = open_resolved(base, length == 0 ? "." : holder, DIRECTORY, resolve);
  strcpy(place->name, itself ? "." : name);
  return place->dir < 0 ? place->dir : 0;
}

/* Cuts trailing slashes off; "/" stays. Returns -ENAMETOOLONG, or whether there were any. */
static int copy_trimmed(char *target, const char *path) {
  size_t length = strlen(path), all = length;
  if (length >= PATH_MAX) return -ENAMETOOLONG;
  while (length > 1 && path[length - 1] == '/') length--;
  memcpy(target, path, length);
  target[length] = 0;
  return length < all;
}

/* One step of following: place becomes where the link in it leads. Returns 1, 0 if it is no link, or -errno. */
static int follow_link(struct place *place) {
  char target[PATH_MAX], trimmed[PATH_MAX];
  ssize_t length = readlinkat(place->dir, place->name, target, sizeof target - 1);
  if (length < 0) return errno == EINVAL || errno == ENOENT ? 0 : -errno;
  target[length] = 0;
  int slashes = copy_trimmed(trimmed, target);
  if (slashes < 0) return slashes;
  int holder = place->dir;
  int opened = open_holder(holder, trimmed, RESOLVE_NO_MAGICLINKS, place);
  close(holder);
  if (slashes > 0) place->directory_wanted = true;
  return opened < 0 ? opened : 1;
}

int place_of(const char *path, bool follow, struct place *place) {
  char trimmed[PATH_MAX];
  int slashes = copy_trimmed(trimmed, path);
  if (slashes < 0) return slashes;
  place->directory_wanted = slashes > 0;
  int result = open_holder(AT_FDCWD, trimmed, RESOLVE_NO_MAGICLINKS, place);
  for (int links = 0; result == 0 && (follow || slashes > 0); links++) {
    int followed = links == LINKS_MAX ? -ELOOP : follow_link(place);
    if (followed == 0) break;
    if (followed < 0) result = followed;
  }
  return result;
}

int place_for(const struct files *files, const char *path, bool follow, struct place *place) {
  if ((files->request->flags & FILE_NO_LINKS) == 0) return place_of(path, follow, place);
  char trimmed[PATH_MAX];
  int slashes = copy_trimmed(trimmed, path);
  if (slashes < 0) return slashes;
  place->directory_wanted = slashes > 0;
  return open_holder(AT_FDCWD, trimmed, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS, place);
}

int place_in(const char *root, const char *path, struct place *place) {
  char trimmed[PATH_MAX];
  int slashes = copy_trimmed(trimmed, path);
  if (slashes < 0) return slashes;
  place->directory_wanted = slashes > 0;
  int base = open_path(AT_FDCWD, root, DIRECTORY);
  if (base < 0) return base;
  int result = open_holder(base, trimmed, RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT, place);
  close(base);
  return result;
}

int open_beneath(int dir, const char *path) {
  return open_resolved(dir, path, DIRECTORY, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH);
}

int stat_place(const struct place *place, struct stat *info) {
  if (fstatat(place->dir, place->name, info, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  return place->directory_wanted && !S_ISDIR(info->st_mode) ? -ENOTDIR : 0;
}

/* Opens the next directory of a path, made if it is missing and may be. */
static int step_into(int dir, const char *name, bool make) {
  int next = open_path(dir, name, DIRECTORY);
  if (next != -ENOENT || !make) return next;
  if (mkdirat(dir, name, 0777) < 0 && errno != EEXIST) return -errno;
  return open_path(dir, name, DIRECTORY);
}

int make_parents(const char *path, bool all) {
  char parts[PATH_MAX];
  int slashes = copy_trimmed(parts, path);
  if (slashes < 0) return slashes;
  char *last = strrchr(parts, '/');
  if (last == NULL) return 0;
  *last = 0;
  int dir = open_path(AT_FDCWD, parts[0] == '/' || last == parts ? "/" : ".", DIRECTORY);
  char *rest, *name = strtok_r(parts, "/", &rest);
  while (dir >= 0 && name != NULL) {
    char *following = strtok_r(NULL, "/", &rest);
    int next = step_into(dir, name, all || following == NULL);
    close(dir);
    dir = next;
    name = following;
  }
  if (dir < 0) return dir;
  close(dir);
  return 0;
}

int path_enter(struct files *files, const char *name, size_t *before) {
  size_t length = strlen(name);
  *before = files->path_length;
  if (files->path_length + length + 2 > files->path_size) {
    size_t size = (files->path_length + length + 2) * 2;
    char *larger = realloc(files->path, size);
    if (larger == NULL) return -ENOMEM;
    files->path = larger;
    files->path_size = size;
  }
  if (files->path_length > 0) files->path[files->path_length++] = '/';
  memcpy(files->path + files->path_length, name, length + 1);
  files->path_length += length;
  return 0;
}

void path_leave(struct files *files, size_t before) {
  files->path_length = before;
  files->path[before] = 0;
}
