/* Copies a file or a tree. Symbolic links are copied as links, what is in the way of a file is replaced, directories are merged. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

#define UMASK 022

/* The directory that a level of the tree is copied into. */
struct target {
  int dir;
  bool made;
  const struct place *top; /* has the name that the top gets; all others keep theirs */
};

static bool preserves(const struct files *files) {
  return files->request->operation == OP_RENAME || (files->request->flags & FILE_PRESERVE) != 0;
}

/* As mv(1) and cp -a do it. */
static bool archives(const struct files *files) {
  return files->request->operation == OP_RENAME || (files->request->flags & FILE_ARCHIVE) != 0;
}

static const char *target_name(const struct files *files, const struct target *target, const struct visit *visit) {
  return files->path_length == 0 ? target->top->name : visit->name;
}

/* A new owner takes capabilities away, and a mode changes the access list: extended attributes come after both. */
static int keep_attributes(int from, int to, const struct stat *info) {
  struct timespec times[2] = {info->st_atim, info->st_mtim};
  /* Owners that one may not give away stay one's own, as with cp -p. */
  if (fchown(to, info->st_uid, info->st_gid) < 0) (void)!fchown(to, (uid_t)-1, info->st_gid);
  (void)!fchmod(to, info->st_mode & 07777);
  int result = take_extended_attributes(from, to);
  futimens(to, times);
  return result;
}

