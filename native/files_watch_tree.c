/*
 * Which directories a watch watches. inotify(7) takes paths only, so each directory is opened, made the current one, and
 * watched as ".": nothing can be put in its place meanwhile.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_watch.h"

char *join_path(const char *path, const char *name) {
  char *joined = NULL;
  if (asprintf(&joined, "%s%s%s", path, path[0] == 0 || name[0] == 0 ? "" : "/", name) < 0) return NULL;
  return joined;
}

int open_top(const struct watch *watch) {
  if (watch->only != NULL) return dup(watch->holder);
  int fd = open_path(AT_FDCWD, watch->files->request->path, O_RDONLY | O_DIRECTORY);
  struct stat info;
  if (fd < 0) return fd;
  if (fstat(fd, &info) == 0 && info.st_dev == watch->top_device && info.st_ino == watch->top_inode) return fd;
  close(fd);
  return -ENOENT;
}

int open_below(const struct watch *watch, const char *path) {
  int top = open_top(watch);
  if (top < 0) return top;
  struct open_how how = {
      .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
      .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
  };
  int fd = (int)syscall(SYS_openat2, top, path[0] == 0 ? "." : path, &how, sizeof how);
  int result = fd < 0 ? -errno : fd;
  close(top);
  return result;
}

/* Numbers grow, so the list is in order. inotify_add_watch(2) gives a known number for a directory that is watched already. */
struct watched *find_watched(struct watch *watch, int number) {
  size_t low = 0, high = watch->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (watch->list[middle].number < number) low = middle + 1;
    else high = middle;
  }
  return low < watch->count && watch->list[low].number == number ? &watch->list[low] : NULL;
}

void forget_watched(struct watch *watch, struct watched *watched) {
  free(watched->path);
  size_t index = (size_t)(watched - watch->list);
  memmove(watched, watched + 1, (watch->count - index - 1) * sizeof *watched);
  watch->count--;
}

void unwatch_below(struct watch *watch, const char *path) {
  size_t length = strlen(path), kept = 0;
  for (size_t i = 0; i < watch->count; i++) {
    struct watched *watched = &watch->list[i];
    bool below = strncmp(watched->path, path, length) == 0 && (watched->path[length] == 0 || watched->path[length] == '/');
    if (below) {
      inotify_rm_watch(watch->inotify, watched->number);
      free(watched->path);
    } else {
      watch->list[kept++] = *watched;
    }
  }
  watch->count = kept;
}

static int remember(struct watch *watch, int number, const char *path) {
  struct watched *known = find_watched(watch, number);
  char *copy = strdup(path);
  if (copy == NULL) return -ENOMEM;
  if (known != NULL) {
    free(known->path);
    known->path = copy;
    return 0;
  }
  if (watch->count == watch->size) {
    size_t size = watch->size == 0 ? 64 : watch->size * 2;
    struct watched *larger = realloc(watch->list, size * sizeof *larger);
    if (larger == NULL) return free(copy), -ENOMEM;
    watch->list = larger;
    watch->size = size;
  }
  watch->list[watch->count++] = (struct watched){.number = number, .path = copy};
  return 0;
}

static int add_watch(struct watch *watch, int dir, const char *path) {
  if (watch->count >= WATCHES_MAX) return -ENOSPC;
  if (fchdir(dir) < 0) return -errno;
  int number = inotify_add_watch(watch->inotify, ".", WATCH_MASK | IN_ONLYDIR | IN_EXCL_UNLINK);
  int result = number < 0 ? -errno : remember(watch, number, path);
  /* The current directory is in use as well. */
  if (chdir("/") < 0) return -errno;
  return result;
}

bool was_scanned(const struct watch *watch, const char *path) {
  for (size_t i = 0; i < watch->scanned_count; i++) {
    if (strcmp(watch->scanned[i], path) == 0) return true;
  }
  return false;
}

void forget_scanned(struct watch *watch) {
  while (watch->scanned_count > 0) free(watch->scanned[--watch->scanned_count]);
}

static void report_new(struct watch *watch, const char *path) {
  add_event(watch, EVENT_CREATE, path);
  char *copy = watch->scanned_count < SCANNED_MAX ? strdup(path) : NULL;
  if (copy != NULL) watch->scanned[watch->scanned_count++] = copy;
}

/* What cannot be opened is not watched: as with a list, that is no reason not to watch the rest. */
static int scan_entry(struct watch *watch, int dir, const char *name, const char *path, bool report, int depth) {
  if (report) report_new(watch, path);
  int below = watch->recursive ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
  if (below < 0) return 0;
  int result = watch_directory(watch, below, path, report, depth + 1);
  return result == -ENOSPC || result == -ENOMEM ? result : 0;
}

static int scan(struct watch *watch, DIR *stream, const char *path, bool report, int depth) {
  const struct dirent *entry;
  while ((entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    bool directory = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
    if (!report && !directory) continue;
    if (client_has_gone(watch->files)) _exit(0);
    char *below = join_path(path, entry->d_name);
    if (below == NULL) return -ENOMEM;
    int result = scan_entry(watch, dirfd(stream), entry->d_name, below, report, depth);
    free(below);
    if (result < 0) return result;
  }
  return 0;
}

int watch_directory(struct watch *watch, int dir, const char *path, bool report, int depth) {
  int result = add_watch(watch, dir, path);
  if (result < 0 || (!watch->recursive && !report) || depth == TREE_DEPTH_MAX) {
    close(dir);
    return result;
  }
  DIR *stream = fdopendir(dir);
  if (stream == NULL) return -ENOMEM;
  result = scan(watch, stream, path, report, depth);
  closedir(stream);
  return result;
}
