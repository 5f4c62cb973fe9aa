/*
 * Moves a complete tree to where another one is, or nothing. A directory that both have stays the directory that it is, with the
 * attributes of the new one: whoever works in it goes on. What only the old tree has goes, and what is mounted in it stays.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

/* Where an entry is, or would be. */
struct at {
  int dir;
  const char *name;
};

/* What to do with one entry of a directory that is being read. */
typedef int (*each)(struct files *files, int dir, const char *name, void *context, int depth);

static int install_entry(struct files *files, struct at from, struct at to, int depth);
static int remove_entry(struct files *files, struct at at, bool *kept, int depth);

/* The files of the sprite's root are of several devices: only the kernel can tell where something is mounted. Linux 5.8 */
static int look(struct at at, mode_t *mode, bool *mounted) {
  struct statx info;
  if (statx(at.dir, at.name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &info) < 0) return -errno;
  *mode = info.stx_mode;
  *mounted = (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return 0;
}

static int open_directory(struct at at) {
  int opened = openat(at.dir, at.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return opened < 0 ? -errno : opened;
}

/* Through a descriptor of its own: that of the caller keeps its place. */
static int for_each(struct files *files, int dir, each visit, void *context, int depth) {
  int opened = open_directory((struct at){dir, "."});
  DIR *stream = opened < 0 ? NULL : fdopendir(opened);
  if (stream == NULL) return opened < 0 ? opened : -ENOMEM;
  int result = 0;
  while (result == 0) {
    errno = 0;
    const struct dirent *entry = readdir(stream);
    if (entry == NULL) {
      result = errno == 0 || errno == ENOENT ? 0 : -errno;
      break;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    size_t before;
    result = path_enter(files, entry->d_name, &before);
    if (result == 0) result = visit(files, dirfd(stream), entry->d_name, context, depth + 1);
    /* The path stays at what failed: the answer names it. */
    if (result == 0) path_leave(files, before);
  }
  closedir(stream);
  return result;
}

static int remove_below(struct files *files, int dir, const char *name, void *context, int depth) {
  return remove_entry(files, (struct at){dir, name}, context, depth);
}

/* Deeper than descriptors reach, nothing that is mounted is looked for. */
static int remove_deep(struct files *files, struct at at) {
  struct place place = {.dir = at.dir};
  snprintf(place.name, sizeof place.name, "%s", at.name);
  return delete_place(files, &place);
}

/* @param kept set if something is mounted there or below, which stays with the directories that lead to it */
static int remove_entry(struct files *files, struct at at, bool *kept, int depth) {
  mode_t mode;
  bool mounted, kept_below = false;
  if (client_has_gone(files)) return -ECANCELED;
  int result = look(at, &mode, &mounted);
  if (result < 0) return result == -ENOENT ? 0 : result;
  if (mounted) return *kept = true, 0;
  if (!S_ISDIR(mode)) return unlinkat(at.dir, at.name, 0) == 0 || errno == ENOENT ? 0 : -errno;
  if (depth >= TREE_DEPTH_MAX) return remove_deep(files, at);
  int opened = open_directory(at);
  if (opened < 0) return opened == -ENOENT ? 0 : opened;
  result = for_each(files, opened, remove_below, &kept_below, depth);
  close(opened);
  if (result < 0) return result;
  if (kept_below) return *kept = true, 0;
  return unlinkat(at.dir, at.name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

/* Both trees' directories of one level. */
struct level {
  int from, to;
};

static int remove_if_old(struct files *files, int dir, const char *name, void *context, int depth) {
  const struct level *level = context;
  bool kept = false, mounted;
  mode_t mode;
  if (faccessat(level->from, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) return 0;
  /* Nobody can make one inside: it is one of the image, which a copy leaves out. */
  if (look((struct at){dir, name}, &mode, &mounted) == 0 && (S_ISCHR(mode) || S_ISBLK(mode))) return 0;
  return remove_entry(files, (struct at){dir, name}, &kept, depth);
}

static int install_below(struct files *files, int dir, const char *name, void *context, int depth) {
  const struct level *level = context;
  return install_entry(files, (struct at){dir, name}, (struct at){level->to, name}, depth);
}

static int set_attributes(int from, int to, const struct stat *info) {
  struct timespec times[2] = {info->st_atim, info->st_mtim};
  if (fchown(to, info->st_uid, info->st_gid) < 0 || fchmod(to, info->st_mode & 07777) < 0) return -errno;
  int result = take_extended_attributes(from, to);
  return result < 0 ? result : futimens(to, times) < 0 ? -errno : 0;
}

static int install_directory(struct files *files, struct at from, struct at to, int depth) {
  struct stat info; /* of the new one, before it gives away what is in it */
  if (depth >= TREE_DEPTH_MAX) return -ENAMETOOLONG;
  struct level level = {.from = open_directory(from), .to = open_directory(to)};
  int result = level.from < 0 ? level.from : level.to < 0 ? level.to : 0;
  if (result == 0 && fstat(level.from, &info) < 0) result = -errno;
  if (result == 0) result = for_each(files, level.to, remove_if_old, &level, depth);
  if (result == 0) result = for_each(files, level.from, install_below, &level, depth);
  if (result == 0) result = set_attributes(level.from, level.to, &info);
  if (level.from >= 0) close(level.from);
  if (level.to >= 0) close(level.to);
  return result;
}

/* What cannot get its place because something is mounted there stays where it is. */
static int install_entry(struct files *files, struct at from, struct at to, int depth) {
  mode_t new, old;
  bool mounted, kept = false;
  if (client_has_gone(files)) return -ECANCELED;
  int result = look(from, &new, &mounted);
  if (result < 0) return result;
  result = look(to, &old, &mounted);
  if (result == 0 && mounted) return 0;
  if (result == 0 && S_ISDIR(old) && S_ISDIR(new)) return install_directory(files, from, to, depth);
  /* rename(2) puts a file in the place of another at once; all else has to go before. */
  if (result == 0 && (S_ISDIR(old) || S_ISDIR(new))) result = remove_entry(files, to, &kept, depth);
  if (result < 0 && result != -ENOENT) return result;
  if (kept) return 0;
  return renameat(from.dir, from.name, to.dir, to.name) < 0 ? -errno : 0;
}

int files_install(struct files *files) {
  struct place from, to;
  struct stat info;
  int result = place_for(files, files->request->path, false, &from);
  if (result == 0) result = stat_place(&from, &info);
  if (result < 0) return result;
  files->failed_on = files->request->destination;
  result = place_for(files, files->request->destination, false, &to);
  if (result < 0) return result;
  bool exists = fstatat(to.dir, to.name, &info, AT_SYMLINK_NOFOLLOW) == 0;
  files->failed_on = NULL;
  result = install_entry(files, (struct at){from.dir, from.name}, (struct at){to.dir, to.name}, 0);
  if (result < 0) return result;
  files->count = exists;
  send_done(files, 0);
  return 0;
}