static int copy_file(struct files *files, const struct visit *visit, const struct target *target) {
  struct replacement replacement;
  struct place place = {.dir = target->dir};
  struct stat info, after;
  bool preserve = preserves(files);
  strcpy(place.name, target_name(files, target, visit));
  int from = openat(visit->dir, visit->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (from < 0) return -errno;
  int result = fstat(from, &info) < 0 ? -errno : S_ISREG(info.st_mode) ? 0 : -EINVAL;
  if (result == 0) result = replacement_begin_at(&replacement, &place);
  if (result < 0) {
    close(from);
    return result;
  }
  bool same = replacement.before.st_nlink > 0 && replacement.before.st_ino == info.st_ino && replacement.before.st_dev == info.st_dev;
  result = same ? -EINVAL : copy_content(files, from, replacement.fd);
  if (result < 0) replacement_abort(&replacement);
  else {
    int mode = preserve ? (int)(info.st_mode & 07777) : replacement.before.st_nlink > 0 ? -1 : (int)(info.st_mode & 0777 & ~UMASK);
    result = replacement_commit(&replacement, mode, &after);
  }
  if (result == 0 && preserve) {
    int copied = openat(place.dir, place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (copied >= 0) {
      result = keep_attributes(from, copied, &info);
      close(copied);
    }
  }
  close(from);
  files->bytes += result == 0 ? (uint64_t)after.st_size : 0;
  return result;
}

static int make_special(const struct visit *visit, const char *link_text, int dir, const char *name) {
  mode_t mode = visit->info->st_mode;
  int made = S_ISLNK(mode) ? symlinkat(link_text, dir, name) : mknodat(dir, name, (mode & S_IFMT) | (mode & 0777 & ~UMASK), visit->info->st_rdev);
  return made < 0 ? -errno : 0;
}

/* By name, as neither can be opened; a link that somebody puts there meanwhile is not followed. */
static void keep_attributes_of_special(int dir, const char *name, const struct stat *info) {
  struct timespec times[2] = {info->st_atim, info->st_mtim};
  if (fchownat(dir, name, info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
    (void)!fchownat(dir, name, (uid_t)-1, info->st_gid, AT_SYMLINK_NOFOLLOW);
  if (!S_ISLNK(info->st_mode)) (void)chmod_at(dir, name, info->st_mode & 07777);
  (void)!utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
}

/* A symbolic link, FIFO, socket or device; what is in the way is removed, unless it is a directory. */
static int copy_special(const struct visit *visit, int dir, const char *name) {
  char text[PATH_MAX] = "";
  if (S_ISLNK(visit->info->st_mode)) {
    ssize_t length = readlinkat(visit->dir, visit->name, text, sizeof text - 1);
    if (length < 0) return -errno;
    text[length] = 0;
  }
  int result = make_special(visit, text, dir, name);
  if (result != -EEXIST) return result;
  return unlinkat(dir, name, 0) < 0 ? -errno : make_special(visit, text, dir, name);
}

/* The level below gets a target of its own; leave closes it. */
static int copy_directory(const struct visit *visit, const char *name, void **context) {
  const struct target *target = *context;
  struct target *below = malloc(sizeof *below);
  if (below == NULL) return -ENOMEM;
  *below = (struct target){.top = target->top, .made = mkdirat(target->dir, name, (visit->info->st_mode & 0777 & ~UMASK) | 0700) == 0};
  if (!below->made && errno != EEXIST) return -errno;
  below->dir = openat(target->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (below->dir < 0) return errno == ELOOP ? -ENOTDIR : -errno;
  *context = below;
  return 0;
}

static bool is_copied(const struct files *files, mode_t mode) {
  return S_ISREG(mode) || S_ISLNK(mode) || S_ISFIFO(mode) || S_ISDIR(mode) || archives(files);
}

static int copy_entry(struct files *files, const struct visit *visit, const struct target *target) {
  const char *name = target_name(files, target, visit);
  if (S_ISREG(visit->info->st_mode)) return copy_file(files, visit, target);
  int result = copy_special(visit, target->dir, name);
  if (result == 0 && preserves(files)) keep_attributes_of_special(target->dir, name, visit->info);
  return result;
}

/* Of a file with several names the first one is copied, and the others are linked to that. */
static int copy_or_link(struct files *files, const struct visit *visit, const struct target *target) {
  bool shared = archives(files) && visit->info->st_nlink > 1;
  const char *name = target_name(files, target, visit);
  if (shared && link_to_copy(target->top, visit->info, target->dir, name)) return 0;
  int result = copy_entry(files, visit, target);
  if (result == 0 && shared) note_copy(files, visit->info, target->dir, name);
  return result;
}

static int enter(struct files *files, const struct visit *visit, void **context) {
  const struct target *target = *context;
  const char *name = target_name(files, target, visit);
  mode_t mode = visit->info->st_mode;
  if (!is_copied(files, mode)) return files->path_length == 0 ? -EINVAL : 0;
  int result = S_ISDIR(mode) ? copy_directory(visit, name, context) : copy_or_link(files, visit, target);
  bool refused = result == -EPERM && (S_ISCHR(mode) || S_ISBLK(mode));
  if (refused && files->path_length > 0 && files->request->operation == OP_COPY) return add_left_out(files, visit->info);
  return result < 0 ? result : add_changed(files, target->dir, name);
}

static int leave(struct files *files, const struct visit *visit, void **context) {
  struct target *target = *context;
  int result = 0;
  if (preserves(files)) result = keep_attributes(visit->opened, target->dir, visit->info);
  else if (target->made) (void)!fchmod(target->dir, visit->info->st_mode & 0777 & ~UMASK);
  close(target->dir);
  free(target);
  return result;
}

/* Whether dir is the directory described, or lies in it: a copy into itself would never end. */
static bool lies_in(int dir, const struct stat *info) {
  int at = dup(dir);
  for (struct stat here, before = {0}; at >= 0 && fstat(at, &here) == 0; before = here) {
    if (here.st_dev == info->st_dev && here.st_ino == info->st_ino) return close(at), true;
    if (here.st_dev == before.st_dev && here.st_ino == before.st_ino) break;
    int above = open_path(at, "..", O_PATH | O_DIRECTORY);
    close(at);
    at = above;
  }
  if (at >= 0) close(at);
  return false;
}

int copy_place(struct files *files, const struct place *from, const struct place *to) {
  struct target target = {.dir = to->dir, .top = to};
  struct visitor visitor = {.enter = enter, .leave = leave, .context = &target};
  return walk_tree(files, from->dir, from->name, &visitor);
}

int files_copy(struct files *files) {
  const struct files_request *request = files->request;
  struct place from, to;
  struct stat info, present;
  bool recursive = (request->flags & FILE_RECURSIVE) != 0;
  int result = request->root != NULL ? place_in(request->root, request->path, &from) : place_for(files, request->path, !recursive, &from);
  if (result == 0) result = stat_place(&from, &info);
  if (result < 0) return result;
  if (S_ISDIR(info.st_mode) && !recursive) return -EISDIR;
  files->failed_on = request->destination;
  result = place_for(files, request->destination, true, &to);
  if (result < 0) return result;
  bool exists = fstatat(to.dir, to.name, &present, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && S_ISDIR(present.st_mode) && !S_ISDIR(info.st_mode)) return -EISDIR;
  if (exists && !S_ISDIR(present.st_mode) && S_ISDIR(info.st_mode)) return -ENOTDIR;
  if (to.directory_wanted && !S_ISDIR(info.st_mode)) return -EISDIR;
  bool same = exists && present.st_dev == info.st_dev && present.st_ino == info.st_ino;
  if (same || (S_ISDIR(info.st_mode) && lies_in(to.dir, &info))) return -EINVAL;
  files->failed_on = NULL;
  result = copy_place(files, &from, &to);
  if (result == 0) send_done(files, 0);
  return result;
}
