/* The operations that change names and attributes: rename, chmod, chown, mkdir, symlink. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* Linux 6.6 */
#endif

static int place_and_stat(const struct files *files, bool follow, struct place *place, struct stat *info) {
  int result = place_for(files, files->request->path, follow, place);
  return result < 0 ? result : stat_place(place, info);
}

/*
 * To another file system, or a directory of the image that overlayfs does not move: as mv(1) does it, by a copy. What is
 * in the way is replaced as rename(2) does. After a failure the source is still there.
 */
static int move_by_copy(struct files *files, const struct place *from, const struct stat *moved, const struct place *to) {
  struct stat present;
  bool exists = fstatat(to->dir, to->name, &present, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && S_ISDIR(present.st_mode) && !S_ISDIR(moved->st_mode)) return -EISDIR;
  if (exists && !S_ISDIR(present.st_mode) && S_ISDIR(moved->st_mode)) return -ENOTDIR;
  if (exists && S_ISDIR(present.st_mode) && unlinkat(to->dir, to->name, AT_REMOVEDIR) < 0) return -errno;
  int result = copy_place(files, from, to);
  if (result == 0) return delete_place(files, from);
  if (S_ISDIR(moved->st_mode)) delete_place(files, to);
  return result;
}

int files_rename(struct files *files) {
  struct place from, to;
  struct stat info;
  int result = place_and_stat(files, false, &from, &info);
  if (result < 0) return result;
  files->failed_on = files->request->destination;
  result = place_for(files, files->request->destination, false, &to);
  if (result < 0) return result;
  if (to.directory_wanted && !S_ISDIR(info.st_mode)) return -ENOTDIR;
  if (renameat(from.dir, from.name, to.dir, to.name) < 0) {
    result = -errno;
    if (result == -EXDEV) {
      files->failed_on = NULL;
      result = move_by_copy(files, &from, &info, &to);
    }
    if (result < 0) return result;
  }
  files->entries_length = 0;
  send_done(files, 0);
  return 0;
}

/* Without following a link that has just taken the name. Before Linux 6.6, glibc does it by way of /proc. */
int chmod_at(int dir, const char *name, mode_t mode) {
  if (syscall(SYS_fchmodat2, dir, name, mode, AT_SYMLINK_NOFOLLOW) == 0) return 0;
  if (errno == ENOSYS && fchmodat(dir, name, mode, AT_SYMLINK_NOFOLLOW) == 0) return 0;
  return errno == EOPNOTSUPP ? 0 : -errno;
}

/* Directories are changed when all in them is, but before where they could not be entered otherwise. */
static int chmod_enter(struct files *files, const struct visit *visit, void **context) {
  (void)context;
  if (S_ISLNK(visit->info->st_mode)) return 0;
  bool recursive = (files->request->flags & FILE_RECURSIVE) != 0;
  bool later = recursive && S_ISDIR(visit->info->st_mode) && faccessat(visit->dir, visit->name, R_OK | X_OK, AT_EACCESS) == 0;
  if (later) return 0;
  int result = chmod_at(visit->dir, visit->name, files->request->mode);
  if (result == -ENOENT && files->path_length > 0) return 1;
  if (result == 0 && !(recursive && S_ISDIR(visit->info->st_mode))) result = add_changed(files, visit->dir, visit->name);
  return result < 0 ? result : !recursive;
}

static int chmod_leave(struct files *files, const struct visit *visit, void **context) {
  (void)context;
  if (fchmod(visit->opened, files->request->mode) < 0) return -errno;
  return add_changed(files, visit->dir, visit->name);
}

int files_chmod(struct files *files) {
  struct place place;
  struct visitor visitor = {.enter = chmod_enter, .leave = chmod_leave};
  struct stat info;
  if (!files->request->has_mode) return -EINVAL;
  int result = place_and_stat(files, true, &place, &info);
  if (result == 0) result = walk_tree(files, place.dir, place.name, &visitor);
  if (result == 0) send_done(files, 0);
  return result;
}

struct ids {
  uint32_t uid, gid;
};

static int chown_enter(struct files *files, const struct visit *visit, void **context) {
  const struct ids *ids = *context;
  if (fchownat(visit->dir, visit->name, ids->uid, ids->gid, AT_SYMLINK_NOFOLLOW) < 0) {
    return errno == ENOENT && files->path_length > 0 ? 1 : -errno;
  }
  int result = add_changed(files, visit->dir, visit->name);
  return result < 0 ? result : (files->request->flags & FILE_RECURSIVE) == 0;
}

int files_chown(struct files *files) {
  struct place place;
  struct stat info;
  struct ids ids;
  struct visitor visitor = {.enter = chown_enter, .context = &ids};
  int result = find_id("/etc/passwd", files->request->owner, &ids.uid);
  if (result < 0) files->failed_on = files->request->owner;
  else if ((result = find_id("/etc/group", files->request->group, &ids.gid)) < 0) files->failed_on = files->request->group;
  if (result == 0) result = place_and_stat(files, true, &place, &info);
  if (result == 0) result = walk_tree(files, place.dir, place.name, &visitor);
  if (result == 0) send_done(files, 0);
  return result;
}

int files_mkdir(struct files *files) {
  const struct files_request *request = files->request;
  bool parents = (request->flags & FILE_PARENTS) != 0;
  struct place place;
  struct stat info;
  /* Those above are made through links, too. */
  if (parents && (request->flags & FILE_NO_LINKS) != 0) return -EINVAL;
  int result = parents ? make_parents(request->path, true) : 0;
  if (result == 0) result = place_for(files, request->path, parents, &place);
  if (result < 0) return result;
  bool made = mkdirat(place.dir, place.name, 0777) == 0;
  if (!made && (errno != EEXIST || !parents)) return -errno;
  if (made && request->has_mode && (result = chmod_at(place.dir, place.name, request->mode)) < 0) return result;
  if (fstatat(place.dir, place.name, &info, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  if (!S_ISDIR(info.st_mode)) return -EEXIST;
  send_done(files, info.st_mode & 07777);
  return 0;
}

int files_symlink(struct files *files) {
  struct place place;
  int result = place_for(files, files->request->path, false, &place);
  if (result < 0) return result;
  if (symlinkat(files->request->destination, place.dir, place.name) < 0) return -errno;
  send_done(files, 0);
  return 0;
}
